"""The node's end of the pump: starts the process, tells it what the node wants, starts it again when it dies.

It opens nothing and decides nothing about frames. The node never waits for the pump, except for bounded questions.
"""

import asyncio
import logging
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from plait.errors import PlaitError
from plait.host.udp import SleeveSockets
from plait.mesh.name import PeerName
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.outbox import Outbox
from plait.overlay.sleeve.pump.packets import CHUNK_BYTES, BrokenChannel, Joiner, split

START_PATIENCE = 20.0
"""Seconds for a pump to say that it runs; it takes 0.2 s on an idle machine."""

STATS_PATIENCE = 2.0
END_PATIENCE = 2.0
"""Seconds until a pump that was told to end is killed."""

STEADY_SECONDS = 10.0
"""A pump that lived so long is started again at once; one that dies sooner, again and again, with a delay."""

FIRST_DELAY = 0.1
MAX_DELAY = 5.0

_LAST_WORDS_BYTES = 4096
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PumpState:
    """For `status`: the process of the moment, how often it was replaced, and how the last one ended."""

    pid: int | None
    restarts: int
    last_death: str | None
    engine: str = ""
    """What moves super-frames, in a sentence."""


class Pump:
    """The pump of one node. `run` keeps one process alive; what is set before and between lives is not lost."""

    def __init__(
        self,
        name: PeerName,
        port: int,
        tap_fd: int,
        sockets: Sequence[SleeveSockets],
        on_message: Callable[[ipc.FromPump], None],
        on_death: Callable[[str], None],
        *,
        loop: str = "auto",
        wrapper: Sequence[str] = (),
    ) -> None:
        """`on_death` gets a sentence before the next pump starts; encrypted connections are to be renewed then.

        `loop` says what cuts and joins super-frames: "python", "compiled", or "auto", the best there is.
        `wrapper` is a command to run the pump under, such as strace. `sockets` are of one version of IP or of both;
        they and the descriptor stay the caller's.
        """
        self._tap_fd = tap_fd
        self._sockets = sockets
        self._command = (*wrapper, sys.executable, "-m", "plait.overlay.sleeve.pump")
        self._name = name
        self._port = port
        self._loop = loop
        self._engine = ""
        self._on_message = on_message
        self._on_death = on_death
        self._outbox = Outbox()
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()
        self._askers: list[asyncio.Future[ipc.Stats | None]] = []
        self._process: Process | None = None
        self._restarts = 0
        self._last_death: str | None = None

    @property
    def state(self) -> PumpState:
        """How the process does."""
        pid = None if self._process is None else self._process.pid
        return PumpState(pid, self._restarts, self._last_death, self._engine)

    # What the node wants

    def set_path(
        self, peer: PeerName, remote: ipc.Endpoint | None, mtu: int, max_payload: int, stack_frag: bool
    ) -> None:
        """Say where a neighbour is and what fits; without a connection it means nothing."""
        self.send(ipc.SetPath(int(peer), remote, mtu, max_payload, stack_frag))

    def remove_connection(self, peer: PeerName) -> None:
        """Serve a neighbour no longer."""
        self.send(ipc.RemoveConnection(int(peer)))

    def set_routes(
        self, known: Iterable[int], unicast: Mapping[int, int], broadcast: Mapping[int, Sequence[int]]
    ) -> None:
        """Replace all routes."""
        trees = {source: list(hops) for source, hops in broadcast.items()}
        self.send(ipc.SetRoutes(list(known), dict(unicast), trees))

    def set_local_mtu(self, mtu: int) -> None:
        """Say what fits through this host's bridge."""
        self.send(ipc.SetLocalMtu(mtu))

    def send(self, message: ipc.ToPump) -> None:
        """Tell the pump anything; returns at once."""
        self._outbox.put(message)
        self._wake.set()

    async def stats(self) -> ipc.Stats | None:
        """Ask for counters; None if the pump does not answer within STATS_PATIENCE."""
        answer: asyncio.Future[ipc.Stats | None] = asyncio.get_running_loop().create_future()
        self._askers.append(answer)
        self.send(ipc.QueryStats())
        try:
            async with asyncio.timeout(STATS_PATIENCE):
                return await answer
        except TimeoutError:
            return None
        finally:
            if answer in self._askers:
                self._askers.remove(answer)

    # Its life

    async def run(self) -> None:
        """Keep a pump running until cancelled; ends the process on the way out."""
        clock = asyncio.get_running_loop().time
        early_deaths = 0
        try:
            while True:
                started_at = clock()
                self._mourn(await self._live())
                early_deaths = early_deaths + 1 if clock() - started_at < STEADY_SECONDS else 0
                if early_deaths > 1:
                    await asyncio.sleep(min(FIRST_DELAY * 2**early_deaths, MAX_DELAY))
                self._restarts += 1
        finally:
            await self.close()

    async def wait_ready(self) -> None:
        """Wait until a pump runs; raises PlaitError after START_PATIENCE."""
        try:
            async with asyncio.timeout(START_PATIENCE):
                await self._ready.wait()
        except TimeoutError:
            why = self._last_death or "it does not say that it runs"
            raise PlaitError(f"the pump, which carries frames in user space, does not start: {why}") from None

    def use_tap(self, tap_fd: int) -> None:
        """Read another tap from now on, with another process: the one before was removed."""
        self._tap_fd = tap_fd
        if self._process is not None:
            self._process.kill()

    def kill(self) -> None:
        """End a pump that hangs; `run` starts the next one."""
        if self._process is not None:
            _log.warning("the pump (pid %d) does not answer: it is killed and started again", self._process.pid)
            self._process.kill()

    async def close(self) -> None:
        """End the process, if one runs; a pump ends by itself when the node's end of the channel is closed."""
        process, self._process = self._process, None
        if process is None:
            return
        # Not asyncio.timeout: before Python 3.11.3 it raises no TimeoutError in a cancelled task, as `run` mostly is.
        end = asyncio.ensure_future(process.wait())
        await asyncio.wait([end], timeout=END_PATIENCE)
        if not end.done():
            process.kill()
        await end

    async def _live(self) -> str:
        """Let one pump live; gives the sentence about its end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            ours.setblocking(False)
            with theirs:
                try:
                    process = self._process = await self._start(theirs)
                except OSError as error:
                    return f"the pump cannot be started ({error}): free memory or processes on this host"
            self._outbox.start_over()
            if self._askers:
                self._outbox.put(ipc.QueryStats())
            self._wake.set()
            async with asyncio.TaskGroup() as tasks:
                last_words = tasks.create_task(_listen(process))
                carriers = [tasks.create_task(self._read(ours, process)), tasks.create_task(self._write(ours))]
                status = await process.wait()
                for carrier in carriers:
                    carrier.cancel()
            self._process = None
            return _obituary(process.pid, status, last_words.result())

    async def _start(self, channel: socket.socket) -> Process:
        numbers = [("--tap-fd", self._tap_fd), ("--ipc-fd", channel.fileno())]
        for pair in self._sockets:
            numbers += [("--udp-fd", pair.plain.fileno()), ("--df-fd", pair.df.fileno())]
        words = [word for option, fd in numbers for word in (option, str(fd))]
        return await asyncio.create_subprocess_exec(
            *(*self._command, *words, "--name", str(self._name), "--port", str(self._port), "--loop", self._loop),
            stdin=DEVNULL,
            stderr=PIPE,
            pass_fds=[fd for _, fd in numbers],
        )

    def _mourn(self, sentence: str) -> None:
        self._last_death = sentence
        self._ready.clear()
        askers, self._askers = self._askers, []
        for asker in askers:
            if not asker.done():
                asker.set_result(None)
        self._on_death(sentence)

    async def _read(self, channel: socket.socket, process: Process) -> None:
        loop = asyncio.get_running_loop()
        joiner = Joiner()
        try:
            while packet := await loop.sock_recv(channel, CHUNK_BYTES + 1):
                message = joiner.add(packet)
                if message is not None:
                    self._take(ipc.decode_from_pump(message))
        except ConnectionResetError:
            return
        except (BrokenChannel, msgspec.DecodeError) as error:
            _log.error("the pump is ended because it speaks nonsense: %s", error)
            process.kill()

    def _take(self, message: ipc.FromPump) -> None:
        match message:
            case ipc.Stats():
                askers, self._askers = self._askers, []
                for asker in askers:
                    if not asker.done():
                        asker.set_result(message)
            case ipc.Ready(_, engine):
                self._engine = engine
                self._ready.set()
        self._on_message(message)

    async def _write(self, channel: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (message := self._outbox.take()) is not None:
                for packet in split(ipc.encode(message)):
                    try:
                        await loop.sock_sendall(channel, packet)
                    except (BrokenPipeError, ConnectionResetError):
                        return  # Its death is noticed by `_live`.


async def _listen(process: Process) -> str:
    """Read what a pump writes to standard error, which is its last words; gives the end of it."""
    tail = b""
    assert process.stderr is not None  # It was asked for.
    while piece := await process.stderr.read(_LAST_WORDS_BYTES):
        tail = (tail + piece)[-_LAST_WORDS_BYTES:]
    return tail.decode(errors="replace").strip()


def _obituary(pid: int, status: int, last_words: str) -> str:
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    if last_words:
        _log.error("last words of the pump (process %d):\n%s", pid, last_words)
    why = f": {last_words.splitlines()[-1]}" if last_words else ""
    return f"the pump (process {pid}) {how}{why}; frames carried in user space were lost until it was started again"
