"""What an allocator is made with."""

from dataclasses import dataclass
from typing import Protocol

from plait.errors import ConfigError
from plait.ipam.address import Cidr, Range
from plait.ipam.paxos import Voter
from plait.ipam.requests import Claim
from plait.mesh.name import PeerName

TICK = 5.0
"""Seconds between calls of `tick`."""

DEATH_TO_RELEASE = 30.0
"""Seconds that a dead container keeps its addresses, so that a restarted one has them again."""


class Peers(Protocol):
    """What the mesh knows of other peers at this moment."""

    def is_known(self, peer: PeerName) -> bool:
        """Tell whether the peer is in the mesh; we ourselves are."""

    def why_unreachable(self, peer: PeerName) -> str | None:
        """Tell why a unicast to this peer cannot be sent now, or None."""

    def quorum(self) -> int:
        """Give the number of voters that decide on the first ring: more than half of all; asked once."""


class Guard(Protocol):
    """Who says whether this peer may give addresses out: it may not while others might take them over (reclaim)."""

    taken: int
    """Addresses that this peer took over from others."""

    @property
    def electors(self) -> int:
        """How many decide whether ours may be taken over, we included; 0 if that was never chosen."""

    def may_give(self) -> bool:
        """To containers or to peers."""

    def offer(self, wanted: Range, to: PeerName) -> bool:
        """Begin a gift that others must know of first; False if there is no need of that."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What does not change in an allocator's life. `us.uid` is new at each start.

    `universe` is the range to divide, equal on all peers. `seed`, if any, are the peers that share the first ring,
    without an election; an observer takes no part in one. `found` are addresses in use on this host at the start.
    """

    us: Voter
    nickname: str
    universe: Cidr
    seed: tuple[PeerName, ...] = ()
    is_observer: bool = False
    found: tuple[Claim, ...] = ()

    def __post_init__(self) -> None:
        """Raise ConfigError for a range that 32 bits cannot hold the end of."""
        if self.universe.range.size <= 0:
            raise ConfigError(
                f"the range {self.universe} cannot be shared out: it ends with the last of all addresses; "
                "choose another --ipalloc-range, such as 10.32.0.0/12"
            )
