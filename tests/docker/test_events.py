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


class Told(asyncio.Queue[str]):
    """A listener that keeps what it hears."""

    def started(self, ident: str) -> None:
        self.put_nowait(f"started {ident}")

    def died(self, ident: str) -> None:
        self.put_nowait(f"died {ident}")

    def destroyed(self, ident: str) -> None:
        self.put_nowait(f"destroyed {ident}")

    def missed(self) -> None:
        self.put_nowait("missed")


@asynccontextmanager
async def watched(address: str) -> AsyncIterator[tuple[Told, Troubles]]:
    """What an engine's watch tells."""
    told = Told()
    troubles = Troubles(Chronicle())
    task = asyncio.create_task(EngineWatch(DockerClient(address), told, troubles).run())
    try:
        yield told, troubles
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def heard(told: Told) -> str:
    async with asyncio.timeout(60):
        return await told.get()


def test_starts_and_ends_are_told_and_nothing_else() -> None:
    async def play(engine: DockerEngine) -> None:
        async with watched(engine.address) as (told, troubles):
            assert await heard(told) == "missed"  # begins with a look at all
            await asyncio.to_thread(engine.run, "web")
            ident = (await DockerClient(engine.address).inspect("web")).ident
            assert await heard(told) == f"started {ident}"
            await asyncio.to_thread(engine.docker, "pause", "web")
            await asyncio.to_thread(engine.docker, "unpause", "web")
            await asyncio.to_thread(engine.docker, "restart", "--time", "0", "web")
            assert [await heard(told) for _ in range(2)] == [f"died {ident}", f"started {ident}"]
            await asyncio.to_thread(engine.docker, "rm", "--force", "web")
            assert [await heard(told) for _ in range(2)] == [f"died {ident}", f"destroyed {ident}"]
            assert troubles.current() == []
            assert told.empty()

    with docker_engine() as engine:
        asyncio.run(play(engine))


def test_an_engine_that_ends_is_a_problem_until_it_is_back() -> None:
    async def play(engine: DockerEngine) -> None:
        assert engine.restart is not None
        async with watched(engine.address) as (told, troubles):
            assert await heard(told) == "missed"
            restarted = asyncio.create_task(asyncio.to_thread(engine.restart))
            async with asyncio.timeout(60):
                while "docker" not in troubles:  # noqa: ASYNC110 - it has no event
                    await asyncio.sleep(0.01)
            assert "are not heard" in troubles.current()[0].what
            await restarted
            while await heard(told) != "missed":  # what ended meanwhile is looked for
                pass
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
