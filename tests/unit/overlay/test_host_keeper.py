"""What a node without a kernel that carries frames tells the others, and its pump, of containers."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from plait.errors import KernelRefused
from plait.mesh.name import PeerName
from plait.overlay.host_keeper import HostKeeper
from plait.overlay.sleeve import ipc

A, B = PeerName(1), PeerName(2)
MAC = bytes.fromhex("aabbcc000001")
OTHER = bytes.fromhex("aabbcc000002")


class Host:
    """A host with containers, and what it was told."""

    def __init__(self) -> None:
        self.here: list[bytes] = []
        self.refusal: Exception | None = None
        self.told: list[ipc.ToPump] = []
        self.news: list[list[bytes]] = []
        self.warnings: list[str] = []
        self.looked = asyncio.Event()
        self.keeper = HostKeeper(
            None,
            self.told.append,
            self.looked.set,
            self.warnings.append,
            remotes=list,
            containers=self._containers,
            on_containers=self._on_containers,
        )

    async def look(self) -> None:
        self.looked.clear()
        self.keeper.ask()
        async with asyncio.timeout(10):
            await self.looked.wait()

    def _containers(self) -> list[bytes]:
        if self.refusal is not None:
            raise self.refusal
        return self.here

    def _on_containers(self, macs: Iterable[bytes]) -> None:
        self.news.append(list(macs))


def play(scene: Callable[[Host], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        host = Host()
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(host.keeper.keep())
            await scene(host)
            keeping.cancel()

    asyncio.run(run())


def test_containers_here_are_told_after_each_look() -> None:
    async def scene(host: Host) -> None:
        host.here = [MAC]
        await host.look()
        assert host.news[-1] == [MAC]

    play(scene)


def test_the_pump_hears_who_has_what() -> None:
    async def scene(host: Host) -> None:
        await host.look()
        host.keeper.announced({MAC: A, OTHER: B})
        assert host.told == [ipc.SetAnnounced({1: [MAC], 2: [OTHER]})]

    play(scene)


def test_a_container_that_came_here_is_here_whatever_its_former_host_says() -> None:
    async def scene(host: Host) -> None:
        host.keeper.announced({MAC: A, OTHER: B})
        host.here = [MAC]
        await host.look()
        assert host.told[-1] == ipc.SetAnnounced({2: [OTHER]})
        assert (host.keeper.announced_by(MAC), host.keeper.announced_by(OTHER)) == (None, B)
        told = len(host.told)
        await host.look()
        assert len(host.told) == told

    play(scene)


def test_a_look_that_fails_is_told_and_made_again() -> None:
    async def scene(host: Host) -> None:
        host.refusal = KernelRefused("no answer")
        await host.look()
        assert host.warnings[-1] == (
            "the containers of this host cannot be looked after (no answer): tried again in a moment"
        )
        host.refusal, host.here = None, [MAC]
        await host.look()
        assert host.news[-1] == [MAC]

    play(scene)
