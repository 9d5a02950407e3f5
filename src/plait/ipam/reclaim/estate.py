"""The allocator as the core of reclaiming sees it, and the core as the allocator sees it. Pure: `do` acts."""

from collections.abc import Callable, Iterable

from plait.errors import PlaitError
from plait.ipam import codec
from plait.ipam.actions import Action
from plait.ipam.address import Range
from plait.ipam.allocator import Allocator
from plait.ipam.codec import GossipState
from plait.ipam.reclaim.core import Reclaim
from plait.ipam.reclaim.world import Instant
from plait.ipam.requests import Claim
from plait.ipam.ring import GIFT_STEP, RECLAIM_STEP, Ring
from plait.mesh.name import PeerName


class AllocatorEstate:
    """Implements `world.Estate` and `settings.Guard`. `core` is set before anything is asked.

    `time` gives Unix seconds, `instant` the two clocks, `members` the peers in the mesh without us.
    """

    core: Reclaim

    def __init__(
        self,
        allocator: Allocator,
        members: Callable[[], Iterable[PeerName]],
        do: Callable[[list[Action]], None],
        time: Callable[[], float],
        instant: Callable[[], Instant],
    ) -> None:
        self._allocator = allocator
        self._members = members
        self._do = do
        self._time = time
        self._instant = instant
        self._gift: tuple[Range, PeerName] | None = None
        self._farewell: tuple[Callable[[PeerName], None], PeerName] | None = None
        self.taken = 0

    # Guard

    @property
    def electors(self) -> int:
        """See Guard."""
        own = self.core.owner.own
        return 0 if own is None else len(own.in_force.electors)

    def may_give(self) -> bool:
        """See Guard."""
        return self._farewell is None and self.core.may_give(self._instant())

    def offer(self, wanted: Range, to: PeerName) -> bool:
        """Reserve a block, and have the electors told; one at a time."""
        if self.core.gives_at_once:
            return False
        if self._gift is None and self.may_give():
            block = self._allocator.space.donate(wanted)
            if block is None:
                return False
            self._gift = block, to
            self._allocator.reserved = block
            self.core.owner.gift_offered()
        return True

    @property
    def is_leaving(self) -> bool:
        """True from `offer_all` on until others know who gets our ranges, and they went."""
        return self._farewell is not None

    def offer_all(self, leave: Callable[[PeerName], None]) -> bool:
        """Give nothing from now on, have the electors told who gets all, then `leave`; False without a lease."""
        heir = self._allocator.heir()
        if heir is None or not self.may_give() or self._gift is not None:
            return False
        self._farewell = leave, heir
        self.core.owner.gift_offered()
        return True

    # Estate

    def owners(self) -> set[str]:
        """See Estate."""
        return set(map(str, self._allocator.ring.peers()))

    def members(self) -> set[str]:
        """See Estate."""
        return set(map(str, self._members()))

    def ring(self) -> bytes:
        """See Estate."""
        ring = self._allocator.ring
        if ring.is_empty:
            return b""
        copy = Ring(ring.limits, ring.us)
        copy.restore(ring.state())
        if self._farewell is not None:
            copy.transfer(ring.us, self._farewell[1])
        elif self._gift is not None:
            block, to = self._gift
            try:
                copy.grant(block.start, block.end, to, GIFT_STEP)
            except ValueError:
                return _encoded(ring)  # not ours any more: it will not be given
        return _encoded(copy)

    def plain_ring(self) -> bytes:
        """See Estate."""
        ring = self._allocator.ring
        return b"" if ring.is_empty else _encoded(ring)

    def learn(self, ring: bytes) -> bool:
        """See Estate."""
        if not ring:
            return True
        allocator = self._allocator
        try:
            learnt = codec.decode_state(ring).ring
            if learnt is None:
                return False
            is_news = allocator.ring.merge(learnt, allocator.space.is_used)
        except PlaitError:
            return False
        if is_news:
            self._do(allocator.change_ring(self._time(), lambda: None))
        return True

    def take(self, owner: str) -> None:
        """See Estate."""
        allocator = self._allocator
        giver = PeerName.parse(owner)
        before = sum(piece.size for piece in allocator.ring.owned())
        self._do(
            allocator.change_ring(self._time(), lambda: allocator.ring.transfer(giver, allocator.us, RECLAIM_STEP))
        )
        self.taken += sum(piece.size for piece in allocator.ring.owned()) - before

    def give_up(self, heir: str) -> None:
        """See Estate."""
        allocator, taker = self._allocator, PeerName.parse(heir)
        self._gift = allocator.reserved = None
        if allocator.ring.owned():
            self._do(allocator.change_ring(self._time(), lambda: allocator.ring.transfer(allocator.us, taker, 1)))

    def resign(self) -> None:
        """See Estate."""
        self._do(self._allocator.change_ring(self._time(), self._claim_all))

    def _claim_all(self) -> None:
        allocator = self._allocator
        for ident, holding in allocator.records:
            for cidr in holding.cidrs:
                if not allocator.may_use(cidr):
                    allocator.records.remove(ident, cidr.address)
                    allocator.waiting.claims.append(Claim(None, ident, cidr, holding.is_container))

    def confirm(self) -> None:
        """See Estate."""
        if self._farewell is not None:
            (leave, heir), self._farewell = self._farewell, None
            leave(heir)
        elif self._gift is not None:
            (block, to), self._gift = self._gift, None
            self._do(self._allocator.give(self._time(), block, to))


def _encoded(ring: Ring) -> bytes:
    return codec.encode_state(GossipState(0, {}, None, ring.state()))
