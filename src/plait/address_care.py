"""What a node does about addresses besides giving them: looks for what is wrong, here and at its peers; reclaims."""

import asyncio
from collections.abc import Iterator

import msgspec

from plait import holdings
from plait.api import model
from plait.asking import Asking
from plait.config import Config
from plait.errors import NotFound, PlaitError, StateError
from plait.ipam.check import Finding, Use, check
from plait.ipam.check_all import Account, account, check_all, decode
from plait.ipam.reclaim.service import TOPIC as RECLAIM_TOPIC
from plait.ipam.reclaim.service import ReclaimService
from plait.ipam.service import AddressService
from plait.mesh.name import PeerName
from plait.mesh.router import Router
from plait.startup import range_overlap
from plait.state import Store
from plait.troubles import Troubles

TOPIC = "ipam-check"
"""Of the question for a node's account of its addresses."""

MAX_ASKED_AT_ONCE = 64

TELL_INTERVAL = 2.0
"""Seconds between two looks at what is to be told of leases."""


class AddressCare:
    """`addresses` is None without an allocator."""

    def __init__(
        self,
        config: Config,
        store: Store,
        router: Router,
        addresses: AddressService | None,
        asking: Asking,
        troubles: Troubles,
    ) -> None:
        self._config = config
        self._store = store
        self._router = router
        self._addresses = addresses
        self._asking = asking
        self._troubles = troubles
        self._told: set[str] = set()
        self._slots = asyncio.Semaphore(MAX_ASKED_AT_ONCE)
        self.reclaiming: ReclaimService | None = None
        asking.answers(TOPIC, self._answer)
        if addresses is not None:
            self.reclaiming = ReclaimService(
                addresses,
                config.reclaim_after,
                lambda: list(router.peers),
                asking.ask,
                store,
                lambda error: troubles.report("state", str(error)),
            )
            asking.answers(RECLAIM_TOPIC, self.reclaiming.answer)

    async def keep_leases(self) -> None:
        """Renew leases and elect heirs, until cancelled."""
        if self.reclaiming is not None:
            await self.reclaiming.run()

    async def keep_telling(self) -> None:
        """Report what keeps addresses from being given out or reclaimed, until cancelled."""
        while True:
            await asyncio.sleep(TELL_INTERVAL)
            current = {key: (what, cure) for key, what, cure in self._current()}
            for key, (what, cure) in current.items():
                self._troubles.report(f"reclaim {key}", what, cure, varies=True)
            for key in self._told - current.keys():
                self._troubles.clear(f"reclaim {key}")
            self._told = set(current)

    def _current(self) -> Iterator[tuple[str, str, str]]:
        if self.reclaiming is None or self._addresses is None or self.reclaiming.core.is_off:
            return
        yield from self.reclaiming.troubles()
        allocator = self._addresses.allocator
        for use, owner in lost_uses(self._addresses, holdings.uses(self._store)):
            yield (
                f"lost {use.cidr}",
                f"{use.ident} has the address {use.cidr.partition('/')[0]}, which went to peer "
                f"{owner}{allocator.nicknames.suffix(owner)} while this node was away, and may be given to others",
                f"'plait detach {use.cidr} {use.ident}', and attach it without an address",
            )

    # Checks

    async def check(self) -> list[Finding]:
        """Look at this node."""
        allocator = None if self._addresses is None else self._addresses.allocator
        overlap = await asyncio.to_thread(range_overlap, self._config)
        return list(check(allocator, holdings.uses(self._store), self._router.peers, overlap))

    async def check_all(self) -> list[Finding]:
        """Look at this node, and have all peers look at themselves."""
        us = self._router.peers.ourself.name
        others = [peer for peer in self._router.peers if peer != us]
        told = await asyncio.gather(*(self._ask(peer) for peer in others))
        accounts = {self._label(us): await self._account()}
        silent: dict[str, str] = {}
        for peer, answer in zip(others, told, strict=True):
            if isinstance(answer, Account):
                accounts[self._label(peer)] = answer
            else:
                silent[self._label(peer)] = answer
        return list(check_all(accounts, silent))

    async def _ask(self, peer: PeerName) -> Account | str:
        async with self._slots:
            try:
                return decode(await self._asking.ask(peer, TOPIC))
            except PlaitError as error:
                return str(error)
            except msgspec.DecodeError:
                return "its answer cannot be read: it is another version of plait"

    async def _account(self) -> Account:
        allocator = None if self._addresses is None else self._addresses.allocator
        owned = allocator.space.owned() if allocator is not None and allocator.may_give() else []
        return account(await self.check(), holdings.uses(self._store), owned)

    async def _answer(self, question: bytes) -> bytes:
        return msgspec.json.encode(await self._account())

    def _label(self, peer: PeerName) -> str:
        return self._router.peers.label(peer)

    # What an operator does

    async def reclaim(self, peers: list[str], *, is_dry_run: bool, is_forced: bool) -> list[model.Reclaimed]:
        """See NodeService."""
        if self.reclaiming is None:
            raise NotFound("this node gives out no addresses: it was launched with an empty --ipalloc-range")
        results = await self.reclaiming.reclaim(peers, is_dry_run=is_dry_run, is_forced=is_forced)
        return [model.Reclaimed(each.peer, each.addresses, each.reclaimed, each.what) for each in results]

    async def leave(self) -> None:
        """Hand all ranges over to another peer."""
        if self.reclaiming is not None:
            try:
                await self.reclaiming.leave()
            except StateError as error:
                self._troubles.report("state", str(error))


def lost_uses(addresses: AddressService, uses: Iterator[Use]) -> Iterator[tuple[Use, PeerName]]:
    """Give the addresses in use here that were given once, and that another peer owns now."""
    allocator = addresses.allocator
    waiting = {(claim.ident, claim.cidr.address) for claim in allocator.waiting.claims}
    for use in uses:
        address = None if ":" in use.cidr else holdings.address_of(use.cidr)
        if address is None or address not in allocator.universe.range or allocator.ring.is_empty:
            continue
        owner = allocator.ring.owner(address)
        if owner != allocator.us and (use.ident, address) not in waiting:
            yield use, owner
