"""Attaching containers of a real Docker engine."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from lab.attach_lab import Host, host
from plait.attach.container import InHostNamespace
from plait.attach.runtime import ContainerNotRunning, NoSuchContainer, RuntimeUnavailable
from plait.attach.service import Attacher
from plait.docker.client import DockerClient
from plait.host.netlink import Netlink
from plait.state import Store
from plait.testing.docker import DockerEngine, docker_engine, why_not

_MISSING = why_not()
pytestmark = pytest.mark.skipif(_MISSING is not None, reason=_MISSING or "")

T = TypeVar("T")


@pytest.fixture(scope="module")
def h1() -> Iterator[Host]:
    with host() as made:
        yield made


@pytest.fixture(scope="module")
def engine(h1: Host) -> Iterator[DockerEngine]:
    with docker_engine(h1.netns) as started:
        yield started


@pytest.fixture
def start(engine: DockerEngine) -> Iterator[Callable[..., str]]:
    names: list[str] = []

    def run(name: str, *command: str, network: str = "none") -> str:
        names.append(name)
        return engine.run(name, *command, network=network)

    yield run
    for name in names:
        engine.remove(name)


def run(h1: Host, engine: DockerEngine, state: Path, act: Callable[[Attacher], Coroutine[Any, Any, T]]) -> T:
    with Store(state) as store:
        return asyncio.run(act(Attacher(store, h1.bridge, DockerClient(engine.address), pytest.fail)))


def host_ends() -> list[str]:
    with Netlink() as link:
        return [found.name for found in link.links() if found.name.startswith("vethwe")]


def test_two_containers_ping_each_other(
    h1: Host, engine: DockerEngine, start: Callable[..., str], tmp_path: Path
) -> None:
    first, second = start("one"), start("two")
    assert run(h1, engine, tmp_path, lambda n: n.attach("one", ["10.32.0.1/12"])) == ["10.32.0.1"]
    assert run(h1, engine, tmp_path, lambda n: n.attach(second[:12], ["10.32.0.2/12", "fd00::2/64"]))
    assert "1 packets received" in engine.docker("exec", "one", "ping", "-c", "1", "-w", "5", "10.32.0.2")
    assert sorted(host_ends()) == sorted(f"vethwepl{engine.pid(name)}" for name in ("one", "two"))
    found = run(h1, engine, tmp_path, lambda n: n.interfaces(["weave:allids"]))
    assert {one.ident: one.cidrs for one in found} == {
        first: ["10.32.0.1/12"],
        second: ["10.32.0.2/12", "fd00::2/64"],
    }
    assert run(h1, engine, tmp_path, lambda n: n.detach("one", [])) == ["10.32.0.1"]
    assert "ethwe" not in engine.docker("exec", "one", "ip", "link")


def test_a_restarted_container_has_lost_its_interface(
    h1: Host, engine: DockerEngine, start: Callable[..., str], tmp_path: Path
) -> None:
    ident = start("one")
    run(h1, engine, tmp_path, lambda n: n.attach("one", ["10.32.0.1/12"]))
    engine.docker("restart", "--time", "0", "one")
    run(h1, engine, tmp_path, lambda n: n.reconcile())
    with Store(tmp_path) as store:
        assert store.attachments == []
    run(h1, engine, tmp_path, lambda n: n.attach("one", ["10.32.0.1/12"]))
    assert "10.32.0.1/12" in engine.docker("exec", "one", "ip", "addr", "show", "dev", "ethwe")
    engine.docker("kill", "one")
    with pytest.raises(ContainerNotRunning, match=r"^container one not running$"):
        run(h1, engine, tmp_path, lambda n: n.attach("one", ["10.32.0.1/12"]))
    assert run(h1, engine, tmp_path, lambda n: n.detach("one", [])) == ["10.32.0.1"]
    with Store(tmp_path) as store:
        assert store.attachment(ident) is None


def test_what_cannot_be_attached_is_explained(
    h1: Host, engine: DockerEngine, start: Callable[..., str], tmp_path: Path
) -> None:
    start("hosty", network="host")
    with pytest.raises(InHostNamespace, match=r"host network namespace.*\nweave - perhaps"):
        run(h1, engine, tmp_path, lambda n: n.attach("hosty", ["10.32.0.1/12"]))
    with pytest.raises(NoSuchContainer, match=r"^unable to inspect container nobody: No such container: nobody$"):
        run(h1, engine, tmp_path, lambda n: n.attach("nobody", ["10.32.0.1/12"]))
    absent = DockerEngine(f"unix://{tmp_path}/sock")
    with pytest.raises(RuntimeUnavailable, match="start Docker"):
        run(h1, absent, tmp_path, lambda n: n.attach("one", ["10.32.0.1/12"]))


def test_containers_that_share_a_namespace_are_one(
    h1: Host, engine: DockerEngine, start: Callable[..., str], tmp_path: Path
) -> None:
    start("one")
    start("guest", network="container:one")
    run(h1, engine, tmp_path, lambda n: n.attach("one", ["10.32.0.1/12"]))
    run(h1, engine, tmp_path, lambda n: n.attach("guest", ["10.32.0.1/12", "10.32.0.2/12"]))
    found = run(h1, engine, tmp_path, lambda n: n.interfaces(["weave:allids"]))
    assert [one.cidrs for one in found] == [["10.32.0.1/12", "10.32.0.2/12"]]
