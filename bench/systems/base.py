"""What every system under measurement can do."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from plait.host.netlink import Netlink
from plait.testing.lab import Container, Host


class System(ABC):
    """A way to join containers of several hosts. An object serves one lab; hosts are launched one after the other."""

    @abstractmethod
    def launch(self, host: Host, peers: Sequence[Host]) -> None:
        """Start it on a host, towards hosts where it runs, and return when containers can be attached."""

    @abstractmethod
    def attach(self, host: Host, container: Container, cidr: str) -> None:
        """Give a container its interface and address."""

    def processes(self, host: Host) -> Mapping[str, int]:
        """Give the process ids of its node on a host, by what they are; empty if it works without any."""
        return {}


def connect_to_bridge(host: Host, container: Container, cidr: str, bridge: str, mtu: int) -> None:
    """Join a container to a bridge by a veth pair, as a script would."""
    outer = f"v-{container.name}"
    with Netlink(host.path) as netlink:
        netlink.create_veth(outer, "ethwe", mtu, container.path)
        netlink.set_link(outer, master=bridge, up=True)
    with Netlink(container.path) as netlink:
        netlink.add_address("ethwe", cidr)
        netlink.set_link("ethwe", up=True)
