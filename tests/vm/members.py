"""A weaver with its fast datapath, and what both kinds of members say of a connection."""

from conformance.member import Member, Plait, address
from conformance.weaver import Weaver
from plait.host.netlink import Netlink
from plait.testing.lab import CommandFailed, Container, Unanswered
from vm.checks import wait

_START_SECONDS = 90.0


class SlowPlait(Plait):
    """A node of plait where everything is slow: its launch may lose patience before it is ready."""

    def start(self, *peers: Member) -> None:
        """See Member."""
        try:
            super().start(*peers)
        except CommandFailed as error:
            if "is not ready after" not in str(error):
                raise
            wait(self.is_ready, f"{self} answers", _START_SECONDS)


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
