"""The allocator: gives addresses to containers, and shares the address range with other peers.

A pure state machine. Every input takes `now` (Unix seconds) and gives the actions that follow from it; requests are
answered by a Reply with their id, at once or later. Call `tick` every TICK seconds (spec: ipam 9 to 14).
"""

import random
from collections.abc import Callable, Iterable
from typing import TypeVar

from plait.errors import PlaitError
from plait.ipam import codec
from plait.ipam.actions import (
    Action,
    Broadcast,
    Persist,
    Refuse,
    Refused,
    Reply,
    RequestId,
    SendUnicast,
    Warn,
)
from plait.ipam.address import Cidr, Range, glued, text
from plait.ipam.codec import GossipState, Kind
from plait.ipam.entry import RingError
from plait.ipam.lives import ContainerLives
from plait.ipam.nicknames import Nicknames
from plait.ipam.paxos import Claims, Election, Voter
from plait.ipam.records import Records, Snapshot
from plait.ipam.requests import Allocate, Claim, Prime
from plait.ipam.ring import GIFT_STEP, DifferentRange, DifferentSeeds, OnUpdate, Ring, RingState
from plait.ipam.settings import DEATH_TO_RELEASE, Guard, Peers, Settings
from plait.ipam.space import Space, SpaceError
from plait.ipam.waiting import Waiting
from plait.mesh.name import UNKNOWN_PEER, PeerName

_Request = TypeVar("_Request", Prime, Claim, Allocate)


