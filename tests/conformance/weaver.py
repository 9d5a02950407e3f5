"""A real Weave router as a process on a host of a lab: started, used, stopped, watched for panics. Needs its binary."""

import os
import re
from collections.abc import Sequence
from typing import ClassVar

from conformance.member import Member, address, address6
from plait.host import ethtool, sysctl
from plait.host.netlink import Netlink
from plait.testing.lab import Container, Host, Process, wait_until

VARIABLE = "PLAIT_WEAVER"
"""The environment variable that names the binary."""

_PANIC = re.compile(r"^(panic:|fatal error:|SIG[A-Z]+: )|http: panic serving", re.MULTILINE)


# A weaver that gives addresses looks for those of all processes, from the namespace of the first process on. That one
# may be closed to us, and its network is not the lab's; the weaver itself stands in for it.
_AS_FIRST_PROCESS = (
    *("unshare", "--mount", "sh", "-c"),
    'mount --make-rprivate / && mount --bind "/proc/$$" /proc/1 && exec "$0" "$@"',
)


class Weaver(Member):
    """A weaver without fast datapath, automatic addresses (unless `extra` has a range) and Docker, in the network
    namespace of its host.

    Never ask it for /metrics: without automatic addresses that ends it.
    """

    kind = "weaver"
    datapath: ClassVar[tuple[str, ...]] = ("--no-fastdp",)
    """Its options for a fast datapath."""
    patience: ClassVar[float] = 10.0
    """Seconds in which it must be ready."""

    def __init__(self, host: Host, password: str | None = None, extra: Sequence[str] = (), dns: bool = False) -> None:
        super().__init__(host, password, extra)
        self._dns = dns
        self._lives: list[Process] = []
        self._is_ended = False

    def start(self, *peers: Member) -> None:
        """See Member."""
        # A directory of its own for each life: else it would resume with the peers of the last one.
        directory = self.host.directory / f"weaver-{len(self._lives)}"
        directory.mkdir()
        options = [
            *(*self.datapath, "--port", "6783", "--name", self.name, "--nickname", self.nickname),
            *("--weave-bridge", "weave", "--ipalloc-range", "", "--docker-api=", "--db-prefix", f"{directory}/weave"),
            *("--http-addr", "127.0.0.1:6784", "--status-addr", "127.0.0.1:6782"),
            *(("--dns-listen-address", f"{self.host.ip}:53") if self._dns else ("--no-dns",)),
            *(("--password", self.password) if self.password else ()),
            *self.extra,
        ]
        argv = ["env", "-C", str(directory), os.environ[VARIABLE], *options, *(peer.host.ip for peer in peers)]
        if "--ipalloc-range" in self.extra:
            argv = [*_AS_FIRST_PROCESS, *argv]
        self._lives.append(self.host.spawn(argv, env={"CHECKPOINT_DISABLE": "1"}))
        self._is_ended = False
        wait_until(lambda: self.is_ready() or not self._lives[-1].is_running, f"{self} answers", self.patience)
        self.check()

    def stop(self) -> None:
        """See Member."""
        self.check()
        self._is_ended = True
        assert self._lives[-1].stop() == 0, self.log

    def kill(self) -> None:
        """See Member."""
        self.check()
        self._is_ended = True
        self._lives[-1].kill()

    def check(self) -> None:
        """See Member."""
        assert not _PANIC.search(self.log), self.log
        assert not self._lives or self._is_ended or self._lives[-1].is_running, self.log

    def attach(self, number: int) -> Container:
        """See Member: what weave's attach does, without Docker."""
        container = self.host.container(f"c{number}")
        outer = f"vc{number}"
        with Netlink(self.host.path) as netlink:
            bridge = netlink.link("weave")
            assert bridge is not None, f"{self} has no bridge"
            netlink.create_veth(outer, "ethwe", bridge.mtu, container.path)
            netlink.set_link(outer, master="weave", up=True)
        with container.entered():
            # Its capture does not know unfinished checksums.
            ethtool.set_tx_checksum("ethwe", False)
            sysctl.write("net/ipv6/conf/ethwe/accept_dad", "0")
        with Netlink(container.path) as netlink:
            netlink.add_address("ethwe", address(number))
            netlink.add_address("ethwe", address6(number))
            netlink.set_link("ethwe", up=True)
            netlink.add_route("224.0.0.0/4", "ethwe", scope="link")
        return container

    @property
    def log(self) -> str:
        """See Member."""
        return "\n".join(life.output for life in self._lives)
