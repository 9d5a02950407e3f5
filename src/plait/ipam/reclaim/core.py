"""A peer's whole part in leases and heirs. Pure: takes time, questions and answers, gives questions and answers.

`save` what is durable whenever `is_dirty`, before anything that was given is sent (docs/protocol/reclaim.md).
"""

import random
from dataclasses import dataclass

from plait.ipam.reclaim.heir import Proposer
from plait.ipam.reclaim.messages import (
    Accept,
    Answer,
    Decided,
    Durable,
    Greeting,
    Hello,
    Prepare,
    Question,
    Refusal,
    Renew,
    Renewed,
    Resign,
    Resigned,
    Surrender,
)
from plait.ipam.reclaim.owner import Owner
from plait.ipam.reclaim.voter import Voter
from plait.ipam.reclaim.world import Ask, Estate, Instant

HELLO_INTERVAL = 30.0
"""Seconds between two questions to a peer about its duration; a silent one is asked again sooner."""

SILENT_INTERVAL = 3.0

MAX_HELLOS = 16
"""At a time."""

SILENCES = 3
"""Questions in a row without an answer after which a peer in the mesh is taken to be no plait node that speaks this."""


@dataclass(slots=True)
class _Neighbour:
    """What a peer in the mesh said: `after` is None before it said anything."""

    after: float | None = None
    silences: int = 0
    next_hello: float = float("-inf")


class Reclaim:
    """`after` is our duration in seconds, 0 for a peer that takes no part: it still renews leases that it agreed to."""

    def __init__(
        self, us: str, after: float, rng: random.Random, estate: Estate, stored: Durable, began: Instant
    ) -> None:
        self.us = us
        self.after = after
        self.owner = Owner(us, after, estate, stored.own, stored.votes)
        self.voter = Voter(us, after, estate, stored.votes, began)
        self.proposer = Proposer(us, estate, self.voter, rng)
        self._estate = estate
        self._neighbours: dict[str, _Neighbour] = {}

    # What allocation asks

    @property
    def is_off(self) -> bool:
        """True if nothing binds us: no duration, and no electors of an earlier life."""
        return not self.after and self.owner.own is None

    def may_give(self, now: Instant) -> bool:
        """Tell whether addresses may be given out, to containers or other peers."""
        return self.is_off or self.owner.has_lease(now)

    @property
    def gives_at_once(self) -> bool:
        """True if a gift need not be known to electors first."""
        return self.is_off or self.owner.is_alone

    # Durability

    @property
    def is_dirty(self) -> bool:
        """True while something is not saved."""
        return self.owner.is_dirty or self.voter.is_dirty

    def saved(self) -> None:
        """What `durable` gave last is on disk."""
        self.owner.is_dirty = self.voter.is_dirty = False

    def durable(self) -> Durable:
        """Give what is kept."""
        return Durable(self.owner.own, self.voter.votes)

    # Input

    def tick(self, now: Instant) -> list[Ask]:
        """Ask what is due. Call it about once a second."""
        members = self._estate.members()
        for gone in self._neighbours.keys() - members:
            del self._neighbours[gone]
        for new in members - self._neighbours.keys():
            self._neighbours[new] = _Neighbour()
        self.voter.is_pure = not self.strangers()
        if not self.owner.is_reclaimed:
            self.voter.take()
        asks: list[Ask] = []
        if not self.is_off:
            asks += self._hellos(now)
            self._found()
            asks += self.owner.round(now, self.alike())
        asks += self.proposer.tick(now, self.owner.has_lease(now))
        return asks

    def propose(self, owner: str, now: Instant) -> list[Ask]:
        """Try to become the heir of a peer now, as an operator wants it."""
        return list(self.proposer.propose(owner, now, is_by_hand=True))

    def question(self, question: Question, now: Instant) -> Answer:
        """Answer a peer."""
        match question:
            case Hello(sender):
                vote = self.voter.votes.get(sender)
                return Greeting(self.after, vote.in_force if vote else None, vote.sequence if vote else 0)
            case Renew():
                return self.voter.renew(question, now)
            case Surrender():
                return self.voter.surrender(question)
            case Prepare():
                return self.voter.prepare(question, now)
            case Accept():
                return self.voter.accept(question, now)
            case Decided():
                return self.voter.decided(question)
            case Resign():
                return self.voter.resign(question)

    def answered(self, ask: Ask, answer: Answer, now: Instant) -> list[Ask]:
        """Take an answer; gives questions that follow from it."""
        question = ask.question
        match question, answer:
            case Hello(), Greeting():
                self._greeted(ask.peer, answer, now)
            case Renew(), Renewed():
                self.owner.renewed(ask, question, answer)
            case Renew(), Refusal():
                self.owner.refused(ask, question, answer)
            case Surrender(), Refusal():
                self.owner.inherited(question, answer)
            case Resign(), Resigned():
                self.owner.resigned(question, answer)
            case _:
                return list(self.proposer.answered(ask, answer, now))
        return []

    def silent(self, ask: Ask, now: Instant) -> None:
        """Hear that a question got no answer."""
        neighbour = self._neighbours.get(ask.peer)
        if isinstance(ask.question, Hello) and neighbour is not None:
            neighbour.silences += 1
            if neighbour.silences >= SILENCES:
                neighbour.next_hello = now.fast + HELLO_INTERVAL

    # For reports

    def durations(self) -> dict[str, float]:
        """Give the durations of the peers in the mesh that said theirs."""
        return {peer: each.after for peer, each in self._neighbours.items() if each.after is not None}

    def strangers(self) -> list[str]:
        """Give the peers in the mesh that do not speak this, or have not spoken yet."""
        return sorted(peer for peer, each in self._neighbours.items() if each.after is None)

    def foreigners(self) -> list[str]:
        """Give those of them that have not answered several times."""
        return [peer for peer in self.strangers() if self._neighbours[peer].silences >= SILENCES]

    @property
    def may_have_heir(self) -> bool:
        """Tell whether others decide about us."""
        return self.owner.own is not None and self.owner.own.in_force.electors != (self.us,)

    def alike(self) -> set[str]:
        """Give the peers in the mesh that have our duration."""
        return {peer for peer, after in self.durations().items() if after and after == self.after}

    # Within

    def _hellos(self, now: Instant) -> list[Ask]:
        due = sorted(peer for peer, each in self._neighbours.items() if now.fast >= each.next_hello)[:MAX_HELLOS]
        for peer in due:
            self._neighbours[peer].next_hello = now.fast + SILENT_INTERVAL
        return [Ask(peer, Hello(self.us), now) for peer in due]

    def _greeted(self, peer: str, answer: Greeting, now: Instant) -> None:
        neighbour = self._neighbours.setdefault(peer, _Neighbour())
        neighbour.after, neighbour.silences = answer.after, 0
        neighbour.next_hello = now.fast + HELLO_INTERVAL
        if self.owner.own is None and answer.known is not None:
            self.owner.found(answer.known, answer.sequence)
        self._found()

    def _found(self) -> None:
        """Begin a first life once a majority of the ring's owners know of no earlier one."""
        owners = self._estate.owners()
        if self.owner.own is not None or not owners:
            return
        heard = {
            peer for peer, each in self._neighbours.items() if each.after is not None or each.silences >= SILENCES
        } | {self.us}
        if 2 * len(owners & heard) > len(owners):
            self.owner.found(None, 0)
