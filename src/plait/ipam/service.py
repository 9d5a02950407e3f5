"""The allocator in a running node: its gossip channel, its timer, its place on disk, and the requests that wait.

It decides nothing: the allocator says what is to be done, and this does it, what must be durable first.
"""

import asyncio
import itertools
import random
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from plait.errors import PlaitError, StateError
from plait.ipam.actions import Action, Broadcast, Cancelled, Persist, Refuse, Reply, RequestId, SendUnicast, Warn
from plait.ipam.address import Cidr
from plait.ipam.allocator import Allocator
from plait.ipam.records import Holding, Snapshot
from plait.ipam.requests import Claim
from plait.ipam.settings import TICK, Peers, Settings
from plait.mesh.gossip import GossipData, GossipRefused
from plait.mesh.name import PeerName

CHANNEL = "IPallocation"
"""Weave's gossip channel of address allocation."""


class Mesh(Peers, Protocol):
    """What the mesh knows, and what it sends for us."""

    def unicast(self, peer: PeerName, payload: bytes) -> None:
        """Send to one peer, if there is a way to it."""

    def broadcast(self, news: GossipData) -> None:
        """Send to all peers."""

    def flush(self) -> None:
        """Let what was sent go out: after requests and ticks, not while a message is being received."""


class Disk(Protocol):
    """Where the allocator's state is kept (state.Store)."""

    @property
    def addresses(self) -> Snapshot | None:
        """What was kept last."""

    def set_addresses(self, snapshot: Snapshot) -> None:
        """Keep it. Raises StateError."""


class _State:
    """All that we know, encoded when its turn comes. Relays of Weave, too, send their own state on."""

    def __init__(self, service: "AddressService") -> None:
        self._service = service

    def merged(self, newer: GossipData) -> GossipData:
        """Give the same: it is always the newest."""
        return newer

    def encode(self) -> Iterable[bytes]:
        """Give one payload; none while what we know is not durable."""
        payload = self._service.payload()
        return [] if payload is None else [payload]


