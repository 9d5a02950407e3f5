"""One namespace of a lab, and what every kind of it can do: run programs, ping, send, capture."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

from plait.host import netns
from plait.host.netlink import Netlink
from plait.testing.lab import forgery, probes, processes
from plait.testing.lab.errors import LabError
from plait.testing.lab.probes import Capture, PingResult, Transfer, UdpResult
from plait.testing.lab.processes import Completed, Process
from plait.testing.lab.topology import Port
from plait.testing.lab.waiting import wait_until

_IPERF3_PORT = 5201


@dataclass(eq=False)
class Node:
    """A namespace of a lab.

    `name` is its name within the lab, `netns` that for `ip netns`, `directory` for its files, `ports` its ends on
    switches and cables.
    """

    name: str
    netns: str
    directory: Path
    ports: list[Port] = field(default_factory=list)
    _processes: list[Process] = field(default_factory=list, repr=False)

    @property
    def path(self) -> Path:
        """Where the namespace can be opened."""
        return netns.NAMED / self.netns

    @property
    def ip(self) -> str:
        """Its first IPv4 address, loopback's excepted, as it is now. Raise LabError if it has none."""
        found = [cidr for cidr in self.addresses() if not cidr.is_loopback]
        if not found:
            raise LabError(f"{self.name} has no address")
        return str(found[0].ip)

    def addresses(self, device: str | None = None) -> list[IPv4Interface]:
        """Its IPv4 addresses, those of one device if one is named."""
        with Netlink(self.path) as netlink:
            return [each.cidr for each in netlink.addresses(device) if isinstance(each.cidr, IPv4Interface)]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Run the calling thread inside; sockets opened there stay there."""
        with netns.entered(self.path):
            yield

    def environment(self) -> dict[str, str]:
        """The environment of its programs: ours without Weave's and plait's variables."""
        return {key: value for key, value in os.environ.items() if not key.startswith(("WEAVE_", "PLAIT_"))}

    def run(
        self,
        argv: Sequence[str],
        check: bool = True,
        input: str | None = None,
        timeout: float = 60.0,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run a program inside to its end. Raise CommandFailed if its status is not 0 (with `check`), Unanswered."""
        environment = self.environment() | dict(env or {})
        return processes.run(self.netns, argv, environment, check=check, text=input, timeout=timeout)

    def spawn(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Process:
        """Start a program inside; it is stopped with the lab at the latest."""
        output = self.directory / f"{Path(argv[0]).name}-{len(self._processes)}.log"
        process = Process(self.netns, argv, self.environment() | dict(env or {}), output)
        self._processes.append(process)
        return process

    def reap(self) -> None:
        """Kill what `spawn` started here and collect it."""
        for process in self._processes:
            process.kill()

    def ping(
        self,
        to: "Node | str",
        count: int = 3,
        interval: float = 0.02,
        timeout: float = 1.0,
        size: int = 56,
        dont_fragment: bool = False,
    ) -> PingResult:
        """Send echo requests of `size` data bytes `interval` seconds apart; wait `timeout` seconds after the last."""
        return probes.ping(self.path, _address(to), count, interval, timeout, size, dont_fragment)

    def transfer(self, to: "Node", size: int = 10_000_000, timeout: float = 30.0) -> Transfer:
        """Send bytes by TCP and check them. Raise LabError; Unanswered if nothing moves for `timeout` seconds."""
        return probes.transfer(self.path, to.path, to.ip, size, timeout)

    def send_udp(
        self,
        to: "Node",
        count: int = 100,
        size: int = 100,
        port: int = 0,
        interval: float = 0.0005,
        dont_fragment: bool = False,
    ) -> UdpResult:
        """Send datagrams of `size` bytes one way, to any free port if it is 0, and note what arrives.

        `dont_fragment` sets DF whatever the kernel has heard of path MTUs.
        """
        return probes.udp(self.path, to.path, to.ip, port, count, size, interval, dont_fragment)

    def forge_too_big(
        self, victim: "Node", far: "Node | str", mtu: int, port: int = 6783, far_port: int = 6783
    ) -> None:
        """Tell a node the lie that its UDP datagrams from `port` to `far_port` of another exceed this MTU on the way.

        It is an ICMP "fragmentation needed", from our own address, as an attacker off the path can send it.
        """
        forgery.send_too_big(self.path, (victim.ip, port), (_address(far), far_port), mtu)

    def capture(self, device: str) -> Capture:
        """Capture frames on a device, as a context manager; `frames()` gives them."""
        return Capture(self.path, device)

    def iperf3(self, to: "Node", *options: str, timeout: float = 60.0) -> dict[str, Any]:
        """Run the program iperf3 from here to there and give its report. Raise CommandFailed, LabError."""
        address = to.ip
        server = to.spawn(["iperf3", "--server", "--one-off", "--forceflush", "--port", str(_IPERF3_PORT)])
        try:
            wait_until(lambda: "listening" in server.output, f"iperf3 listens on {to.name}")
            words = ["iperf3", "--client", address, "--port", str(_IPERF3_PORT), "--json", *options]
            report: dict[str, Any] = json.loads(self.run(words, timeout=timeout).stdout)
            if "error" in report:
                raise LabError(f"iperf3 from {self.name} to {to.name}: {report['error']}")
            return report
        finally:
            server.stop()


def _address(to: Node | str) -> str:
    return to if isinstance(to, str) else to.ip
