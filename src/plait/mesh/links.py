"""The connections of this node that are part of the mesh: at most one per peer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from plait.errors import PlaitError
from plait.mesh.addresses import ip_of
from plait.mesh.events import ConnectionId
from plait.mesh.features import RemoteFeatures
from plait.mesh.gossip import Outbox
from plait.mesh.name import PeerName


@dataclass(frozen=True, slots=True)
class OpenedConnection:
    """A TCP connection whose handshake is over.

    `address` is the remote end, `accepts_unknown` as in DialPeer; `session_key` encrypts the overlays (None: in clear).
    """

    id: ConnectionId
    address: str
    local_ip: str
    outbound: bool
    accepts_unknown: bool
    uid: int
    features: RemoteFeatures
    session_key: bytes | None


@dataclass(slots=True)
class Link:
    """A connection in the mesh. `established_at` is set once frames pass both ways; `extra`: plait's own features."""

    id: ConnectionId
    peer: PeerName
    address: str
    local_ip: str
    outbound: bool
    uid: int
    overlays: tuple[str, ...] | None
    extra: Mapping[str, str]
    session_key: bytes | None
    outbox: Outbox
    added_at: float
    established_at: float | None = None


class LinkRefused(PlaitError):
    """A new connection that may not join. `is_final`: dialling again cannot help. `ends_also`: an older one to end.

    `is_fault`: an operator should act on it; others are part of a mesh's life.
    """

    def __init__(
        self,
        sentence: str,
        *,
        is_final: bool = False,
        is_fault: bool = False,
        is_ourself: bool = False,
        ends_also: Link | None = None,
    ) -> None:
        super().__init__(sentence)
        self.is_ourself = is_ourself
        self.is_final = is_final
        self.is_fault = is_fault
        self.ends_also = ends_also


class Links:
    """All connections in the mesh, by id and by peer, with the rules for adding one."""

    def __init__(self, our_name: PeerName, limit: int, overlays: frozenset[str]) -> None:
        self._our_name = our_name
        self._limit = limit
        self._overlays = overlays
        self._by_id: dict[ConnectionId, Link] = {}
        self._by_peer: dict[PeerName, Link] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Link]:
        return iter(self._by_id.values())

    def get(self, connection: ConnectionId) -> Link | None:
        """Give the link with this id."""
        return self._by_id.get(connection)

    def to(self, peer: PeerName) -> Link | None:
        """Give the link to this peer."""
        return self._by_peer.get(peer)

    @property
    def is_full(self) -> bool:
        """True if the limit (0 = none) is reached."""
        return bool(self._limit) and len(self._by_id) >= self._limit

    def check(self, opened: OpenedConnection, *, is_known: bool, our_uid: int) -> None:
        """Raise LinkRefused unless the remote peer may be a neighbour of ours at all."""
        features = opened.features
        if features.name == self._our_name:
            if features.uid == our_uid:
                raise LinkRefused(
                    f"{opened.address} is this node itself: take it from the targets with 'plait forget' "
                    "('plait status targets' lists them)",
                    is_final=True,
                    is_fault=opened.outbound,
                    is_ourself=True,
                )
            raise LinkRefused(
                f"peer names collision: {_who(opened)} has our name {self._our_name}; if one "
                "machine is a clone of the other, run 'plait reset' and 'plait launch' there, or launch it with --name",
                is_final=True,
                is_fault=True,
            )
        if not is_known and not opened.accepts_unknown:
            raise LinkRefused(
                f"found unknown remote name {features.name} at {opened.address}: the peer that gossip "
                "places there has another name"
            )
        if features.overlays is not None and self._overlays.isdisjoint(features.overlays):
            raise LinkRefused(
                f"{_who(opened)} offers the overlays '{' '.join(features.overlays)}', "
                f"this node '{' '.join(sorted(self._overlays))}': they cannot exchange frames",
                is_fault=True,
            )
        if self.is_full and self.to(features.name) is None:
            raise LinkRefused(
                f"connection limit reached ({self._limit}): {_who(opened)} was refused; raise it with --conn-limit",
                is_fault=True,
            )

    def loser(self, opened: OpenedConnection) -> Link | None:
        """Settle a duplicate: give the older link to end, or raise LinkRefused if the new one must go.

        Both ends see the same two connection UIDs, so both keep the same one: the lower.
        """
        older = self.to(opened.features.name)
        if older is None or opened.uid < older.uid:
            return older
        sentence = f"multiple connections to {opened.features.name}({opened.features.nickname}): an older one is kept"
        raise LinkRefused(sentence, ends_also=older if opened.uid == older.uid else None)

    def add(self, opened: OpenedConnection, now: float) -> Link:
        """Enter a connection that passed `check` and `loser`."""
        link = Link(
            id=opened.id,
            peer=opened.features.name,
            address=opened.address,
            local_ip=opened.local_ip,
            outbound=opened.outbound,
            uid=opened.uid,
            overlays=opened.features.overlays,
            extra=opened.features.extra,
            session_key=opened.session_key,
            outbox=Outbox(self._our_name),
            added_at=now,
        )
        self._by_id[link.id] = link
        self._by_peer[link.peer] = link
        return link

    def remove(self, link: Link) -> None:
        """Forget a connection."""
        self._by_id.pop(link.id, None)
        if self._by_peer.get(link.peer) is link:
            del self._by_peer[link.peer]


def _who(opened: OpenedConnection) -> str:
    """The peer, without the passing port of one that dialled us: its next attempt gives the same sentence."""
    address = opened.address if opened.outbound else ip_of(opened.address)
    return f"{opened.features.nickname} at {address}"
