"""What the operator named: resolved, kept, looked up again; with a real router and a real store."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from plait import targets as targets_module
from plait.api import remarks
from plait.chronicle import Chronicle
from plait.errors import StateError
from plait.mesh import events
from plait.state import Store
from plait.targets import Targets
from plait.troubles import Troubles
from unit.mesh.routers import Member

OURS = "192.0.2.1"


class Node:
    """Everything around the targets of a node."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.member = Member(1)
        self.troubles = Troubles(Chronicle())
        self.targets = Targets(store, self.member.router, 6783, frozenset({OURS}), self.troubles)

    def dialled(self) -> list[str]:
        return [event.address for event in self.member.take(events.DialPeer) if isinstance(event, events.DialPeer)]

    def problems(self) -> list[str]:
        return [problem.what for problem in self.troubles.current()]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the name server knows."""
    known: dict[str, str] = {}

    def look_up(host: str, *_: object, **__: object) -> list[Any]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (known[host], 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


def play(directory: Path, scene: Callable[[Node], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        with Store(directory) as store:
            await scene(Node(store))

    asyncio.run(run())


def test_addresses_and_names_are_called_and_kept(tmp_path: Path, names: dict[str, str]) -> None:
    names["friend"] = "192.0.2.7"

    async def scene(node: Node) -> None:
        assert await node.targets.connect(["192.0.2.5", "friend:7000"], replace=False) == []
        assert node.dialled() == ["192.0.2.5:6783", "192.0.2.7:7000"]
        assert node.targets.texts == node.store.targets == ["192.0.2.5", "friend:7000"]
        await node.targets.connect(["192.0.2.6"], replace=True)
        assert node.targets.texts == node.store.targets == ["192.0.2.6"]
        node.targets.forget(["192.0.2.6", "never"])
        assert node.targets.texts == node.store.targets == []

    play(tmp_path, scene)


@pytest.mark.parametrize("bad", ["nobody", "x" * 80 + ".example", "fe80::1", "a:b:c"])
def test_what_cannot_be_called_is_refused_and_the_others_are_taken(
    tmp_path: Path, names: dict[str, str], bad: str
) -> None:
    async def scene(node: Node) -> None:
        (refusal,) = await node.targets.connect([bad, "192.0.2.5"], replace=False)
        assert bad in refusal
        assert node.targets.texts == ["192.0.2.5"]
        assert node.problems() == []  # who asked was told

    play(tmp_path, scene)


def test_ipv6_addresses_are_called(tmp_path: Path, names: dict[str, str]) -> None:
    names["six"] = "2001:db8::7"

    async def scene(node: Node) -> None:
        texts = ["FD00:0::1", "[fd00::2]:7000", "six", "::ffff:192.0.2.9"]
        assert await node.targets.connect(texts, replace=False) == []
        assert {*node.dialled()} == {"[fd00::1]:6783", "[fd00::2]:7000", "[2001:db8::7]:6783", "192.0.2.9:6783"}
        assert node.store.targets == texts

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("reachable", "chosen"),
    [
        ({"2001:db8::1", "192.0.2.1"}, "192.0.2.1"),
        ({"2001:db8::1"}, "2001:db8::1"),
        ({"192.0.2.2"}, "192.0.2.2"),
        (set(), "192.0.2.1"),
    ],
)
def test_of_several_addresses_one_with_a_route_is_called_rather_of_ipv4(reachable: set[str], chosen: str) -> None:
    addresses = ["2001:db8::1", "192.0.2.1", "192.0.2.2"]
    assert targets_module.choose(addresses, lambda ip: ip in reachable) == chosen


def test_a_name_that_is_unknown_at_start_is_kept_and_looked_up_again(tmp_path: Path, names: dict[str, str]) -> None:
    async def scene(node: Node) -> None:
        await node.targets.restore(["late", "192.0.2.5", "never"])
        assert node.dialled() == ["192.0.2.5:6783"]
        assert node.targets.texts == node.store.targets == ["192.0.2.5", "late", "never"]
        assert node.problems() == [
            "lookup late: Name or service not known",
            "lookup never: Name or service not known",
        ]
        await node.targets.retry_unresolved()
        assert len(node.problems()) == 2
        names["late"] = "192.0.2.8"
        await node.targets.retry_unresolved()
        assert node.dialled() == ["192.0.2.8:6783"]
        assert node.problems() == ["lookup never: Name or service not known"]
        node.targets.forget(["never"])
        assert node.problems() == []
        await node.targets.retry_unresolved()
        assert node.dialled() == []

    play(tmp_path, scene)


def test_a_name_server_that_is_silent_does_not_keep_the_node_from_starting(
    tmp_path: Path, names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = threading.Event()
    monkeypatch.setattr(targets_module, "START_PATIENCE", 0.05)
    monkeypatch.setattr(targets_module, "_ask_resolver", lambda text, host: waiting.wait(10) and "192.0.2.9")

    async def scene(node: Node) -> None:
        await node.targets.restore(["slow", "192.0.2.5"])
        assert node.problems() == ["lookup slow: no answer of a name server yet"]
        waiting.set()
        await node.targets.retry_unresolved()
        assert node.dialled() == ["192.0.2.5:6783", "192.0.2.9:6783"]

    play(tmp_path, scene)


def test_replacing_and_naming_again_end_the_search_for_a_name(tmp_path: Path, names: dict[str, str]) -> None:
    async def scene(node: Node) -> None:
        await node.targets.restore(["one", "two"])
        names["one"] = "192.0.2.11"
        await node.targets.connect(["one"], replace=False)
        assert node.targets.texts == ["one", "two"]
        await node.targets.connect(["192.0.2.12"], replace=True)
        assert node.targets.texts == node.store.targets == ["192.0.2.12"]
        assert node.problems() == []

    play(tmp_path, scene)


@pytest.mark.parametrize("text", [OURS, f"{OURS}:6783", "myself"])
def test_who_names_this_node_is_told(tmp_path: Path, names: dict[str, str], text: str) -> None:
    names["myself"] = OURS

    async def scene(node: Node) -> None:
        with remarks.heard() as said:
            await node.targets.connect([text], replace=False)
        assert said == node.problems() == [f"the target {text} is this node's own address, so it is not called"]
        assert node.dialled() == []
        node.targets.forget([text])
        assert node.problems() == []
        await node.targets.connect([f"{OURS}:7000"], replace=False)  # another node on this host
        assert node.problems() == []

    play(tmp_path, scene)


def test_a_list_that_cannot_be_kept_is_used_all_the_same_and_kept_later(
    tmp_path: Path, names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(node: Node) -> None:
        def full(_: object) -> None:
            raise StateError("cannot write the node's state: no space left on the device; free some")

        with monkeypatch.context() as patch:
            patch.setattr(node.store, "set_targets", full)
            with pytest.raises(StateError) as caught:
                await node.targets.connect(["nobody", "192.0.2.5"], replace=False)
            refusal, sentence = str(caught.value).splitlines()
            assert refusal == "lookup nobody: Name or service not known"
            assert sentence.startswith("the list of peers to call is not kept over a restart of the node: cannot write")
            assert node.dialled() == ["192.0.2.5:6783"]
            assert node.problems() == [sentence]
            node.targets.save_again()
            assert node.problems() == [sentence]
            with pytest.raises(StateError):
                node.targets.forget(["192.0.2.5"])
            assert node.targets.texts == []
            await node.targets.restore(["192.0.2.6"])  # a start goes on
        assert node.store.targets == []
        node.targets.save_again()
        assert node.problems() == []
        assert node.store.targets == ["192.0.2.6"]

    play(tmp_path, scene)
