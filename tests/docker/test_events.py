"""What a real Docker engine tells of the ends of containers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from plait.chronicle import Chronicle
from plait.docker.client import DockerClient
from plait.docker.events import EngineWatch
from plait.testing.docker import DockerEngine, docker_engine, why_not
from plait.troubles import Troubles

_MISSING = why_not()
pytestmark = pytest.mark.skipif(_MISSING is not None, reason=_MISSING or "")


@asynccontextmanager
async def watched(address: str) -> AsyncIterator[tuple[asyncio.Queue[None], Troubles]]:
    """What an engine's watch tells: an item for each time that containers are to be looked at."""
    told: asyncio.Queue[None] = asyncio.Queue()
    troubles = Troubles(Chronicle())
    task = asyncio.create_task(EngineWatch(DockerClient(address), lambda: told.put_nowait(None), troubles).run())
    try:
        yield told, troubles
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def heard(told: asyncio.Queue[None]) -> None:
    async with asyncio.timeout(60):
        await told.get()


def test_an_end_is_told_and_nothing_else() -> None:
    async def play(engine: DockerEngine) -> None:
        async with watched(engine.address) as (told, troubles):
            await heard(told)  # begins with a look at all
            await asyncio.to_thread(engine.run, "web")
            assert told.empty()
            await asyncio.to_thread(engine.docker, "kill", "web")
            await heard(told)
            assert troubles.current() == []

    with docker_engine() as engine:
        asyncio.run(play(engine))


def test_an_engine_that_ends_is_a_problem_until_it_is_back() -> None:
    async def play(engine: DockerEngine) -> None:
        assert engine.restart is not None
        async with watched(engine.address) as (told, troubles):
            await heard(told)
            restarted = asyncio.create_task(asyncio.to_thread(engine.restart))
            async with asyncio.timeout(60):
                while "docker" not in troubles:  # noqa: ASYNC110 - it has no event
                    await asyncio.sleep(0.01)
            assert "are not heard" in troubles.current()[0].what
            await restarted
            await heard(told)  # what ended meanwhile is looked for
            assert "docker" not in troubles

    with docker_engine() as engine:
        asyncio.run(play(engine))


def test_a_host_without_an_engine_has_no_problem() -> None:
    async def play() -> None:
        async with watched("unix:///nonexistent/docker.sock") as (told, troubles):
            await asyncio.sleep(0.2)
            assert told.empty()
            assert troubles.current() == []

    asyncio.run(play())
