"""Pumps that cannot live, played by small programs in their place."""

import asyncio
import os
import sys
from collections.abc import Iterator

import pytest

from plait.errors import PlaitError
from plait.host import udp
from plait.mesh.name import PeerName
from plait.overlay.sleeve import ipc, supervisor
from plait.overlay.sleeve.supervisor import Pump

NAME = PeerName.parse("7a:00:00:00:00:01")
HANGS = "import sys; sys.stdin = None; import time; time.sleep(3600)"
FAILS = "raise SystemExit('no luck today')"
BABBLES = """
import socket, sys
words = sys.argv
channel = socket.socket(fileno=int(words[words.index('--ipc-fd') + 1]))
channel.send(b'\\x00\\xc1nonsense')
channel.recv(1)
"""

SPEAKS = """
import socket, sys
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.pump.packets import split
words = sys.argv
channel = socket.socket(fileno=int(words[words.index('--ipc-fd') + 1]))
said = ' '.join(words[words.index(option) + 1] for option in ('--port', '--loop', '--name'))
for packet in split(ipc.encode(ipc.Ready(7, said))):
    channel.send(packet)
channel.recv(1)
while channel.recv(1):
    pass
"""


class Stage:
    """A supervisor whose pump is a program of ours."""

    def __init__(self, tap_fd: int, sockets: udp.SleeveSockets, *wrapper: str, loop: str = "auto") -> None:
        self.messages: list[ipc.FromPump] = []
        self.deaths: list[str] = []
        self.died = asyncio.Event()
        self.pump = Pump(
            NAME, 6783, tap_fd, [sockets], self.messages.append, self._on_death, loop=loop, wrapper=wrapper
        )

    async def wait_deaths(self, number: int) -> None:
        async with asyncio.timeout(20):
            while len(self.deaths) < number:
                self.died.clear()
                await self.died.wait()

    def _on_death(self, sentence: str) -> None:
        self.deaths.append(sentence)
        self.died.set()


@pytest.fixture
def descriptors() -> Iterator[tuple[int, udp.SleeveSockets]]:
    tap_fd = os.eventfd(0, os.EFD_NONBLOCK)
    with udp.open_sleeve_sockets("127.0.0.1", 0) as sockets:
        yield tap_fd, sockets
    os.close(tap_fd)


async def end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def play(descriptors: tuple[int, udp.SleeveSockets], deaths: int, *wrapper: str) -> Stage:
    """Let the pump die so many times."""

    async def scenario() -> Stage:
        stage = Stage(*descriptors, *wrapper)
        task = asyncio.create_task(stage.pump.run())
        await stage.wait_deaths(deaths)
        await end(task)
        return stage

    return asyncio.run(scenario())


def test_a_pump_that_fails_is_tried_again(descriptors: tuple[int, udp.SleeveSockets]) -> None:
    stage = play(descriptors, 3, sys.executable, "-c", FAILS)
    assert "status 1: no luck today" in stage.deaths[0]
    assert stage.pump.state.restarts >= 2
    assert stage.pump.state.pid is None
    assert stage.pump.state.last_death == stage.deaths[-1]


def test_a_pump_that_cannot_be_started(descriptors: tuple[int, udp.SleeveSockets]) -> None:
    stage = play(descriptors, 2, "/nowhere/at-all")
    assert "cannot be started" in stage.deaths[0]


def test_a_pump_that_speaks_nonsense_is_ended(descriptors: tuple[int, udp.SleeveSockets]) -> None:
    stage = play(descriptors, 1, sys.executable, "-c", BABBLES)
    assert "SIGKILL" in stage.deaths[0]
    assert stage.messages == []


def test_a_pump_that_never_says_that_it_runs(
    descriptors: tuple[int, udp.SleeveSockets], monkeypatch: pytest.MonkeyPatch
) -> None:
    for patience in ("START_PATIENCE", "STATS_PATIENCE", "END_PATIENCE"):
        monkeypatch.setattr(supervisor, patience, 0.1)

    async def scenario() -> None:
        stage = Stage(*descriptors, sys.executable, "-c", HANGS)
        task = asyncio.create_task(stage.pump.run())
        with pytest.raises(PlaitError, match="does not start"):
            await stage.pump.wait_ready()
        assert await stage.pump.stats() is None
        pid = stage.pump.state.pid
        assert pid is not None
        # It does not end by itself either when the channel closes, so it is killed.
        await end(task)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    asyncio.run(scenario())


def test_the_pump_is_told_its_port_and_loop_and_says_what_it_works_with(
    descriptors: tuple[int, udp.SleeveSockets],
) -> None:
    async def scenario() -> None:
        stage = Stage(*descriptors, sys.executable, "-c", SPEAKS, loop="python")
        assert stage.pump.state.engine == ""
        task = asyncio.create_task(stage.pump.run())
        await stage.pump.wait_ready()
        assert stage.pump.state.engine == "6783 python 7a:00:00:00:00:01"
        assert stage.messages == [ipc.Ready(7, "6783 python 7a:00:00:00:00:01")]
        await end(task)

    asyncio.run(scenario())


def test_questions_to_a_pump_that_dies_are_answered(descriptors: tuple[int, udp.SleeveSockets]) -> None:
    async def scenario() -> None:
        stage = Stage(*descriptors, sys.executable, "-c", BABBLES)
        question = asyncio.create_task(stage.pump.stats())
        await asyncio.sleep(0)
        task = asyncio.create_task(stage.pump.run())
        assert await question is None
        await end(task)

    asyncio.run(scenario())


def test_close_without_a_process(descriptors: tuple[int, udp.SleeveSockets]) -> None:
    async def scenario() -> None:
        await Stage(*descriptors).pump.close()

    asyncio.run(scenario())
