"""A few allocators on a bad network, one seed: what befalls them, and the two laws that must hold after every event.

No address has two owners, and none stays without one. What the protocol cannot survive is not done to it: a disk is
lost, or a peer taken over, only when all others know what it owned (see `settle`), and never before there is a ring.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from functools import partial

from plait.ipam.actions import Action, Broadcast, Persist, Refuse, Reply, SendUnicast
from plait.ipam.address import Cidr, Range, glued, text
from plait.ipam.allocator import Allocator
from plait.ipam.paxos import Voter
from plait.ipam.records import Snapshot
from plait.ipam.settings import TICK, Settings
from plait.mesh.name import PeerName
from plait.testing.sim.clock import Clock

GOSSIP_INTERVAL = 30.0


class Violation(AssertionError):
    """A law was broken; says the seed, the time and the addresses."""


class Host:
    """A machine: its disk survives its allocator, unless it is lost."""

    def __init__(self, number: int) -> None:
        self.name = PeerName(0x020000000000 + number)
        self.allocator: Allocator | None = None
        self.disk: Snapshot | None = None
        self.life = 0
        self.group = 0
        self.idents: list[str] = []

    def owned(self) -> list[Range]:
        """What this host may hand out now, or will when it is up again."""
        if self.allocator is not None:
            return self.allocator.space.owned()
        if self.disk is None:
            return []
        return glued(ring_ranges(self.disk, self.name))

    def held(self) -> Iterator[int]:
        """The addresses that its containers use."""
        holdings = self.disk.holdings.values() if self.disk else ()
        if self.allocator is not None:
            yield from self.allocator.records.addresses()
        else:
            yield from (cidr.address for holding in holdings for cidr in holding.cidrs)


def ring_ranges(disk: Snapshot, peer: PeerName) -> list[Range]:
    """What a stored ring says that a peer owns."""
    entries, limits = disk.ring.entries, disk.ring.limits
    ranges = []
    for entry, after in zip(entries, [*entries[1:], *entries[:1]], strict=True):
        if entry.peer == peer and after.token > entry.token:
            ranges.append(Range(entry.token, after.token))
        elif entry.peer == peer:
            ranges += [Range(entry.token, limits.end), Range(limits.start, after.token)]
    return [piece for piece in ranges if piece.size > 0]


class World:
    """Hosts, the network between them, and an operator without luck."""

    def __init__(self, seed: int, count: int, universe: str = "10.9.0.0/25") -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.clock = Clock()
        self.universe = Cidr.parse_subnet(universe)
        self.hosts = [Host(number + 1) for number in range(count)]
        self.loss = self.duplication = 0.0
        self.delay = (0.001, 0.05)
        self.refusals: list[str] = []
        self.answers = 0
        self.spoil: Callable[[Host, list[Action]], list[Action]] = lambda host, actions: actions
        self._requests = itertools.count(1)
        self._quorum = count // 2 + 1

    # What the mesh tells an allocator

    def peers_of(self, host: Host) -> "Reach":
        return Reach(self, host)

    def reaches(self, one: Host, other: Host) -> bool:
        return one.allocator is not None and other.allocator is not None and one.group == other.group

    def host(self, name: PeerName) -> Host | None:
        return next((host for host in self.hosts if host.name == name), None)

    @property
    def running(self) -> list[Host]:
        return [host for host in self.hosts if host.allocator is not None]

    # Lives

    def start(self, host: Host) -> None:
        """Begin a life; with what is on the disk."""
        host.life += 1
        settings = Settings(
            Voter(host.name, host.life * 1000 + self.rng.randrange(1000)), str(host.name), self.universe
        )
        rng = random.Random(self.rng.random())
        host.allocator = Allocator(settings, self.peers_of(host), rng)
        self.equip(host)
        self.do(host, host.allocator.start(self.clock.now, host.disk))
        life = host.life
        self.clock.call_later(self.rng.uniform(0, TICK), lambda: self._tick(host, life))
        self.clock.call_later(self.rng.uniform(0, GOSSIP_INTERVAL), lambda: self._gossip(host, life))

    def equip(self, host: Host) -> None:
        """Give a new allocator what it is to have besides."""

    def crash(self, host: Host) -> None:
        """End a life without a word; containers and disk stay."""
        host.allocator = None

    def lose_disk(self, host: Host) -> None:
        """The machine burns down, with its containers."""
        host.allocator, host.disk, host.idents = None, None, []

    def leave(self, host: Host) -> None:
        """Reset: the ranges go to another peer, the containers end."""
        assert host.allocator is not None
        self.do(host, host.allocator.shutdown(self.clock.now))
        self.lose_disk(host)

    def take_over(self, victim: Host, by: Host) -> None:
        """The operator gives a lost peer's ranges to another."""
        assert by.allocator is not None
        self.do(by, by.allocator.takeover(self.clock.now, next(self._requests), str(victim.name)))

    # Containers

    def allocate(self, host: Host) -> None:
        assert host.allocator is not None
        ident = f"c{next(self._requests)}"
        host.idents.append(ident)
        subnet = self.rng.choice([self.universe, Cidr(self.universe.address, self.universe.prefix_length + 1)])
        self.do(host, host.allocator.allocate(self.clock.now, next(self._requests), ident, subnet))

    def claim(self, host: Host) -> None:
        assert host.allocator is not None
        ident = f"k{next(self._requests)}"
        host.idents.append(ident)
        cidr = Cidr(self.rng.randrange(*self.universe.range), self.universe.prefix_length)
        self.do(host, host.allocator.claim(self.clock.now, next(self._requests), ident, cidr))

    def end_container(self, host: Host) -> None:
        assert host.allocator is not None
        if host.idents:
            ident = host.idents.pop(self.rng.randrange(len(host.idents)))
            died, gone = host.allocator.container_died, host.allocator.container_destroyed
            self.do(host, died(self.clock.now, ident))
            if host.allocator is not None and self.rng.random() < 0.7:
                self.do(host, gone(self.clock.now, ident))

    # The network

    def do(self, host: Host, actions: list[Action]) -> None:
        """Do what an allocator asks, then check the laws."""
        for action in self.spoil(host, actions):
            match action:
                case Persist(snapshot):
                    host.disk = snapshot
                case SendUnicast(peer, payload):
                    receiver = self.host(peer)
                    if receiver is not None:
                        self._send(host, receiver, partial(self._unicast, host, payload))
                case Broadcast(payload):
                    for other in self.hosts:
                        if other is not host:
                            self._send(host, other, partial(self._broadcast, host, payload))
                case Refuse(error):
                    self.refusals.append(str(error))
                case Reply():
                    self.answers += 1
        self.check()

    def _send(self, sender: Host, receiver: Host, deliver: Callable[[Host], None]) -> None:
        group = sender.group

        def arrive() -> None:
            if receiver.allocator is not None and receiver.group == group:
                deliver(receiver)

        for _ in range(1 + (self.rng.random() < self.duplication)):
            if self.rng.random() >= self.loss:
                self.clock.call_later(self.rng.uniform(*self.delay), arrive)

    def _unicast(self, sender: Host, payload: bytes, to: Host) -> None:
        assert to.allocator is not None
        self.do(to, to.allocator.receive_unicast(self.clock.now, sender.name, payload))

    def _broadcast(self, sender: Host, payload: bytes, to: Host) -> None:
        assert to.allocator is not None
        self.do(to, to.allocator.receive_broadcast(self.clock.now, sender.name, payload))

    def _tick(self, host: Host, life: int) -> None:
        if host.allocator is not None and host.life == life:
            self.do(host, host.allocator.tick(self.clock.now))
            self.clock.call_later(TICK, lambda: self._tick(host, life))

    def _gossip(self, host: Host, life: int) -> None:
        if host.allocator is None or host.life != life:
            return
        payload = host.allocator.gossip(self.clock.now)
        others = [other for other in self.hosts if other is not host and self.reaches(host, other)]
        for other in self.rng.sample(others, min(2, len(others))):
            self._send(host, other, partial(self._hear, payload))
        self.clock.call_later(GOSSIP_INTERVAL, lambda: self._gossip(host, life))

    def _hear(self, payload: bytes, to: Host) -> None:
        assert to.allocator is not None
        self.do(to, to.allocator.receive_gossip(self.clock.now, payload))

    # Luck

    def run_for(self, seconds: float) -> None:
        self.clock.run_until(self.clock.now + seconds)

    def misfortune(self, seconds: float) -> None:
        """Lose, repeat and reorder messages, part the network, crash and restart, and use addresses meanwhile."""
        self.loss, self.duplication, self.delay = 0.25, 0.25, (0.001, 3.0)
        end = self.clock.now + seconds
        while self.clock.now < end:
            host = self.rng.choice(self.hosts)
            luck = self.rng.random()
            if host.allocator is None:
                if luck < 0.3 and host.disk is not None:
                    self.start(host)
            elif luck < 0.35:
                self.allocate(host)
            elif luck < 0.5:
                self.claim(host)
            elif luck < 0.8:
                self.end_container(host)
            elif luck < 0.88 and host.disk is not None and host.disk.ring.entries:
                self.crash(host)
            elif luck < 0.95:
                for other in self.hosts:
                    other.group = self.rng.randrange(2) if luck < 0.91 else 0
            self.run_for(self.rng.expovariate(1.0))

    def settle(self) -> None:
        """Let the network be whole and quiet, all hosts with a disk up, and wait until everybody knows everything."""
        self.loss = self.duplication = 0.0
        self.delay = (0.001, 0.05)
        for host in self.hosts:
            host.group = 0
            if host.allocator is None and host.disk is not None:
                self.start(host)
        for _ in range(40):
            self.run_for(GOSSIP_INTERVAL)
            if self.is_agreed():
                return
        raise Violation(f"{self.where()}: the rings do not become equal; last refusal: {self.refusals[-1:]}")

    def is_agreed(self) -> bool:
        owners = {tuple(entry[:2] for entry in host.allocator.ring.entries) for host in self.running if host.allocator}
        return len(owners) == 1

    # Laws

    def where(self) -> str:
        return f"seed {self.seed}, t={self.clock.now:.3f}"

    def check(self) -> None:
        """No address has two owners, nor two users."""
        self.check_owners()
        self.check_users()

    def owned(self, host: Host) -> list[Range]:
        """What a host may hand out, now or after a start."""
        return host.owned()

    def check_owners(self) -> None:
        pieces = sorted((piece, host.name) for host in self.hosts for piece in self.owned(host))
        for (piece, owner), (following, other) in itertools.pairwise(pieces):
            if following.start < piece.end:
                raise Violation(f"{self.where()}: {owner} owns {piece}, and {other} owns {following}")

    def check_users(self) -> None:
        users: dict[int, PeerName] = {}
        for host in self.hosts:
            for address in host.held():
                if users.setdefault(address, host.name) != host.name:
                    raise Violation(f"{self.where()}: {users[address]} and {host.name} both use {text(address)}")

    def check_nothing_lost(self) -> None:
        """Together the running hosts own the whole range, and what they hand out is theirs."""
        owned = glued(piece for host in self.running for piece in host.owned())
        if owned != [self.universe.range]:
            raise Violation(f"{self.where()}: only {', '.join(map(str, owned))} have owners")
        for host in self.running:
            assert host.allocator is not None
            if set(host.held()) != {a for piece in host.allocator.space.ours for a in range(*piece)}:
                raise Violation(f"{self.where()}: {host.name} uses other addresses than it has handed out")


class Reach:
    """The mesh as one host sees it."""

    def __init__(self, world: World, host: Host) -> None:
        self._world = world
        self._host = host

    def is_known(self, peer: PeerName) -> bool:
        other = self._world.host(peer)
        return other is not None and (other is self._host or self._world.reaches(self._host, other))

    def why_unreachable(self, peer: PeerName) -> str | None:
        return None if self.is_known(peer) else f"unknown relay destination: {peer}"

    def quorum(self) -> int:
        return self._world._quorum
