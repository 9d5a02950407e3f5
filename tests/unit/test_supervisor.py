"""Tasks that die are told of, started again, and in the end take the node along."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from plait.chronicle import Chronicle
from plait.errors import PlaitError, StateError, TaskFailed
from plait.history import Kind
from plait.restarts import FIRST_DELAY, MAX_DEATHS, MAX_DELAY, WINDOW, Restarts
from plait.supervisor import Supervisor, Task
from plait.troubles import Troubles


def test_delays_double_and_the_last_death_is_final() -> None:
    restarts = Restarts()
    delays = [restarts.died(float(number)) for number in range(MAX_DEATHS)]
    assert delays == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY, 8 * FIRST_DELAY, None]
    assert all(delay is None or delay <= MAX_DELAY for delay in delays)


def test_deaths_of_long_ago_do_not_count() -> None:
    restarts = Restarts()
    assert [restarts.died(number * WINDOW) for number in range(20)] == [FIRST_DELAY] * 20


class Bench:
    """A supervisor with all that it tells."""

    def __init__(self) -> None:
        self.chronicle = Chronicle()
        self.troubles = Troubles(self.chronicle)
        self.supervisor = Supervisor(self.troubles, self.chronicle)

    async def kinds(self) -> list[Kind]:
        return [each.kind for each in (await self.chronicle.after(0, 0.0, lambda event: True)).events]


def on_bench(test: Callable[[Bench], Awaitable[None]]) -> None:
    async def run() -> None:
        await test(Bench())

    asyncio.run(run())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plait.restarts.FIRST_DELAY", 0.001)


@pytest.mark.usefixtures("quick")
def test_a_task_that_dies_once_is_told_of_and_started_again(caplog: pytest.LogCaptureFixture) -> None:
    lives: list[int] = []

    async def work() -> None:
        lives.append(1)
        if len(lives) == 1:
            raise ValueError("planted")

    async def test(bench: Bench) -> None:
        await bench.supervisor.keep(Task("work", work))
        assert await bench.kinds() == [Kind.TASK_DIED, Kind.TASK_RESTARTED]
        assert "'work' died (ValueError: planted)" in bench.troubles.current()[0].what
        assert not bench.supervisor.dead

    on_bench(test)
    assert len(lives) == 2
    (death,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert death.exc_info is not None, "the traceback is for the developers"


def test_it_is_dead_while_it_waits() -> None:
    async def test(bench: Bench) -> None:
        async def work() -> None:
            raise ValueError("planted")

        keeping = asyncio.create_task(bench.supervisor.keep(Task("work", work)))
        await asyncio.sleep(0)
        assert bench.supervisor.dead == {"work": "ValueError: planted"}
        keeping.cancel()

    on_bench(test)


@pytest.mark.usefixtures("quick")
def test_one_that_goes_on_dying_ends_the_node() -> None:
    async def test(bench: Bench) -> None:
        async def work() -> None:
            raise ValueError("planted")

        with pytest.raises(TaskFailed, match="'work' died") as caught:
            await bench.supervisor.keep(Task("work", work))
        assert caught.value.exit_code == TaskFailed.exit_code
        assert (await bench.kinds()).count(Kind.TASK_DIED) == MAX_DEATHS

    on_bench(test)


def test_a_vital_one_ends_the_node_at_once() -> None:
    async def test(bench: Bench) -> None:
        async def work() -> None:
            raise ValueError("planted")

        with pytest.raises(TaskFailed, match="cannot be started again alone"):
            await bench.supervisor.keep(Task("mesh", work, is_vital=True))

    on_bench(test)


def test_an_explained_error_keeps_its_sentence_and_code(caplog: pytest.LogCaptureFixture) -> None:
    async def test(bench: Bench) -> None:
        async def work() -> None:
            raise StateError("the disk is full")

        with pytest.raises(StateError, match="the disk is full"):
            await bench.supervisor.keep(Task("mesh", work, is_vital=True))

    on_bench(test)
    assert not any(record.exc_info for record in caplog.records)


def test_a_function_of_the_event_loop_is_guarded_alike() -> None:
    async def test(bench: Bench) -> None:
        calls: list[int] = []

        def call() -> None:
            calls.append(1)
            if len(calls) != 2:
                raise ValueError("planted")

        guard = bench.supervisor.guarded("ring", call)
        watch = asyncio.create_task(bench.supervisor.watch())
        guard()
        assert "ring" in bench.supervisor.dead
        guard()
        assert not bench.supervisor.dead
        for _ in range(MAX_DEATHS):
            guard()
        with pytest.raises(PlaitError, match="'ring' died"):
            await watch

    on_bench(test)
