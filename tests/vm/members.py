"""A weaver with its fast datapath, and what both kinds of members say of a connection."""

import re
from pathlib import Path

from conformance.member import Member, Plait, address
from conformance.weaver import Weaver
from plait.host.netlink import Netlink
from plait.testing.lab import CommandFailed, Container, Unanswered
from vm.checks import wait

_START_SECONDS = 90.0
_LATE = re.compile(r"the node \(pid (?P<pid>\d+)\) runs but is not ready")


class SlowPlait(Plait):
    """A node of plait where everything is slow: its launch may lose patience, and so may the node itself."""

    def start(self, *peers: Member) -> None:
        """See Member."""
        for is_last in (False, False, True):
            try:
                return super().start(*peers)
            except CommandFailed as error:
                late = _LATE.search(str(error))
                if is_last or late is None:
                    raise
            if self._becomes_ready(Path("/proc", late["pid"])):
                return None

    def _becomes_ready(self, process: Path) -> bool:
        """Whether it answers in the end; False if it gave up before."""
        wait(lambda: self.is_ready() or not process.exists(), f"{self} answers or ends", _START_SECONDS)
        return self.is_ready()


class FastWeaver(Weaver):
    """A weaver as it is started by default: its bridge, and behind that a datapath of Open vSwitch."""

    datapath = ("--datapath", "datapath")
    patience = _START_SECONDS

    def attach(self, number: int) -> Container:
        """See Member. Checksums are the kernel's, as Weave leaves them to it with this datapath."""
        container = self.host.container(f"c{number}")
        outer = f"vc{number}"
        with Netlink(self.host.path) as netlink:
            bridge = netlink.link("weave")
            assert bridge is not None, f"{self} has no bridge"
            netlink.create_veth(outer, "ethwe", bridge.mtu, container.path)
            netlink.set_link(outer, master="weave", up=True)
        with Netlink(container.path) as netlink:
            netlink.add_address("ethwe", address(number))
            netlink.set_link("ethwe", up=True)
        return container


def overlay(member: Member, other: Member) -> str:
    """What carries its frames to another: "fastdp", "sleeve", or why nothing does."""
    try:
        connection = member.connection(other)
    except OSError:
        return "does not answer in time"
    if connection is None:
        return "has no connection"
    state = str(connection["State"])
    return str(connection["Attrs"]["name"]) if state == "established" else f"is {state}"


def wait_for_overlay(name: str, one: Member, other: Member, seconds: float) -> None:
    """Wait until both use an overlay towards each other."""
    seen: dict[Member, str] = {}

    def is_used() -> bool:
        seen.update({one: overlay(one, other), other: overlay(other, one)})
        return set(seen.values()) == {name}

    try:
        wait(is_used, "", seconds)
    except Unanswered as error:
        states = ", ".join(f"{member} {state}" for member, state in seen.items())
        raise Unanswered(f"not within {seconds:g} s by {name}: {states}") from error
