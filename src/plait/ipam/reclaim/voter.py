"""A peer's part in the fate of others: it renews their leases, until it takes part in electing an heir."""

from plait.ipam.reclaim.messages import (
    NO_BALLOT,
    Accept,
    Accepted,
    Answer,
    Config,
    Decided,
    Prepare,
    Promise,
    Refusal,
    Renew,
    Renewed,
    Resign,
    Resigned,
    Surrender,
    Vote,
)
from plait.ipam.reclaim.world import Estate, Instant

MARGIN = 1.25
"""How much longer than its time a lease is waited for: what the clocks of two machines may differ by, and stalls."""

MAX_OWNERS = 4096
"""Peers that are remembered."""


class Voter:
    """`after` is our own duration, 0 if we take no part; `is_pure` tells that all peers in the mesh speak this."""

    def __init__(self, us: str, after: float, estate: Estate, votes: dict[str, Vote], began: Instant) -> None:
        self.us = us
        self.after = after
        self.votes = votes
        self.is_dirty = False
        self.is_pure = False
        self._estate = estate
        self._began = began.slow
        self._renewed: dict[str, float] = {}

    def wait_left(self, owner: str, now: Instant) -> float:
        """Give the seconds that a peer's lease may still last, as far as we know; 0 or less when it is over."""
        vote = self.votes[owner]
        since = self._renewed.get(owner, self._began)
        return vote.in_force.after * MARGIN - (now.slow - since)

    def renew(self, question: Renew, now: Instant) -> Answer:
        """Renew a lease, and agree to other electors."""
        owner, config = question.owner, question.in_force
        vote = self.votes.get(owner)
        if vote is None:
            if len(self.votes) >= MAX_OWNERS:
                return Refusal("too many peers are remembered here")
            vote = self.votes[owner] = Vote(config)
            self.is_dirty = True
        elif config.version < vote.in_force.version:
            return Refusal("there are newer electors", vote.in_force.version, vote.in_force)
        elif config.version > vote.in_force.version:
            self.superseded(owner, config)
            vote = self.votes[owner]
        elif vote.is_bound:
            return Refusal("an heir is being elected", vote.in_force.version, None, vote.heir)
        if question.sequence > vote.sequence and question.ring:
            vote.sequence, vote.ring = question.sequence, question.ring
            self.is_dirty = True
        self._agree(vote, question)
        self._renewed[owner] = now.slow
        holds_version = vote.in_force.version if vote.holds else -1
        acked = vote.pending.version if vote.pending is not None else holds_version
        return Renewed(holds_version, acked, vote.sequence)

    def _agree(self, vote: Vote, question: Renew) -> None:
        new = question.pending
        if new is None or self.us not in new.electors or vote.sequence < question.sequence:
            return
        if vote.pending is None or new.version > vote.pending.version:
            vote.pending = new
            self.is_dirty = True

    def surrender(self, question: Surrender) -> Answer:
        """Hear that an owner gives up, which needs no wait then; tells it the heir once there is one."""
        vote = self.votes.get(question.owner)
        if vote is None or vote.in_force.version != question.version:
            return Refusal("there are other electors", vote.in_force.version if vote else -1)
        if not vote.is_surrendered:
            vote.is_surrendered, vote.pending = True, None
            self.is_dirty = True
        return Refusal("it has an heir", question.version, None, vote.heir) if vote.heir else Accepted()

    def prepare(self, question: Prepare, now: Instant) -> Answer:
        """Promise to a proposer, if the owner's lease is surely over."""
        vote = self.votes.get(question.owner)
        refusal = self._why_not(question.owner, question.version, now, question.is_by_hand)
        if vote is None or refusal is not None:
            return refusal or Refusal("unknown here")
        if question.ballot <= vote.promised:
            return Refusal("another proposer was faster", promised=vote.promised)
        vote.promised = question.ballot
        self.is_dirty = True
        return Promise(vote.accepted, vote.accepted_heir, vote.sequence, vote.ring)

    def accept(self, question: Accept, now: Instant) -> Answer:
        """Accept an heir, unless a later ballot was promised."""
        vote = self.votes.get(question.owner)
        if vote is None or vote.in_force.version != question.version or vote.promised == NO_BALLOT:
            return Refusal("nothing was promised here")
        if question.ballot < vote.promised:
            return Refusal("another proposer was faster", promised=vote.promised)
        vote.promised = vote.accepted = question.ballot
        vote.accepted_heir = question.heir
        self.is_dirty = True
        return Accepted()

    def decided(self, question: Decided) -> Answer:
        """Learn who the heir is; if it is us, take the ranges."""
        vote = self.votes.get(question.owner)
        if vote is None or vote.in_force.version != question.version or vote.heir:
            return Accepted()
        if question.heir != self.us or self._estate.learn(question.ring):
            vote.heir = question.heir
            vote.is_taking = question.heir == self.us
            self.is_dirty = True
            self.take()
        return Accepted()

    def superseded(self, owner: str, config: Config) -> None:
        """Hear from another voter that there are newer electors: ours of before decide nothing any more."""
        vote = self.votes.get(owner)
        if vote is not None and config.version > vote.in_force.version:
            self.votes[owner] = Vote(config, vote.pending == config, None, vote.sequence, vote.ring)
            self.is_dirty = True

    def take(self) -> None:
        """Take what those own that we are the heir of: also what others tell us only now."""
        for owner, vote in self.votes.items():
            if vote.is_taking and owner in self._estate.owners():
                self._estate.take(owner)

    def resign(self, question: Resign) -> Answer:
        """An owner came back, and gives up: take the rest, and from now on nothing."""
        vote = self.votes.get(question.owner)
        if vote is None or vote.in_force.version < question.version:
            return Refusal("unknown here")
        if vote.in_force.version == question.version:
            if vote.heir not in ("", self.us) or (not vote.heir and vote.accepted_heir != self.us):
                return Refusal("the heir is another", vote.in_force.version, None, vote.heir)
            if not vote.heir or vote.is_taking:
                if not self._estate.learn(question.ring):
                    return Refusal("the ring does not fit")
                vote.heir, vote.is_taking = self.us, True
                self.take()
                vote.is_taking = False
                self.is_dirty = True
        return Resigned(self._estate.plain_ring())

    def _why_not(self, owner: str, version: int, now: Instant, is_by_hand: bool) -> Refusal | None:
        """Tell why we do not take part in electing an heir, or None."""
        vote = self.votes.get(owner)
        if vote is not None and vote.in_force.version > version:
            return Refusal("there are newer electors", vote.in_force.version, vote.in_force)
        if vote is None or not vote.holds or vote.in_force.version != version or vote.pending is not None:
            return Refusal("it has other electors, or is changing them")
        if vote.is_bound:
            return None  # also when an heir is known: who missed that learns it by another ballot
        if not self.after:
            return Refusal("this peer runs without --reclaim-after")
        if self.after != vote.in_force.after:
            return Refusal(f"--reclaim-after is {self.after:g} s here, and {vote.in_force.after:g} s there")
        if not self.is_pure and not is_by_hand:
            return Refusal("a peer that is no plait node is in the mesh")
        left = self.wait_left(owner, now)
        if left > 0:
            return Refusal(f"its lease may last {left:.0f} s still")
        return None
