"""Reclaiming in a running node: the core's timer, its questions, its place on disk, and what an operator asks of it."""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Protocol

import msgspec

from plait.errors import NotFound, PlaitError, StateError, UsageError
from plait.ipam.reclaim import trouble
from plait.ipam.reclaim.core import Reclaim
from plait.ipam.reclaim.estate import AllocatorEstate
from plait.ipam.reclaim.messages import Durable, decode_answer, decode_durable, decode_question, encode
from plait.ipam.reclaim.world import Ask, Instant
from plait.ipam.service import AddressService
from plait.mesh.name import PeerName

_log = logging.getLogger(__name__)

TOPIC = "reclaim"
"""Of the questions to other nodes."""

TICK = 1.0
"""Seconds between two looks at what is due."""

BALLOT_PATIENCE = 8.0
"""Seconds that `plait ipam reclaim` waits for the votes."""

FAREWELL_PATIENCE = 3.0
"""Seconds that a node that leaves waits until enough others know who gets its ranges."""


class Disk(Protocol):
    """Where the core's state is kept (state.Store)."""

    @property
    def reclaim(self) -> bytes | None:
        """What was kept last."""

    def set_reclaim(self, content: bytes) -> None:
        """Keep it. Raises StateError."""


class TwoClocks:
    """The slow clock stands still while the machine sleeps; the fast one takes all steps forward (world.Instant)."""

    def __init__(self) -> None:
        self._boot, self._wall = time.clock_gettime(time.CLOCK_BOOTTIME), time.time()
        self._fast = 0.0

    def now(self) -> Instant:
        """Read both."""
        boot, wall = time.clock_gettime(time.CLOCK_BOOTTIME), time.time()
        self._fast += max(0.0, boot - self._boot, wall - self._wall)
        self._boot, self._wall = boot, wall
        return Instant(time.monotonic(), self._fast)


class Result(msgspec.Struct, frozen=True):
    """What became of a peer's ranges: `reclaimed` of them by us, or why not."""

    peer: str
    addresses: int
    reclaimed: int
    what: str


