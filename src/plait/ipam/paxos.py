"""The one-off agreement on who shares the first ring: Paxos whose messages are everybody's whole knowledge.

Pure: knowledge in, knowledge out. Gossip may repeat, reorder and lose it (spec: ipam 6.2).
"""

from collections.abc import Mapping
from typing import NamedTuple

from plait.mesh.name import UNKNOWN_PEER, PeerName

MAX_ROUND = (1 << 64) - 1
"""The wire's limit; a round after it does not exist."""

MAX_VOTERS = 65536
"""Voters that are listened to: more than a mesh can have, so that no message fills the memory."""


class Voter(NamedTuple):
    """A peer in one of its lives: the UID is new at each start, so a restarted peer is another voter."""

    name: PeerName
    uid: int


NOBODY = Voter(UNKNOWN_PEER, 0)


class Proposal(NamedTuple):
    """Identifies a proposal; a later one is greater. Round 0 stands for none."""

    round: int = 0
    proposer: Voter = NOBODY


NO_PROPOSAL = Proposal()


class AcceptedValue(NamedTuple):
    """Names of peers, perhaps with doubles and in any order, and the proposal that they were first proposed in."""

    value: tuple[PeerName, ...] = ()
    origin: Proposal = NO_PROPOSAL


class Claims(NamedTuple):
    """What a voter promised and accepted."""

    promise: Proposal = NO_PROPOSAL
    accepted: Proposal = NO_PROPOSAL
    accepted_value: AcceptedValue = AcceptedValue()


NO_CLAIMS = Claims()


class Election:
    """One voter's part. `quorum` 0: this peer has no need of a ring yet; it votes, but draws no conclusion."""

    def __init__(self, us: Voter, quorum: int = 0) -> None:
        self.quorum = quorum
        self._us = us
        self._knows: dict[Voter, Claims] = {}

    @property
    def knows(self) -> Mapping[Voter, Claims]:
        """Everybody's claims as far as they are known: the message to send."""
        return self._knows

    def propose(self) -> None:
        """Begin a round higher than all known ones; with a quorum of 1 it is decided at once."""
        highest = max((max(claims.promise.round, claims.accepted.round) for claims in self._knows.values()), default=0)
        promise = Proposal(min(highest + 1, MAX_ROUND), self._us)
        self._knows[self._us] = self._ours()._replace(promise=promise)
        if self.quorum == 1:
            self.think()

    def update(self, received: Mapping[Voter, Claims]) -> bool:
        """Learn what others know; tell whether any of it was new. If so, `think`."""
        changed = False
        for voter, theirs in received.items():
            mine = self._knows.get(voter)
            if mine is None:
                if len(self._knows) >= MAX_VOTERS:
                    continue
                self._knows[voter] = theirs
                changed = True
                continue
            if theirs.promise > mine.promise:
                mine = mine._replace(promise=theirs.promise)
            if theirs.accepted > mine.accepted:
                mine = mine._replace(accepted=theirs.accepted, accepted_value=theirs.accepted_value)
            if mine is not self._knows[voter]:
                self._knows[voter] = mine
                changed = True
        return changed

    def think(self) -> bool:
        """Promise, propose and accept what the knowledge asks for; tell whether our claims changed: then broadcast."""
        before = self._ours()
        promise = max((claims.promise for claims in self._knows.values()), default=before.promise)
        ours = before._replace(promise=promise)
        if promise.proposer == self._us:
            ours = self._try_to_win(ours)
        for claims in self._knows.values():
            if claims.accepted == promise:
                ours = ours._replace(accepted=claims.accepted, accepted_value=claims.accepted_value)
                break
        if _essence(ours) == _essence(before):
            return False
        self._knows[self._us] = ours
        return True

    def consensus(self) -> AcceptedValue | None:
        """Give what a quorum accepted. With a quorum below a majority that may be several: then the oldest."""
        groups: dict[Proposal, list[AcceptedValue]] = {}
        for claims in self._knows.values():
            if claims.accepted.round:
                groups.setdefault(claims.accepted_value.origin, []).append(claims.accepted_value)
        agreed = [origin for origin, values in groups.items() if len(values) >= self.quorum > 0]
        return groups[min(agreed)][0] if agreed else None

    def _ours(self) -> Claims:
        return self._knows.get(self._us, NO_CLAIMS)

    def _try_to_win(self, ours: Claims) -> Claims:
        """Accept our own proposal if a quorum promised it: with the value that they accepted last, if there is one."""
        supporters = [claims for claims in self._knows.values() if claims.promise == ours.promise]
        if len(supporters) < self.quorum:
            return ours
        latest = max(supporters, key=lambda claims: claims.accepted, default=NO_CLAIMS)
        value = latest.accepted_value
        if not latest.accepted.round:
            value = AcceptedValue(tuple(voter.name for voter in self._knows), ours.promise)
        return ours._replace(accepted=ours.promise, accepted_value=value)


def _essence(claims: Claims) -> tuple[Proposal, Proposal, Proposal]:
    return claims.promise, claims.accepted, claims.accepted_value.origin