class AddressService:
    """Owner of the channel, and what the node and its API ask for addresses.

    Requests raise Refused with the allocator's words, Cancelled for one that ended without an answer, and StateError
    while the answer cannot be made durable. `warn` gets sentences for the operator, `on_unsaved` a StateError.
    """

    def __init__(
        self,
        settings: Settings,
        default_subnet: Cidr,
        mesh: Mesh,
        disk: Disk,
        warn: Callable[[str], None],
        on_unsaved: Callable[[StateError], None],
        rng: random.Random | None = None,
    ) -> None:
        self.default_subnet = default_subnet
        self.tracker = ""
        """Who follows the owned ranges (api.model.Addresses)."""
        self.allocator = Allocator(settings, mesh, rng or random.Random(secrets.randbits(256)))
        self._mesh = mesh
        self._disk = disk
        self._warn = warn
        self._on_unsaved = on_unsaved
        self._ids = itertools.count(1)
        self._waiting: dict[RequestId, asyncio.Future[int | None]] = {}
        self._ready = asyncio.Event()
        self._unsaved: Snapshot | None = None
        self._failure = StateError("the addresses are not kept yet")
        self._busy: dict[str, int] = {}
        self._carry_out(self.allocator.start(_now(), disk.addresses))

    def open(self) -> None:
        """Take requests from now on: the targets are known, and with them how many peers must agree."""
        self._ready.set()

    async def run(self) -> None:
        """Tick for ever."""
        await self._ready.wait()
        while True:
            await asyncio.sleep(TICK)
            self.tick()

    def tick(self) -> None:
        """Try again what waits."""
        self._do(self.allocator.tick(_now()))

    # Requests

    async def allocate(self, ident: str, subnet: Cidr, *, is_container: bool = True) -> Cidr:
        """Give an address of the subnet, with its prefix length; waits while none is free."""
        address = await self._ask(
            lambda request: self.allocator.allocate(_now(), request, ident, subnet, is_container=is_container)
        )
        if address is None:
            raise Cancelled(f"the request of {ident} for an address ended without one")
        return Cidr(address, subnet.prefix_length)

    async def claim(
        self, ident: str, cidr: Cidr, *, is_container: bool = True, no_error_on_unknown: bool = False
    ) -> None:
        """Take this address; with `no_error_on_unknown` at once if its owner cannot be asked."""
        await self._ask(
            lambda request: self.allocator.claim(
                _now(), request, ident, cidr, is_container=is_container, no_error_on_unknown=no_error_on_unknown
            )
        )

    async def prime(self) -> None:
        """Wait until the range is divided."""
        await self._ask(lambda request: self.allocator.prime(_now(), request))

    async def free(self, ident: str, address: int) -> None:
        """Release one address."""
        await self._ask(lambda request: self.allocator.free(_now(), request, ident, address))

    async def delete(self, ident: str) -> None:
        """Release all addresses of an ident."""
        await self._ask(lambda request: self.allocator.delete(_now(), request, ident))

    async def takeover(self, peer: str, *, force: bool = False) -> int:
        """Take over the ranges of a peer that is gone for good; gives how many free addresses that brought."""
        won = await self._ask(lambda request: self.allocator.takeover(_now(), request, peer, force=force))
        return won or 0

    def lookup(self, ident: str, subnet: Cidr) -> list[Cidr]:
        """Give the addresses an ident has in a subnet."""
        return self.allocator.lookup(ident, subnet)

    def owned(self) -> dict[str, Holding]:
        """Give all that is recorded, by ident."""
        return self.allocator.records.copy()

    def leave(self, heir: PeerName | None = None) -> None:
        """Hand all ranges over to another peer, for good."""
        self._do(self.allocator.shutdown(_now(), heir))

    def act(self, actions: list[Action]) -> None:
        """Do what the allocator says to somebody who knows it well (ipam.reclaim)."""
        self._carry_out(actions)
        asyncio.get_running_loop().call_soon(self._mesh.flush)

    def found(self, claims: Iterable[Claim]) -> None:
        """Take note of addresses that are in use on this host; what is not ours is told to the operator."""
        self._do(self.allocator.claim_found(_now(), claims))

    def census(self, alive: Iterable[str]) -> None:
        """Hear which containers live: what others hold is released after a while."""
        self._do(self.allocator.census(_now(), {*alive, *self._busy}))

    def container_started(self, ident: str) -> None:
        """Hear that a container starts: it keeps what it had."""
        self._do(self.allocator.container_started(_now(), ident))

    def container_died(self, ident: str) -> None:
        """Hear that a container died: what it holds is released after a while, and its requests end."""
        self._do(self.allocator.container_died(_now(), ident))

    def container_destroyed(self, ident: str) -> None:
        """Hear that a container is gone for good: what it holds is released."""
        self._do(self.allocator.container_destroyed(_now(), ident))

    def hold(self, ident: str) -> "Hold":
        """While this is entered, a container that is not attached yet counts as alive."""
        return Hold(self._busy, ident)

    def peer_gone(self, peer: PeerName) -> None:
        """Hear that the mesh forgot a peer; called while the mesh tells its events."""
        self._carry_out(self.allocator.peer_gone(_now(), peer))

    # Gossiper

    def payload(self) -> bytes | None:
        """What we tell others, None while it is not durable: what they build on must survive our crash."""
        return self.allocator.gossip(_now()) if self._save() else None

    def everything(self) -> GossipData | None:
        """All that we know."""
        return _State(self)

    def receive(self, payload: bytes, now: float) -> GossipData | None:
        """Merge; never news for others, who hear of it by everybody's regular gossip. Raises GossipRefused."""
        self._carry_out(self.allocator.receive_gossip(_now(), payload))
        return None

    def receive_broadcast(self, source: PeerName, payload: bytes, now: float) -> GossipData | None:
        """Merge, and relay our own state in its place."""
        self._carry_out(self.allocator.receive_broadcast(_now(), source, payload))
        return _State(self)

    def receive_unicast(self, source: PeerName, payload: bytes, now: float) -> None:
        """Take a request for space, or its answer."""
        self._carry_out(self.allocator.receive_unicast(_now(), source, payload))

    # Within

    async def _ask(self, begin: Callable[[RequestId], list[Action]]) -> int | None:
        await self._ready.wait()
        request = next(self._ids)
        answer: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._waiting[request] = answer
        try:
            self._do(begin(request))
            return await answer
        finally:
            if self._waiting.pop(request, None) is not None:
                self.allocator.cancel(request)

    def _do(self, actions: list[Action]) -> None:
        try:
            self._carry_out(actions)
        finally:
            self._mesh.flush()

    def _carry_out(self, actions: list[Action]) -> None:
        refusal: PlaitError | None = None
        for action in actions:
            match action:
                case Persist(snapshot):
                    self._unsaved = snapshot
                    self._save()
                case Reply(request, result):
                    self._answer(request, result)
                case SendUnicast(peer, payload):
                    if self._save():  # else the peer asks again
                        self._mesh.unicast(peer, payload)
                case Broadcast():
                    self._mesh.broadcast(_State(self))
                case Refuse(error):
                    refusal = error
                case Warn(sentence):
                    self._warn(sentence)
        if refusal is not None:
            raise GossipRefused(str(refusal)) from refusal

    def _save(self) -> bool:
        """Whether all that the allocator decided is durable; what could not be written is tried again here."""
        if self._unsaved is None:
            return True
        try:
            self._disk.set_addresses(self._unsaved)
        except StateError as error:
            self._failure = error
            self._on_unsaved(error)
            return False
        self._unsaved = None
        return True

    def _answer(self, request: RequestId, result: int | PlaitError | None) -> None:
        answer = self._waiting.pop(request, None)
        if answer is None or answer.done():
            return  # its client went
        if isinstance(result, PlaitError):
            answer.set_exception(result)
        elif not self._save():
            answer.set_exception(self._failure)
        else:
            answer.set_result(result)


class Hold:
    """A container that is being attached."""

    def __init__(self, busy: dict[str, int], ident: str) -> None:
        self._busy = busy
        self._ident = ident

    def __enter__(self) -> None:
        self._busy[self._ident] = self._busy.get(self._ident, 0) + 1

    def __exit__(self, *error: object) -> None:
        self._busy[self._ident] -= 1
        if not self._busy[self._ident]:
            del self._busy[self._ident]


def _now() -> float:
    return time.time()
