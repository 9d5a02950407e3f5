"""Hosts on cables, a container on each, joined by the system under measurement; two hosts have a core each.

Of three in a line the middle one, which relays, has a core for itself.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from bench import machine, plan
from bench.plan import Way
from bench.systems import System
from bench.systems.base import cidr, number_of
from plait.errors import KernelLacks, PlaitError
from plait.host import firewall, netns, sysctl
from plait.host.firewall import Chain, Hook, Rule, Table
from plait.testing.lab import Container, Host, Lab, Node, wait_until

CONNECT_SECONDS = 20.0
SETTLE_SECONDS = 40.0
"""tinc tries 30 times, once a second, to find the MTU of a path."""
_PING_SECONDS = 0.02
# Acknowledgements and what daemons say to each other pass. At the switch, because there a packet is what travels on a
# wire that segments: the receiver's device merges them before any rule there sees them.
_LOSS = Rule("meta length > 200 numgen random mod 100 0 counter drop")
_LOSSES = Table("bridge", "bench", (Chain("wire", (_LOSS,), Hook("forward")),))


@dataclass(frozen=True, slots=True)
class Network:
    """Traffic goes from `client`, on the first host, to `server`, on the second, or by `relay` on the third."""

    name: str
    lab: Lab
    system: System
    client: Container
    server: Container
    relay: list[Host] = field(default_factory=list)

    @property
    def hosts(self) -> list[Host]:
        """All of them."""
        return [self.client.host, *self.relay, self.server.host]

    def namespaces(self) -> set[machine.NetnsId]:
        """Give the namespaces in which its programs run."""
        return namespaces([self.client, self.server, *self.hosts])

    def set_wire(self, wire: str) -> None:
        """Choose whether the underlay passes 64 KB packets whole."""
        self.lab.super_wire(wire == plan.SUPER)

    def processes(self) -> list[int]:
        """Give the process ids of the system on all hosts."""
        return [pid for host in self.hosts for pid in self.system.processes(host).values()]

    def pin(self) -> None:
        """Put packet reception on the hosts' cores; new devices need it anew."""
        for node in (*self.hosts, self.client, self.server):
            machine.receive_on(node, core_of(node))


@contextmanager
def connected(name: str, make: Callable[[], System], way: Way = Way.CABLE) -> Iterator[Network]:
    """Build it with everything launched, attached and reachable, until the block ends.

    With `Way.LOSSY` the switch between the hosts loses 1 long packet in 100 each way from then on.
    """
    with Lab() as lab, closing(make()) as system:
        network = _relayed(name, lab, system) if way is Way.RELAY else _joined(name, lab, system, way is Way.LOSSY)
        network.pin()
        wait_for_ping(network.client, network.server.ip)
        wait_until_settled(system)
        for host in network.hosts:
            without_netfilter(host)
        if way is Way.LOSSY:
            with lab.wire.entered():
                firewall.apply(_LOSSES)
        yield network


def _joined(name: str, lab: Lab, system: System, lossy: bool) -> Network:
    one, other = two_hosts(lab, switched=lossy)
    client = join(system, one, [], 1)
    server = join(system, other, [one], 2)
    return Network(name, lab, system, client, server)


def _relayed(name: str, lab: Lab, system: System) -> Network:
    """The relay comes first: the others know no other host."""
    one, middle, other = (lab.host(f"h{number}", on=[]) for number in (1, 2, 3))
    lab.cable(one, middle)
    lab.cable(middle, other)
    for host in (one, middle, other):
        without_netfilter(host)
    with machine.pinned(core_of(middle)):
        system.launch(middle, [])
    client = join(system, one, [middle], 1)
    server = join(system, other, [middle], 3)
    return Network(name, lab, system, client, server, [middle])


def two_hosts(lab: Lab, switched: bool = False) -> tuple[Host, Host]:
    """Make two hosts joined by a cable, or by a switch."""
    segments = [lab.switch()] if switched else []
    one, other = lab.host("h1", on=segments), lab.host("h2", on=segments)
    if not switched:
        lab.cable(one, other)
    for host in (one, other):
        without_netfilter(host)
    return one, other


def join(system: System, host: Host, peers: list[Host], number: int) -> Container:
    """Launch the system on a host and attach a new container there."""
    container = host.container(f"c{number}")
    with machine.pinned(core_of(host)):
        system.launch(host, peers)
        system.attach(host, container, cidr(number))
    return container


def core_of(node: Node) -> int:
    """Give the core of a host and its containers: host h1 has the first."""
    host = node.host if isinstance(node, Container) else node
    if not isinstance(host, Host):
        raise ValueError(f"{node.name} is neither a host nor on one, so it has no core")
    return machine.core_of(number_of(host) - 1)


def namespaces(nodes: list[Node]) -> set[machine.NetnsId]:
    """Give the identities of the nodes' namespaces."""
    return {netns.identity(node.path) for node in nodes}


def wait_for_ping(source: Container, address: str) -> None:
    """Ping until the first answer. Raise Unanswered."""
    wait_until(
        lambda: _pings(source, address), f"a first ping from {source.name} reaches {address}", timeout=CONNECT_SECONDS
    )


def wait_until_settled(system: System) -> None:
    """Wait, after a first ping. Raise Unanswered; LabError if it is not the system that it should be."""
    wait_until(system.is_settled, f"{type(system).__name__} knows its paths", SETTLE_SECONDS)


def without_netfilter(host: Host) -> None:
    """Keep bridged packets out of IP firewall rules, for all systems alike."""
    with host.entered():
        for family in ("arptables", "iptables", "ip6tables"):
            try:
                sysctl.write(f"net.bridge.bridge-nf-call-{family}", "0")
            except KernelLacks:  # br_netfilter is not loaded: nothing to keep out
                return


def _pings(source: Container, address: str) -> bool:
    try:
        return source.ping(address, count=1, timeout=_PING_SECONDS).ok
    except PlaitError:  # the interface is not there yet
        return False
