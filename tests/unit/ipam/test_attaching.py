"""What words about addresses mean to containers and the host, with an allocator and without."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from plait.errors import AddressConflict, NotFound, PlaitError, UsageError
from plait.ipam.actions import Refused
from plait.ipam.address import Cidr
from plait.ipam.attaching import HOST, Attaching
from plait.ipam.paxos import Voter
from plait.ipam.service import AddressService
from plait.ipam.settings import Settings
from plait.mesh.gossip import GossipData
from plait.mesh.name import PeerName
from plait.state import Store

US = PeerName(0x020000000001)
Test = Callable[["World"], Coroutine[Any, Any, None]]


class Alone:
    """A mesh of one."""

    def is_known(self, peer: PeerName) -> bool:
        return peer == US

    def why_unreachable(self, peer: PeerName) -> str | None:
        return f"unknown relay destination: {peer}"

    def quorum(self) -> int:
        return 1

    def unicast(self, peer: PeerName, payload: bytes) -> None:
        raise AssertionError("nobody is there")

    def broadcast(self, news: GossipData) -> None:
        assert list(news.encode())

    def flush(self) -> None:
        pass


class Kernel:
    """Interfaces with addresses; `broken` refuses new ones."""

    def __init__(self) -> None:
        self.has: dict[str, list[str]] = {}
        self.broken = False

    async def ident_of(self, container_text: str) -> str:
        return container_text

    recorded_ident = ident_of

    async def attach(self, container_text: str, cidrs: list[str], multicast_route: bool = True) -> list[str]:
        if self.broken:
            raise AddressConflict("no")
        self.has.setdefault(container_text, []).extend(cidrs)
        return [cidr.partition("/")[0] for cidr in cidrs]

    async def detach(self, container_text: str, cidrs: list[str]) -> list[str]:
        had = self.has.pop(container_text, [])
        self.has[container_text] = [cidr for cidr in had if cidrs and cidr not in cidrs]
        return [cidr.partition("/")[0] for cidr in had if not cidrs or cidr in cidrs]

    async def expose(self, cidrs: list[str], masquerade: bool = True) -> list[str]:
        return await self.attach(HOST, cidrs)

    async def hide(self, cidrs: list[str]) -> list[str]:
        return await self.detach(HOST, cidrs)


class World:
    def __init__(self, store: Store) -> None:
        self.warnings: list[str] = []
        self.kernel = Kernel()
        self.addresses = AddressService(
            Settings(Voter(US, 1), "us", Cidr.parse("10.32.0.0/29")),
            Cidr.parse("10.32.0.0/29"),
            Alone(),
            store,
            self.warnings.append,
            lambda error: self.warnings.append(str(error)),
        )
        self.addresses.open()
        self.attaching = Attaching(self.kernel, self.addresses)

    def held(self) -> dict[str, list[str]]:
        return {ident: list(map(str, holding.cidrs)) for ident, holding in self.addresses.owned().items()}


def play(directory: Path, test: Test) -> None:
    async def run(store: Store) -> None:
        await test(World(store))

    with Store(directory) as store:
        asyncio.run(run(store))


def test_addresses_are_chosen_kept_and_released(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        attaching = world.attaching
        assert await attaching.attach("c1", [], True) == ["10.32.0.1"]
        assert await attaching.attach("c1", ["net:default"], True) == ["10.32.0.1"]
        assert await attaching.attach("c2", ["10.32.0.3/29", "10.9.9.9/24", "fd00::1/64"], True) == [
            *("10.32.0.3", "10.9.9.9", "fd00::1")
        ]
        assert await attaching.expose([], True) == ["10.32.0.2"]
        assert await attaching.attach("c3", ["net:10.32.0.4/30"], True) == ["10.32.0.5"]
        assert world.held() == {
            "c1": ["10.32.0.1/29"],
            "c2": ["10.32.0.3/29", "10.9.9.9/24"],
            HOST: ["10.32.0.2/29"],
            "c3": ["10.32.0.5/30"],
        }
        with pytest.raises(Refused, match=r"10\.32\.0\.3/29 is already owned by c2"):
            await attaching.attach("c1", ["10.32.0.3/29"], True)
        assert await attaching.detach("c2", ["net:default"]) == ["10.32.0.3"]
        assert await attaching.detach("c3", []) == ["10.32.0.5"]
        assert await attaching.hide([]) == ["10.32.0.2"]
        assert await attaching.hide(["net:default"]) == []
        assert world.held() == {"c1": ["10.32.0.1/29"], "c2": ["10.9.9.9/24"]}

    play(tmp_path, test)


def test_what_cannot_be_attached_is_given_back(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.attaching.attach("c1", [], True)
        world.kernel.broken = True
        with pytest.raises(AddressConflict):
            await world.attaching.attach("c1", ["net:default", "10.32.0.4/29"], True)
        with pytest.raises(AddressConflict):
            await world.attaching.expose([], True)
        assert world.held() == {"c1": ["10.32.0.1/29"]}

    play(tmp_path, test)


def test_who_gives_up_waiting_leaves_nothing_behind(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        for number in range(6):
            await world.attaching.attach(f"c{number}", [], True)
        waiting = asyncio.create_task(world.attaching.attach("late", [], True))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert list(map(str, world.addresses.allocator.waiting.allocates)) == ["late 10.32.0.0/29"]
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await world.attaching.detach("c0", [])
        assert not world.addresses.allocator.tick(0.0)[1:]
        assert "late" not in world.held()
        assert not world.addresses.allocator.waiting

    play(tmp_path, test)


def test_without_an_allocator_addresses_must_be_named() -> None:
    async def test() -> None:
        kernel = Kernel()
        attaching = Attaching(kernel, None)
        work: list[Coroutine[Any, Any, list[str]]] = [
            attaching.attach("c1", [], True),
            attaching.attach("c1", ["10.2.1.1/24", "net:default"], True),
            attaching.expose(["net:10.2.1.0/24"], True),
        ]
        for each in work:
            with pytest.raises(UsageError, match="IP address allocation must be enabled to use 'net:'\n"):
                await each
        for each in (attaching.detach("c1", ["net:default"]), attaching.hide(["net:default"])):
            with pytest.raises(NotFound) as caught:
                await each
            assert str(caught.value) == ""
        assert await attaching.attach("c1", ["ip:10.2.1.1/24"], True) == ["10.2.1.1"]
        assert await attaching.detach("c1", []) == ["10.2.1.1"]
        assert kernel.has == {"c1": []}

    asyncio.run(test())


def test_what_cannot_be_written_is_not_promised(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.attaching.attach("c1", [], True)
        store.close()
        with pytest.raises(PlaitError, match="closed"):
            await world.attaching.attach("c2", [], True)
        assert world.addresses.payload() is None
        assert any("closed" in warning for warning in world.warnings)
        with pytest.raises(PlaitError, match="closed"):
            await world.attaching.attach("c1", [], True)

    store = Store(tmp_path)
    asyncio.run(_with(store, test))


async def _with(store: Store, test: Test) -> None:
    await test(World(store))
