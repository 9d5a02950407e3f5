"""A peer's own lease: the electors it chose, their renewals, and whether it may give out addresses."""

from collections.abc import Iterator

from plait.ipam.reclaim.messages import Config, Own, Refusal, Renew, Renewed, Resign, Resigned, Surrender, Vote
from plait.ipam.reclaim.world import Ask, Estate, Instant

MAX_ELECTORS = 9
"""Four of them may be gone. Odd, as an even number bears no more losses than one less."""

MIN_ELECTORS = 3
"""Of two, none is a majority without the other."""

RENEWALS = 5
"""How often a lease is renewed in its time, at least."""

MAX_RENEWAL_SECONDS = 30.0

CHANGE_ROUNDS = 3
"""Rounds that a change of electors is given before another one takes its place."""


class Owner:
    """Our own part. `own` is None until we know that no electors of an earlier life exist."""

    def __init__(self, us: str, after: float, estate: Estate, own: Own | None, votes: dict[str, Vote]) -> None:
        self.us = us
        self.after = after
        self.own = own
        self.is_dirty = False
        self.next_round = float("-inf")
        self._estate = estate
        self._votes = votes
        self._without_lease_since: float | None = None
        self._bound: set[str] = set()
        self._renewed: dict[str, float] = {}
        self._agreed: dict[str, float] = {}
        self._holders: set[str] = set()
        self._sequences: dict[str, int] = {}
        self._rounds = 0
        self._lost: set[str] = set()
        self._floor = 0
        if own is not None:
            self._news()
            self._floor = own.sequence

    # What it means for addresses

    @property
    def is_alone(self) -> bool:
        """True while nobody but us decides about us."""
        own = self.own
        return own is not None and own.in_force.electors == (self.us,) and own.pending is None

    @property
    def is_reclaimed(self) -> bool:
        """True from when we hear that we have an heir until it confirms that it takes no more."""
        return self.own is not None and bool(self.own.reclaimed_by)

    def has_lease(self, now: Instant) -> bool:
        """Tell whether we may give out addresses: electors renewed our lease lately, a majority with us."""
        own = self.own
        if own is None or own.is_surrendered or own.reclaimed_by:
            return False
        return own.in_force.has_majority(self.renewers(now))

    def renewers(self, now: Instant) -> set[str]:
        """Give the electors whose renewals are not too old, and us."""
        if self.own is None:
            return set()
        after = self.own.in_force.after
        return {self.us} | {peer for peer, sent in self._renewed.items() if 0 <= now.fast - sent < after}

    def gift_offered(self) -> None:
        """Our ring changes soon: electors must know it before others do."""
        self._news()
        self.next_round = float("-inf")
        self._check_gift()

    # Rounds

    def found(self, known: Config | None, sequence: int) -> None:
        """Begin: with the electors of an earlier life, whose disk was lost, if there are any; else with us alone."""
        if known is None:
            self.own = Own(Config(0, (self.us,), self.after))
        else:
            self.own = Own(known, None, sequence + (1 << 32), known.version)
        self._news()
        self._floor = self.own.sequence

    def round(self, now: Instant, alike: set[str]) -> Iterator[Ask]:
        """Ask all electors to renew. `alike` are the peers in the mesh that have our duration."""
        own = self.own
        if own is None or now.fast < self.next_round:
            return
        self.next_round = now.fast + min(own.in_force.after / RENEWALS, MAX_RENEWAL_SECONDS)
        if own.reclaimed_by:
            self._estate.give_up(own.reclaimed_by)
            yield Ask(own.reclaimed_by, Resign(self.us, own.in_force.version, self._estate.plain_ring()), now)
            return
        self._consider(now)
        if own.is_surrendered:
            for peer in own.in_force.electors:
                if peer != self.us:
                    yield Ask(peer, Surrender(self.us, own.in_force.version), now)
            return
        self._choose(alike)
        yield from self._ask_all(now)

    def _consider(self, now: Instant) -> None:
        """Surrender, if some of the electors are bound to elect an heir and the others are too few for a lease.

        Neither could go on without this: those that are not bound would renew for ever.
        """
        own = self.own
        if own is None or own.is_surrendered:
            return
        if self.has_lease(now):
            self._without_lease_since = None
        elif self._without_lease_since is None:
            self._without_lease_since = now.fast
        elif self._bound and now.fast - self._without_lease_since > own.in_force.after:
            own.is_surrendered, own.pending = True, None
            self._votes[self.us] = Vote(
                own.in_force, True, None, own.sequence, self._estate.plain_ring(), is_surrendered=True
            )
            self.is_dirty = True

    def _ask_all(self, now: Instant) -> Iterator[Ask]:
        own = self.own
        if own is None:
            return
        ring = self._estate.ring()
        pending = own.pending.electors if own.pending is not None else ()
        for peer in sorted({*own.in_force.electors, *pending} - {self.us}):
            is_known = self._sequences.get(peer, 0) >= own.sequence
            yield Ask(peer, Renew(self.us, own.in_force, own.pending, own.sequence, b"" if is_known else ring), now)

    def _choose(self, alike: set[str]) -> None:
        """Begin a change if other electors would be better; one that does not succeed is replaced."""
        own = self.own
        if own is None:
            return
        self._rounds += 1
        wanted = self._wanted(own.in_force, alike)
        last = own.pending or own.in_force
        is_right = last.electors == wanted and last.after == self.after
        is_right = is_right and (own.pending is not None or not self._lost.intersection(wanted, alike))
        if is_right or (own.pending is not None and self._rounds < CHANGE_ROUNDS):
            return
        version = max(own.last_version, own.in_force.version) + 1
        own.pending, own.last_version = Config(version, wanted, self.after), version
        self._agreed.clear()
        self._lost.clear()
        self._rounds = 0
        self._news()
        self._advance()

    def _wanted(self, in_force: Config, alike: set[str]) -> tuple[str, ...]:
        if not self.after:
            return (self.us,)
        present = self._estate.members() | self._estate.owners()
        stay = [peer for peer in in_force.electors if peer != self.us and peer in present]
        come = sorted(alike.difference(stay, {self.us}))
        chosen = [self.us, *stay, *come][:MAX_ELECTORS]
        if len(chosen) % 2 == 0:
            chosen.pop()
        return tuple(sorted(chosen)) if len(chosen) >= MIN_ELECTORS else (self.us,)

    def _news(self) -> None:
        """Our ring is another than the electors have: it gets a new number."""
        if self.own is not None:
            self.own.sequence += 1
            self.is_dirty = True

    # Answers

    def renewed(self, ask: Ask, question: Renew, answer: Renewed) -> None:
        """Take a renewal."""
        own = self.own
        if own is None or own.is_surrendered or own.reclaimed_by:
            return
        self._sequences[ask.peer] = max(self._sequences.get(ask.peer, 0), answer.sequence)
        is_current = answer.sequence >= self._floor
        if question.in_force == own.in_force:
            if answer.holds != own.in_force.version:
                self._lost.add(ask.peer)
            elif is_current:
                self._holders.add(ask.peer)
                self._renewed[ask.peer] = max(ask.sent.fast, self._renewed.get(ask.peer, ask.sent.fast))
            if own.pending is not None and question.pending == own.pending and answer.acked == own.pending.version:
                self._agreed[ask.peer] = max(ask.sent.fast, self._agreed.get(ask.peer, ask.sent.fast))
        self._advance()

    def refused(self, ask: Ask, question: Renew, answer: Refusal) -> None:
        """An elector takes part in electing our heir, or knows more of us than we do."""
        own = self.own
        if own is None or own.reclaimed_by:
            return
        if answer.known is not None and answer.known.version > own.in_force.version:
            self.found(answer.known, max(own.sequence, 1 << 32))
            self._forget()
        elif question.in_force == own.in_force and answer.version == own.in_force.version:
            self._lost.add(ask.peer)
            self._bound.add(ask.peer)
            self._renewed.pop(ask.peer, None)
            self._inherit(answer.heir)

    def inherited(self, question: Surrender, answer: Refusal) -> None:
        """Hear who the heir is."""
        if self.own is not None and question.version == answer.version == self.own.in_force.version:
            self._inherit(answer.heir)

    def _inherit(self, heir: str) -> None:
        if self.own is not None and heir and not self.own.reclaimed_by:
            self.own.reclaimed_by = heir
            self.is_dirty = True
            self.next_round = float("-inf")

    def resigned(self, question: Resign, answer: Resigned) -> None:
        """The heir takes no more: begin anew, with nothing."""
        own = self.own
        if own is None or not own.reclaimed_by or question.version != own.in_force.version:
            return
        if not self._estate.learn(answer.ring):
            return
        self._estate.resign()
        version = max(own.last_version, own.in_force.version) + 1
        self.own = Own(Config(version, (self.us,), self.after), None, own.sequence, version)
        self._votes.pop(self.us, None)
        self._forget()
        self._news()
        self._floor = self.own.sequence

    def _forget(self) -> None:
        for known in (self._renewed, self._agreed, self._holders, self._lost, self._bound, self._sequences):
            known.clear()
        self.next_round = float("-inf")

    def _advance(self) -> None:
        """Bring new electors into force once majorities of the old and the new ones agreed; and give what waits."""
        own = self.own
        if own is None:
            return
        pending = own.pending
        if pending is not None:
            agreed = {*self._agreed, self.us}
            voices = (self._agreed.keys() & self._holders) | {self.us}
            if own.in_force.has_majority(voices) and pending.has_majority(agreed):
                own.in_force, own.pending = pending, None
                self._holders = set(self._agreed)
                self._renewed = dict(self._agreed)
                self._agreed.clear()
                self._lost.clear()
                self._bound.clear()
                self._rounds = 0
                self.is_dirty = True
                self.next_round = float("-inf")
        self._check_gift()

    def _check_gift(self) -> None:
        own = self.own
        if own is None:
            return
        informed = {self.us} | {peer for peer, sequence in self._sequences.items() if sequence >= own.sequence}
        if own.in_force.has_majority(informed) and (own.pending is None or own.pending.has_majority(informed)):
            self._estate.confirm()
