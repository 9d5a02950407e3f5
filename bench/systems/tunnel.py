"""What VPNs have in common that bring a layer-3 device of their own: containers are routed to it by their host."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Interface

from bench.systems.base import System, cidr, connect_by_route, forward, number_of
from plait.host.netlink import Netlink
from plait.testing.lab import Container, Host, LabError, Process, wait_until

_START_SECONDS = 10.0


class Tunnel(System):
    """One daemon and one device per host. Containers get the device's MTU, which is the program's default."""

    device: str

    def __init__(self) -> None:
        self.hosts: list[Host] = []
        self.running: dict[Host, Process] = {}

    @abstractmethod
    def start(self, host: Host, peers: Sequence[Host]) -> Process:
        """Make keys and configuration, and start the daemon, which makes the device."""

    @abstractmethod
    def introduce(self, host: Host, other: Host) -> None:
        """Tell a host whose daemon runs of another, and send there what is for its container."""

    def launch(self, host: Host, peers: Sequence[Host]) -> None:
        """Start the daemon; when its device is there, make all hosts known to each other."""
        forward(host)
        process = self.running[host] = self.start(host, peers)
        wait_until(lambda: self._lives(host, process), f"{self.device} appears on {host.name}", _START_SECONDS)
        with Netlink(host.path) as netlink:
            netlink.set_link(self.device, up=True)
        for other in self.hosts:
            self.introduce(host, other)
            self.introduce(other, host)
        self.hosts.append(host)

    def attach(self, host: Host, container: Container, cidr: str) -> None:
        """Join the container to its host."""
        with Netlink(host.path) as netlink:
            link = netlink.link(self.device)
        if link is None:
            raise LabError(f"{self.device} is gone from {host.name}:\n{self.running[host].output[-2000:]}")
        connect_by_route(host, container, cidr, link.mtu)

    def is_ready(self, host: Host) -> bool:
        """Say whether the device is there, as it is going to be."""
        with Netlink(host.path) as netlink:
            return netlink.link(self.device) is not None

    def processes(self, host: Host) -> Mapping[str, int]:
        """Give the daemon."""
        return {"daemon": self.running[host].pid}

    def route(self, host: Host, other: Host) -> None:
        """Send what is for another host's container into the device."""
        with Netlink(host.path) as netlink:
            netlink.add_route(home(other), self.device)

    def _lives(self, host: Host, process: Process) -> bool:
        if not process.is_running:
            raise LabError(f"{process.argv[0]} ended on {host.name}:\n{process.output[-2000:]}")
        return self.is_ready(host)


def home(host: Host) -> str:
    """Give the subnet of a host's containers: the address of its only one."""
    return f"{IPv4Interface(cidr(number_of(host))).ip}/32"
