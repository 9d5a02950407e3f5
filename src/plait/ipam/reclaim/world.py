"""What the core of reclaiming knows of time, of the mesh and of the ring."""

from typing import NamedTuple, Protocol

from plait.ipam.reclaim.messages import Question


class Instant(NamedTuple):
    """A reading of two clocks, seconds: `slow` never runs ahead (CLOCK_MONOTONIC), `fast` never falls behind.

    `fast` goes on while the machine sleeps, and takes every step forward of the time of day. A lease is measured by the
    fast one where it binds its holder, and by the slow one where it binds the others.
    """

    slow: float
    fast: float


class Ask(NamedTuple):
    """A question to send; it comes back with its answer."""

    peer: str
    question: Question
    sent: Instant


class Estate(Protocol):
    """The ring and the mesh, as seen by this peer."""

    def owners(self) -> set[str]:
        """Give the peers that own something in our ring."""

    def members(self) -> set[str]:
        """Give the peers in the mesh, without us."""

    def ring(self) -> bytes:
        """Give our ring, with a gift that is under way."""

    def plain_ring(self) -> bytes:
        """Give our ring."""

    def learn(self, ring: bytes) -> bool:
        """Merge a ring; tell whether it could be taken."""

    def take(self, owner: str) -> None:
        """Make all ranges of a peer ours."""

    def give_up(self, heir: str) -> None:
        """Make all ranges of ours the heir's, if there are any."""

    def resign(self) -> None:
        """What containers here hold is not ours to give any more: ask its owners for it."""

    def confirm(self) -> None:
        """The gift under way is known to a majority: give it."""
