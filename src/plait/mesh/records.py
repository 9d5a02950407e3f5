"""What peers say of themselves: the values that topology gossip carries."""

from dataclasses import dataclass

from plait.mesh.name import PeerName


@dataclass(frozen=True, slots=True)
class PeerSummary:
    """A peer without its connections. A placeholder (known only as the end of a connection) has uid 0 and version 0."""

    name: PeerName
    nickname: str = ""
    uid: int = 0
    version: int = 0
    short_id: int | None = None


@dataclass(frozen=True, slots=True)
class ConnectionSummary:
    """One connection as its reporting end sees it; `address` is the remote end, `ip:port`."""

    remote: PeerName
    address: str
    outbound: bool
    established: bool


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """All that a peer reports: only the peer itself ever changes it."""

    summary: PeerSummary
    connections: tuple[ConnectionSummary, ...] = ()

    @property
    def name(self) -> PeerName:
        """The peer's name."""
        return self.summary.name
