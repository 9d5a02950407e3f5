"""Electing the heir of a peer that is gone: a proposer proposes itself, in Paxos of a single value."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from plait.ipam.reclaim.messages import (
    NO_BALLOT,
    Accept,
    Accepted,
    Answer,
    Ballot,
    Config,
    Decided,
    Prepare,
    Promise,
    Refusal,
)
from plait.ipam.reclaim.voter import Voter
from plait.ipam.reclaim.world import Ask, Estate, Instant

PATIENCE = 5.0
"""Seconds until a ballot without a majority is taken to have failed."""


@dataclass(slots=True)
class _Attempt:
    config: Config
    ballot: Ballot
    began: float
    is_by_hand: bool
    promises: dict[str, Promise] = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)
    heir: str = ""
    ring: bytes = b""
    is_over: bool = False


class Proposer:
    """Proposes us as the heir of those whose leases are over."""

    def __init__(self, us: str, estate: Estate, voter: Voter, rng: random.Random) -> None:
        self.us = us
        self.reasons: dict[str, str] = {}
        self._estate = estate
        self._voter = voter
        self._rng = rng
        self._attempts: dict[str, _Attempt] = {}
        self._next: dict[str, float] = {}
        self._highest = 0

    def tick(self, now: Instant, has_lease: bool) -> Iterator[Ask]:
        """Begin a ballot about each peer that is gone, and end those that nobody answers."""
        for owner, attempt in list(self._attempts.items()):
            if attempt.is_over or now.slow - attempt.began > PATIENCE:
                del self._attempts[owner]
        owners, members = self._estate.owners(), self._estate.members()
        for owner, vote in list(self._voter.votes.items()):
            if (
                owner in (*self._attempts, self.us)
                or vote.heir
                or not vote.holds
                or now.slow < self._next.get(owner, 0.0)
            ):
                continue
            is_gone = has_lease and owner in owners and owner not in members
            if vote.is_bound or (is_gone and self._voter.wait_left(owner, now) <= 0):
                if owner not in self._next:  # several see it at once: not all begin at once
                    self._next[owner] = now.slow + self._rng.uniform(0, PATIENCE)
                    continue
                yield from self.propose(owner, now)

    def propose(self, owner: str, now: Instant, *, is_by_hand: bool = False) -> Iterator[Ask]:
        """Begin a ballot about one peer."""
        vote = self._voter.votes[owner]
        self._highest = max(self._highest, vote.promised[0]) + 1
        ballot = (self._highest, self.us)
        attempt = self._attempts[owner] = _Attempt(vote.in_force, ballot, now.slow, is_by_hand)
        self._next[owner] = now.slow + PATIENCE * (1 + self._rng.random() * 2)
        question = Prepare(owner, vote.in_force.version, ballot, is_by_hand)
        mine = self._voter.prepare(question, now)
        yield from self._prepared(owner, attempt, self.us, mine, now)
        if attempt.is_over or self.us not in attempt.promises:
            return
        for peer in attempt.config.electors:
            if peer != self.us:
                yield Ask(peer, question, now)

    def answered(self, ask: Ask, answer: Answer, now: Instant) -> Iterator[Ask]:
        """Take an elector's answer."""
        question = ask.question
        if not isinstance(question, Prepare | Accept):
            return
        attempt = self._attempts.get(question.owner)
        if isinstance(answer, Refusal):
            self._highest = max(self._highest, answer.promised[0])
            if answer.known is not None:
                self._voter.superseded(question.owner, answer.known)
        if attempt is None or attempt.is_over or attempt.ballot != question.ballot:
            return
        if isinstance(question, Prepare):
            yield from self._prepared(question.owner, attempt, ask.peer, answer, now)
        else:
            yield from self._accepted(question.owner, attempt, ask.peer, answer, now)

    def _prepared(self, owner: str, attempt: _Attempt, peer: str, answer: Answer, now: Instant) -> Iterator[Ask]:
        if isinstance(answer, Refusal):
            self._refused(owner, attempt, peer, answer)
        if not isinstance(answer, Promise) or attempt.heir:
            return
        attempt.promises[peer] = answer
        if not attempt.config.has_majority(set(attempt.promises)):
            return
        latest = max(attempt.promises.values(), key=lambda promise: promise.accepted)
        attempt.heir = latest.heir if latest.accepted != NO_BALLOT else self.us
        attempt.ring = max(attempt.promises.values(), key=lambda promise: promise.sequence).ring
        question = Accept(owner, attempt.config.version, attempt.ballot, attempt.heir)
        yield from self._accepted(owner, attempt, self.us, self._voter.accept(question, now), now)
        for other in attempt.config.electors:
            if other != self.us:
                yield Ask(other, question, now)

    def _accepted(self, owner: str, attempt: _Attempt, peer: str, answer: Answer, now: Instant) -> Iterator[Ask]:
        if isinstance(answer, Refusal):
            self._refused(owner, attempt, peer, answer)
        if not isinstance(answer, Accepted):
            return
        attempt.accepted.add(peer)
        if not attempt.config.has_majority(attempt.accepted):
            return
        attempt.is_over = True
        yield from self._announce(owner, attempt.config, attempt.heir, attempt.ring, now)

    def _announce(self, owner: str, config: Config, heir: str, ring: bytes, now: Instant) -> Iterator[Ask]:
        question = Decided(owner, config.version, heir, ring)
        self._voter.decided(question)
        for other in config.electors:
            if other != self.us:
                yield Ask(other, question, now)

    def _refused(self, owner: str, attempt: _Attempt, peer: str, answer: Refusal) -> None:
        self.reasons[owner] = f"{peer}: {answer.reason}"