class ReclaimService:
    """`members` gives the peers in the mesh, `ask` sends a question (Asking.ask), `on_unsaved` hears of errors."""

    def __init__(
        self,
        addresses: AddressService,
        after: float,
        members: Callable[[], Iterable[PeerName]],
        ask: Callable[[PeerName, str, bytes], Awaitable[bytes]],
        disk: Disk,
        on_unsaved: Callable[[StateError], None],
    ) -> None:
        allocator = addresses.allocator
        self._addresses = addresses
        self._ask_peer = ask
        self._disk = disk
        self._on_unsaved = on_unsaved
        self._clocks = TwoClocks()
        self._tasks: set[asyncio.Task[None]] = set()
        self._gave = False
        self._news = asyncio.Event()
        self.estate = AllocatorEstate(
            allocator,
            lambda: (peer for peer in members() if peer != allocator.us),
            addresses.act,
            time.time,
            self._clocks.now,
        )
        rng = random.Random(secrets.randbits(256))
        stored = self._stored()
        self.core = Reclaim(str(allocator.us), after, rng, self.estate, stored, self._clocks.now())
        self.estate.core = self.core
        allocator.guard = self.estate

    def _stored(self) -> Durable:
        content = self._disk.reclaim
        try:
            return Durable() if content is None else decode_durable(content)
        except msgspec.DecodeError as error:
            raise StateError(
                f"what the state file keeps about --reclaim-after cannot be read ({error}): "
                "a newer plait wrote it; run that version, or 'plait reset' to begin afresh"
            ) from error

    async def run(self) -> None:
        """Renew leases and elect heirs, until cancelled."""
        while True:
            self._send(self.core.tick(self._clocks.now()))
            may_give = self.core.may_give(self._clocks.now())
            if may_give and not self._gave:
                self._addresses.tick()  # who waits need not wait for the next one
            self._gave = may_give
            await asyncio.sleep(TICK)

    async def answer(self, body: bytes) -> bytes:
        """Answer a peer. Raises PlaitError for what cannot be read or kept: then there is no answer."""
        try:
            question = decode_question(body)
        except msgspec.DecodeError as error:
            raise UsageError(f"it is no question that this version knows ({error})") from error
        answer = self.core.question(question, self._clocks.now())
        self._save()
        return encode(answer)

    # What an operator asks

    async def reclaim(self, peers: list[str], *, is_dry_run: bool, is_forced: bool) -> list[Result]:
        """Take over the ranges of these peers, or of all that are not in the mesh. Raises NotFound."""
        results = []
        for name in [self._named(peer) for peer in peers] or self._gone():
            size = sum(piece.size for piece in self._addresses.allocator.ring.owned_by(name))
            if is_dry_run:
                results.append(self._foretold(name, size, is_forced))
            elif is_forced:
                won = await self._addresses.takeover(str(name))
                results.append(Result(self._label(name), size, size, f"{size} addresses reclaimed, {won} of them free"))
            else:
                results.append(await self._elect(name, size))
        return results

    def _named(self, peer: str) -> PeerName:
        name = self._addresses.allocator.nicknames.find(peer)
        if name is None or name == self._addresses.allocator.us:
            raise NotFound(
                f"{peer} is {'this peer' if name else 'no known peer'}: 'plait status ipam' lists the owners"
            )
        return name

    def _gone(self) -> list[PeerName]:
        gone = self.estate.owners() - self.estate.members() - {self.core.us}
        return [PeerName.parse(peer) for peer in sorted(gone)]

    def _foretold(self, name: PeerName, size: int, is_forced: bool) -> Result:
        reason = None if is_forced else trouble.why_not(self.core, self.estate, str(name), self._clocks.now())
        return Result(self._label(name), size, 0, f"{size} addresses {reason or 'would be reclaimed'}")

    async def _elect(self, name: PeerName, size: int) -> Result:
        owner, label = str(name), self._label(name)
        reason = trouble.why_not(self.core, self.estate, owner, self._clocks.now())
        if reason is not None:
            return Result(label, size, 0, f"{size} addresses {reason}")
        self._send(self.core.propose(owner, self._clocks.now()))
        await self._until(lambda: bool(self.core.voter.votes[owner].heir), BALLOT_PATIENCE)
        vote = self.core.voter.votes[owner]
        if vote.heir == self.core.us:
            return Result(label, size, size, f"{size} addresses reclaimed")
        if vote.heir:
            return Result(label, size, 0, f"{size} addresses went to {vote.heir}")
        why = self.core.proposer.reasons.get(owner, "too few of its electors answer")
        return Result(label, size, 0, f"{size} addresses not reclaimed: no majority of its electors agreed ({why})")

    def _label(self, name: PeerName) -> str:
        return f"{name}{self._addresses.allocator.nicknames.suffix(name)}"

    # The end

    async def leave(self) -> None:
        """Hand all ranges over to another peer, for good, once enough others know to whom."""
        if self.core.gives_at_once:
            self._addresses.leave()
        elif self.estate.offer_all(self._addresses.leave):
            self._send(self.core.tick(self._clocks.now()))
            await self._until(lambda: not self.estate.is_leaving, FAREWELL_PATIENCE)

    # For status and metrics

    def troubles(self) -> Iterator[tuple[str, str, str]]:
        """Give a key, a sentence and a cure for each thing that is wrong now."""
        return trouble.troubles(self.core, self.estate, self._clocks.now())

    @property
    def is_suspended(self) -> bool:
        """Whether no address may be given out."""
        return not self.core.may_give(self._clocks.now())

    # Within

    async def _until(self, is_so: Callable[[], bool], seconds: float) -> None:
        """Wait until something is so, or for so long."""
        try:
            async with asyncio.timeout(seconds):
                while not is_so():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass

    def _send(self, asks: list[Ask]) -> None:
        self._news.set()
        try:
            self._save()
        except StateError:
            return  # told already; all that was to be asked is asked again
        for ask in asks:
            task = asyncio.get_running_loop().create_task(self._ask(ask))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask(self, ask: Ask) -> None:
        try:
            answer = decode_answer(await self._ask_peer(PeerName.parse(ask.peer), TOPIC, encode(ask.question)))
        except (PlaitError, msgspec.DecodeError) as error:
            _log.debug("no answer of %s about %s: %s", ask.peer, type(ask.question).__name__, error)
            self.core.silent(ask, self._clocks.now())
            return
        self._send(self.core.answered(ask, answer, self._clocks.now()))

    def _save(self) -> None:
        if not self.core.is_dirty:
            return
        try:
            self._disk.set_reclaim(encode(self.core.durable()))
        except StateError as error:
            self._on_unsaved(error)
            raise
        self.core.saved()