class Allocator(ContainerLives):
    """One peer's part in address allocation."""

    def __init__(self, settings: Settings, peers: Peers, rng: random.Random, on_update: OnUpdate | None = None) -> None:
        self.us = settings.us.name
        self.universe = settings.universe
        self.ring = Ring(settings.universe.range, self.us, on_update)
        self.space = Space()
        self.records = Records()
        self.nicknames = Nicknames(self.us, settings.nickname)
        self.waiting = Waiting(self, settings.found)
        self.dead: dict[str, float] = {}
        self.is_awaiting_consensus = False
        self.guard: Guard | None = None
        self.reserved: Range | None = None
        self._settings = settings
        self._peers = peers
        self._rng = rng
        self._election = None if settings.is_observer else Election(settings.us)
        self._is_leaving = False
        self._now = 0.0
        self._actions: list[Action] = []
        self._must_persist = self._must_broadcast = False

    # Life

    def start(self, now: float, stored: Snapshot | None = None) -> list[Action]:
        """Begin with what was stored if it is of this peer and range, else with the seed if there is one."""
        self._now = now
        if self._restore(stored):
            self.waiting.retry_claims()
        else:
            self._must_persist = True
            if self._settings.seed:
                self._create_ring(self._settings.seed)
        return self._to_do()

    def tick(self, now: float) -> list[Action]:
        """Propose again, retry what waits, and release what the dead held."""
        self._now = now
        if self.is_awaiting_consensus:
            self._propose()
        elif self.waiting:
            if self.ring.is_empty:
                self.establish()
            else:
                self.waiting.retry()
        for ident, since in list(self.dead.items()):
            if since < now - DEATH_TO_RELEASE:
                self._release_all(ident)
                del self.dead[ident]
        return self._finish()

    def shutdown(self, now: float, heir: PeerName | None = None) -> list[Action]:
        """Leave for good: give all our ranges to another peer, any if none is named. Later requests are cancelled."""
        self._now = now
        self._is_leaving = True
        self.waiting.cancel_all()
        heir = heir or self.heir()
        self.ring.transfer(self.us, heir or UNKNOWN_PEER)
        self.space.clear()
        if heir is not None:
            self._must_persist = self._must_broadcast = True
        return self._finish()

    # Requests

    def prime(self, now: float, request: RequestId) -> list[Action]:
        """Answer None once there is a ring."""
        return self._begin(now, Prime(request), self.waiting.primes)

    def allocate(
        self, now: float, request: RequestId, ident: str, subnet: Cidr, is_container: bool = True
    ) -> list[Action]:
        """Answer an address of the subnet, the one that the ident has already if so; waits while none is free."""
        return self._begin(now, Allocate(request, ident, subnet, is_container), self.waiting.allocates)

    def claim(
        self,
        now: float,
        request: RequestId,
        ident: str,
        cidr: Cidr,
        is_container: bool = True,
        no_error_on_unknown: bool = False,
    ) -> list[Action]:
        """Answer None when the ident holds this address, or why it cannot.

        With `no_error_on_unknown` the answer is None also while the owner cannot be asked; trying goes on.
        """
        return self._begin(now, Claim(request, ident, cidr, is_container, no_error_on_unknown), self.waiting.claims)

    def cancel(self, request: RequestId) -> None:
        """Note that a client went; its request ends at the next try."""
        self.waiting.client_gone(request)

    def free(self, now: float, request: RequestId, ident: str, address: int) -> list[Action]:
        """Release one address; answers None or Refused."""
        self._now = now
        self.waiting.forget_claims(ident, address)
        if self.records.remove(ident, address):
            self._must_persist = True
            self._give_back(address)
            self.reply(request, None)
        else:
            self.reply(request, Refused(f"Free: address {text(address)} not found for {ident}"))
        return self._finish()

    def delete(self, now: float, request: RequestId, ident: str) -> list[Action]:
        """Release all addresses of an ident; answers None or Refused."""
        self._now = now
        self.waiting.forget_claims(ident)
        known = self._release_all(ident)
        self.reply(request, None if known else Refused(f"Delete: no addresses for {ident}"))
        return self._finish()

    def lookup(self, ident: str, subnet: Cidr) -> list[Cidr]:
        """Give the addresses an ident has in a subnet, in order of recording."""
        return self.records.within(ident, subnet.host_range)

    def takeover(self, now: float, request: RequestId, peer: str, *, force: bool = False) -> list[Action]:
        """Take all ranges of a peer, by nickname or name, that is gone for good; answers the addresses won.

        A peer in the mesh is refused unless forced: it still hands out addresses, and an old one that hears of the
        loss of a range it has not used crashes (spec: ipam 20).
        """
        self._now = now
        name = self.nicknames.find(peer)
        if name is None or name == self.us:
            self.warn(f"no ranges were taken over from {peer}: it is {'this peer' if name else 'no known peer'}")
            self.reply(request, 0)
        elif self._peers.is_known(name) and not force:
            self.reply(
                request, Refused(f"peer {peer} is in the network; stop it, or let it leave by itself with reset")
            )
        else:
            before = self.space.free.size
            if self.ring.transfer(name, self.us):
                self.ring_updated()
                self._must_broadcast = True
            self.reply(request, self.space.free.size - before)
        return self._finish()

    def claim_found(self, now: float, claims: Iterable[Claim]) -> list[Action]:
        """Take note of addresses in use on this host, which nobody waits for."""
        self._now = now
        for claim in claims:
            self.waiting.begin(claim, self.waiting.claims)
        return self._finish()

    # Other peers

    def gossip(self, now: float) -> bytes:
        """Give what we tell neighbours regularly, and in place of a broadcast that we relay."""
        return codec.encode_state(self._state(now))

    def receive_gossip(self, now: float, payload: bytes) -> list[Action]:
        """Take gossip of a neighbour."""
        return self._receive(now, lambda: self._learn(codec.decode_state(payload), None))

    def receive_broadcast(self, now: float, source: PeerName, payload: bytes) -> list[Action]:
        """Take a broadcast."""
        return self._receive(now, lambda: self._learn(codec.decode_state(payload), source))

    def receive_unicast(self, now: float, source: PeerName, payload: bytes) -> list[Action]:
        """Take a message to us alone."""
        return self._receive(now, lambda: self._read_unicast(source, payload))

    def peer_gone(self, now: float, peer: PeerName) -> list[Action]:
        """Forget a nickname, unless the peer owns something; its ranges stay its own."""
        self._now = now
        if peer not in self.ring.peers():
            self.nicknames.forget(peer)
        return self._finish()

    # Reclaim

    def may_give(self) -> bool:
        """Tell whether addresses may be given out now."""
        return self.guard is None or self.guard.may_give()

    def give(self, now: float, block: Range, to: PeerName) -> list[Action]:
        """Give a block that was reserved for a peer, now that others know of it."""
        self._now = now
        self.reserved = None
        if any(piece.start <= block.start and block.end <= piece.end for piece in glued(self.ring.owned())):
            self._grant(block, to, GIFT_STEP)
            self._send_ring(to)
        return self._finish()

    def change_ring(self, now: float, change: Callable[[], object]) -> list[Action]:
        """Have the ring changed, and tell everybody."""
        self._now = now
        change()
        self.ring_updated()
        self._must_broadcast = True
        return self._finish()

    # For reports

    @property
    def knowledge(self) -> dict[Voter, Claims] | None:
        """What is known of the voters: None without an election, that is for an observer or when there is a ring."""
        if self._election is None or not self.ring.is_empty:
            return None
        return dict(self._election.knows)

    @property
    def quorum(self) -> int:
        """Voters needed; 0 while no election is under way here."""
        return self._election.quorum if self._election is not None else 0

    def snapshot(self) -> Snapshot:
        """Give what is kept over a restart."""
        return Snapshot(self.ring.state(), self.records.copy())

    # For requests

    def reply(self, request: RequestId, result: int | PlaitError | None) -> None:
        """Answer a request."""
        self.waiting.answered(request)
        self._actions.append(Reply(request, result))

    def warn(self, sentence: str) -> None:
        """Tell the operator."""
        self._actions.append(Warn(sentence))

    def record(self, ident: str, cidr: Cidr, is_container: bool) -> None:
        """Note who holds an address."""
        self.records.add(ident, cidr, is_container)
        self._must_persist = True

    def may_use(self, cidr: Cidr) -> bool:
        """Tell whether a recorded address is its holder's still: not if its range went to another peer."""
        return cidr.address in self.space.ours or cidr.address not in self.universe.range

    def is_dead(self, ident: str) -> bool:
        """Tell whether a container died lately."""
        return ident in self.dead

    def revive(self, ident: str) -> None:
        """A container that asks for something, or starts, lives."""
        self.dead.pop(ident, None)

    def establish(self) -> None:
        """Begin to agree on a first ring, unless there is one or an agreement is under way."""
        if not self.ring.is_empty or self.is_awaiting_consensus:
            return
        self.is_awaiting_consensus = True
        if self._election is not None:
            self._election.quorum = self._peers.quorum()
        self._propose()
        self._conclude()

    def ask_for_space(self, wanted: Range) -> None:
        """Ask one peer that says it has free space around this range."""
        for peer in self.ring.candidates(wanted, self._rng):
            if self.request_space(peer, wanted) is None:
                return

    def request_space(self, peer: PeerName, wanted: Range) -> str | None:
        """Ask a peer for space; tells why it cannot be reached, or None."""
        trouble = self._peers.why_unreachable(peer)
        if trouble is None:
            self._actions.append(SendUnicast(peer, codec.space_request(wanted)))
        return trouble

    # Within

    def _begin(self, now: float, request: _Request, pending: list[_Request]) -> list[Action]:
        self._now = now
        if self._is_leaving:
            request.cancel(self)
        else:
            self.waiting.begin(request, pending)
        return self._finish()

    def _receive(self, now: float, take: Callable[[], None]) -> list[Action]:
        self._now = now
        try:
            take()
        except PlaitError as error:
            self._actions.append(Refuse(error))
        return self._finish()

    def _finish(self) -> list[Action]:
        """End an input: bring the ring's free counts up to date, and give what is to be done.

        Who may not give leaves its entries as they are: an heir's versions must win.
        """
        owned = self.ring.owned() if self.may_give() else []
        counts = {piece.start: self.space.count_free(piece) for piece in owned}
        if owned and self.ring.report_free(counts, is_telling_corrections=self.guard is not None):
            self._must_persist = True
        return self._to_do()

    def _to_do(self) -> list[Action]:
        actions, self._actions = self._actions, []
        if self._must_persist:
            actions.insert(0, Persist(self.snapshot()))
        if self._must_broadcast:
            actions.append(Broadcast(self.gossip(self._now)))
        self._must_persist = self._must_broadcast = False
        return actions

    def _state(self, now: float) -> GossipState:
        ring = None if self.ring.is_empty else self.ring.state()
        return GossipState(int(now), self.nicknames.copy(), self.knowledge, ring)

    def _restore(self, stored: Snapshot | None) -> bool:
        if stored is None or not stored.ring.entries:
            return False
        misfit = stored.misfit(self.us, self.universe)
        if misfit is not None:
            self.warn(misfit)
            return False
        try:
            self.ring.restore(stored.ring)
        except RingError as error:
            self.warn(f"the stored addresses are dropped, others will tell who owns what: {error}")
            return False
        self.space.set_owned(self.ring.owned())
        self.records = Records(stored.holdings)
        self._hold_recorded()
        return True

    def _hold_recorded(self) -> None:
        """Hand out what is on record to its holders: after a start, or when a range that was lost comes back."""
        for address in self.records.addresses():
            if address in self.space.free:  # not one outside the range, nor one of another peer
                self.space.claim(address)

    # The election

    def _propose(self) -> None:
        if self._election is not None:
            self._election.propose()
        self._must_broadcast = True

    def _conclude(self) -> None:
        agreed = self._election.consensus() if self._election is not None else None
        if agreed is not None and agreed.value:
            self._create_ring(agreed.value)

    def _create_ring(self, peers: Iterable[PeerName]) -> None:
        self.ring.claim_for_peers(sorted(set(peers)))
        self.ring_updated()
        self._must_broadcast = True

    def ring_updated(self) -> None:
        """Follow a change of the ring: what we may give out, and who waits for that."""
        self.is_awaiting_consensus = False
        self._must_persist = True
        for lost in self.space.set_owned(self.ring.owned()):
            self.warn(
                f"the addresses {lost} are in use by containers here, but peer {self.ring.owner(lost.start)} owns them "
                "now and may give them to others; restart these containers"
            )
        if self.reserved is not None:
            self.space.free.remove(self.reserved)
        self._hold_recorded()
        self.waiting.retry()

    # Addresses

    def _release_all(self, ident: str) -> bool:
        cidrs = self.records.remove_all(ident)
        for cidr in cidrs:
            self._give_back(cidr.address)
        self._must_persist = self._must_persist or bool(cidrs)
        return bool(cidrs)

    def _give_back(self, address: int) -> None:
        try:
            self.space.release(address)
        except SpaceError:
            pass  # it was outside the range, or its range went to another peer

    # Messages

    def _read_unicast(self, source: PeerName, payload: bytes) -> None:
        kind, content = codec.decode_unicast(payload)
        if isinstance(content, GossipState):
            self._learn(content, source)
        elif kind is Kind.SPACE_REQUEST:
            if not self.ring.is_empty:
                self._donate(content, source)
        else:
            self.waiting.denied(content, source)

    def _learn(self, state: GossipState, sender: PeerName | None) -> None:
        self.nicknames.learn(state.nicknames)
        if state.ring is not None:
            self._merge(state.ring)
        elif not self.ring.is_empty:
            if sender is not None:
                self._send_ring(sender)
        elif self._election is None:
            pass  # an observer waits to be told
        elif state.paxos is not None:
            if self._election.update(state.paxos):
                if self._election.think():
                    self._must_broadcast = True
                self._conclude()
        elif sender is not None:
            self.establish()

    def _merge(self, theirs: RingState) -> None:
        try:
            is_updated = self.ring.merge(theirs, self.space.is_used)
        except DifferentSeeds:
            received, ours = map(self.nicknames.annotated, (theirs.seeds, self.ring.seeds))
            raise RingError(
                f"IP allocation was seeded by different peers (received: {received}, ours: {ours})"
            ) from None
        except DifferentRange:
            raise RingError(
                "Incompatible IP allocation ranges "
                f"(received: {theirs.limits.as_cidr_text()}, ours: {self.ring.limits.as_cidr_text()})"
            ) from None
        except RingError:
            if self.may_give():
                raise
            return  # our ranges went to an heir while we were away: its ring comes when we resign
        if is_updated:
            owners = self.ring.peers()
            self.nicknames.keep_only(lambda peer: peer in owners or self._peers.is_known(peer))
            self.ring_updated()

    def _donate(self, wanted: Range, to: PeerName) -> None:
        """Give a part of our free space, and the ring in any case: it tells where else there is some."""
        if self.guard is not None and self.guard.offer(wanted, to):
            return  # who asked asks again
        block = self.space.donate(wanted)
        if block is None:
            self._actions.append(SendUnicast(to, codec.space_request_denied(wanted)))
        else:
            self._grant(block, to)
        self._send_ring(to)

    def _grant(self, block: Range, to: PeerName, step: int = 1) -> None:
        self.ring.grant(block.start, block.end, to, step)
        self._must_persist = self._must_broadcast = True

    def _send_ring(self, to: PeerName) -> None:
        self._actions.append(SendUnicast(to, codec.ring_update(self._state(self._now))))

    def heir(self) -> PeerName | None:
        """Choose who gets our ranges: a peer in the mesh before one that is gone, an owner before one without."""
        others = sorted(name for name in self.nicknames if name != self.us)

        def alive_first(is_valid: Callable[[PeerName], bool]) -> PeerName | None:
            return self.ring.heir(is_valid) or next(filter(is_valid, others), None)

        return alive_first(self._peers.is_known) or alive_first(lambda peer: True)
