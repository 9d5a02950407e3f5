"""Real routers that talk in memory: connections between them are queues, time is a number."""

import itertools
import random
from collections.abc import Iterable, Mapping

from plait.mesh import events
from plait.mesh.features import RemoteFeatures
from plait.mesh.gossip import GossipData
from plait.mesh.links import OpenedConnection
from plait.mesh.maker import ConnectionMaker
from plait.mesh.name import PeerName
from plait.mesh.records import PeerSummary
from plait.mesh.router import Router

PORT = 6783
SLEEVE = ("sleeve",)


def features(
    name: int,
    *,
    nickname: str = "",
    uid: int = 0,
    overlays: tuple[str, ...] | None = SLEEVE,
    extra: Mapping[str, str] | None = None,
) -> RemoteFeatures:
    """What a peer announces of itself."""
    uid = uid or 1000 + name
    return RemoteFeatures(PeerName(name), nickname or f"n{name}", uid, 0, name, False, overlays, extra or {})


def opened(
    remote: RemoteFeatures,
    *,
    number: int = 1,
    address: str = "192.0.2.9:6783",
    uid: int = 1,
    outbound: bool = True,
    accepts_unknown: bool = True,
) -> OpenedConnection:
    """A connection after its handshake."""
    return OpenedConnection(number, address, "192.0.2.1", outbound, accepts_unknown, uid, remote, None)


class Notes:
    """A channel whose news are words; remembers what came."""

    def __init__(self) -> None:
        self.received: list[tuple[str, bytes]] = []

    def everything(self) -> GossipData | None:
        return None

    def receive(self, payload: bytes, now: float) -> GossipData | None:
        self.received.append(("gossip", payload))
        return None

    def receive_broadcast(self, source: PeerName, payload: bytes, now: float) -> GossipData | None:
        self.received.append((f"broadcast of {int(source)}", payload))
        return Words(payload)

    def receive_unicast(self, source: PeerName, payload: bytes, now: float) -> None:
        self.received.append((f"unicast of {int(source)}", payload))


class Words:
    """News of Notes."""

    def __init__(self, *payloads: bytes) -> None:
        self._payloads = payloads

    def merged(self, newer: GossipData) -> GossipData:
        return Words(*self._payloads, *newer.encode())

    def encode(self) -> Iterable[bytes]:
        return self._payloads


class Member:
    """One router and what it said to its shell."""

    def __init__(
        self, number: int, *, limit: int = 0, discovery: bool = False, overlays: tuple[str, ...] = SLEEVE
    ) -> None:
        self.name = PeerName(number)
        self.address = f"192.0.2.{number}:{PORT}"
        rng = random.Random(number)
        maker = ConnectionMaker(
            rng=rng,
            port=PORT,
            our_name=self.name,
            our_addresses=frozenset({self.address}),
            discovery=discovery,
            connection_limit=limit,
        )
        self.overlays = overlays
        ourself = PeerSummary(self.name, f"n{number}", 1000 + number, 0, number)
        self.router = Router(ourself, maker, limit, overlays, rng, 0.0)
        self.notes = Notes()
        self.router.register("notes", self.notes)
        self.events: list[events.Event] = []

    def take(self, *kinds: type[events.Event]) -> list[events.Event]:
        """Give and forget what it said, of these kinds only if any are named."""
        self.events += self.router.take_events()
        taken = [event for event in self.events if isinstance(event, kinds or (object,))]
        self.events = [event for event in self.events if event not in taken]
        return taken

    @property
    def own_features(self) -> RemoteFeatures:
        """As a peer reads them."""
        return features(int(self.name), overlays=self.overlays)


class World:
    """Members, the connections between them, and the time."""

    def __init__(self, *members: Member) -> None:
        self.members = members
        self.now = 100.0
        self._numbers = itertools.count(1)
        self._uids = itertools.count(50)
        self._ends: dict[tuple[Member, int], tuple[Member, int]] = {}
        for member in members:
            member.router.handle_timer(self.now)

    def connect(self, one: Member, other: Member, *, uid: int | None = None, carries: bool = True) -> tuple[int, int]:
        """Let one dial the other; their numbers for the connection. `carries`: frames pass at once."""
        here, there = next(self._numbers), next(self._numbers)
        uid = next(self._uids) if uid is None else uid
        self._ends[one, here], self._ends[other, there] = (other, there), (one, here)
        caller = f"{one.address.rpartition(':')[0]}:{40000 + here}"
        other.router.connection_opened(
            opened(one.own_features, number=there, address=caller, uid=uid, outbound=False), self.now
        )
        one.router.connection_opened(opened(other.own_features, number=here, address=other.address, uid=uid), self.now)
        if carries:
            for member, number in ((one, here), (other, there)):
                member.router.connection_established(number, self.now)
        self.settle()
        return here, there

    def settle(self) -> None:
        """Carry messages until nobody has any."""
        while any(self._carry(member, number) for member, number in list(self._ends)):
            pass

    def run(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        end = self.now + seconds
        while True:
            due = [(when, m) for m in self.members if (when := m.router.next_deadline()) is not None and when <= end]
            if not due:
                break
            when, member = min(due, key=lambda entry: entry[0])
            self.now = max(self.now, when)
            member.router.handle_timer(self.now)
            self.settle()
        self.now = end

    def close(self, member: Member, number: int) -> None:
        """The far end sees a reset."""
        end = self._ends.pop((member, number), None)
        if end is not None and self._ends.pop(end, None) is not None:
            end[0].router.connection_lost(end[1], "connection reset by peer", self.now)

    def _carry(self, member: Member, number: int) -> bool:
        for event in member.router.take_events():
            member.events.append(event)
            if isinstance(event, events.CloseConnection):
                self.close(member, event.connection)
        message = member.router.next_message(number)
        if message is None:
            return False
        target, target_number = self._ends[member, number]
        target.router.message_received(target_number, message, self.now)
        return True
