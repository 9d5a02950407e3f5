"""Two transports with their routers on the loopback device: real sockets, real handshakes."""

import asyncio
import errno
import random
import secrets
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from plait.errors import AddressInUse
from plait.host.udp import has_ipv6
from plait.mesh import events, transport
from plait.mesh.addresses import join_address
from plait.mesh.features import LocalFeatures
from plait.mesh.maker import ConnectionMaker, Target
from plait.mesh.name import PeerName
from plait.mesh.records import PeerSummary
from plait.mesh.router import Router
from plait.mesh.transport import Identity, Transport

HOST = "127.0.0.1"
OVERLAYS = ("sleeve",)


class Peer:
    """A transport that runs, and what it said."""

    def __init__(self, number: int, *, password: bytes | None = None, trusts: bool = False, host: str = HOST) -> None:
        """`host`: where it listens, "" for everywhere."""
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = probe.getsockname()[1]
        self.name = PeerName(number)
        self.events: list[events.Event] = []
        self.refusals: list[tuple[str, str]] = []
        maker = ConnectionMaker(
            rng=random.Random(number),
            port=self.port,
            our_name=self.name,
            our_addresses=frozenset(),
            discovery=False,
            connection_limit=0,
        )
        now = asyncio.get_running_loop().time()
        ourself = PeerSummary(self.name, f"n{number}", number, 0, number)
        self.router = Router(ourself, maker, 0, OVERLAYS, random.Random(number), now)
        identity = Identity(
            lambda ip: LocalFeatures(
                self.name, f"n{number}", number, secrets.randbits(64), number, trusts, OVERLAYS, {"Extra": "yes"}
            ),
            lambda: secrets.token_bytes(32),
            password,
            lambda ip: trusts,
        )
        self.transport = Transport(
            self.router, identity, (host, self.port), self.events.append, lambda *refusal: self.refusals.append(refusal)
        )
        self.transport.listen()

    def call(self, other: "Peer | int", ip: str = HOST) -> None:
        port = other if isinstance(other, int) else other.port
        target = Target(join_address(ip, port), ip, port)
        self.router.connect([target], False, asyncio.get_running_loop().time())
        self.transport.flush()

    @property
    def neighbours(self) -> set[int]:
        return {int(link.peer) for link in self.router.links}

    def target_error(self) -> str:
        return next((status.error for status in self.router.maker.targets() if status.error), "")


async def until(condition: Callable[[], object], what: str) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 10
    while not condition():
        assert loop.time() < deadline, what
        await asyncio.sleep(0.005)


def play(scene: Callable[..., Coroutine[Any, Any, None]], *options: dict[str, Any]) -> None:
    """Let peers (numbered from 1, made with these options) run while the scene plays."""

    async def run() -> None:
        peers = [Peer(number, **option) for number, option in enumerate(options, 1)]
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(peer.transport.run()) for peer in peers]
            await asyncio.sleep(0)
            await scene(*peers)
            for task in running:
                task.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("password", [None, b"secret"], ids=["plain", "sealed"])
def test_two_peers_meet_talk_and_part(password: bytes | None) -> None:
    async def scene(one: Peer, other: Peer) -> None:
        one.call(other)
        await until(lambda: one.neighbours == {2} and other.neighbours == {1}, "they meet")
        (link,), (far) = one.router.links, next(iter(other.router.links))
        assert link.uid == far.uid
        assert link.session_key == far.session_key
        assert (link.session_key is None) == (password is None)
        assert (link.outbound, far.outbound) == (True, False)
        assert link.extra == {"Extra": "yes"}
        assert far.address.startswith(f"{HOST}:")
        for peer in (one, other):
            for each in peer.router.links:
                peer.router.connection_established(each.id, asyncio.get_running_loop().time())
            peer.transport.flush()
        await until(lambda: one.router.routes.unicast(other.name) == other.name, "gossip goes both ways")
        one.router.overlay_failed(link.id, "enough", asyncio.get_running_loop().time())
        one.transport.flush()
        await until(lambda: not other.neighbours, "the far end notices")
        (seen,) = [event for event in other.events if isinstance(event, events.ConnectionRemoved)]
        assert not seen.is_fault
        assert "closed" in seen.reason or "reset" in seen.reason
        assert not one.refusals + other.refusals

    play(scene, {"password": password}, {"password": password})


def test_peers_that_call_each_other_keep_one_connection() -> None:
    async def scene(one: Peer, other: Peer) -> None:
        one.call(other)
        other.call(one)
        await until(lambda: one.neighbours == {2} and other.neighbours == {1}, "they meet")
        await asyncio.sleep(0.05)
        assert len(one.router.links) == len(other.router.links) == 1
        assert {link.uid for link in one.router.links} == {link.uid for link in other.router.links}

    play(scene, {}, {})


@pytest.mark.parametrize("trusts", [(True, True), (True, False)], ids=["both", "one"])
def test_overlays_run_in_clear_only_if_both_trust(trusts: tuple[bool, bool]) -> None:
    async def scene(one: Peer, other: Peer) -> None:
        one.call(other)
        await until(lambda: one.neighbours and other.neighbours, "they meet")
        keys = {link.session_key for peer in (one, other) for link in peer.router.links}
        assert len(keys) == 1
        assert (None in keys) == all(trusts)

    play(scene, *({"password": b"secret", "trusts": trust} for trust in trusts))


@pytest.mark.parametrize(
    ("mine", "theirs", "sentences"),
    [
        (b"one", b"other", ("another password", "another password")),
        (b"one", None, ("no password but this node does", "has a password but this node does not")),
        (None, b"one", ("has a password but this node does not", "no password but this node does")),
    ],
)
def test_both_ends_say_why_passwords_do_not_fit(
    mine: bytes | None, theirs: bytes | None, sentences: tuple[str, str]
) -> None:
    async def scene(one: Peer, other: Peer) -> None:
        one.call(other)
        await until(lambda: one.refusals and other.refusals, "both refuse")
        for peer, sentence in zip((one, other), sentences, strict=True):
            assert peer.refusals[0][0] == HOST
            assert sentence in peer.refusals[0][1]
        await until(lambda: sentences[0] in one.target_error(), "the target's line says it")
        assert not one.neighbours

    play(scene, {"password": mine}, {"password": theirs})


def test_a_dial_that_fails_is_told_in_the_words_of_go() -> None:
    async def scene(one: Peer) -> None:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        one.call(port)
        await until(one.target_error, "it fails")
        assert one.target_error() == f"dial tcp {HOST}:{port}: connect: connection refused"
        assert not one.refusals

    play(scene, {})


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this kernel has no IPv6")


@needs_ipv6
@pytest.mark.parametrize("ip", [HOST, "::1"])
def test_a_node_listens_at_both_versions_of_ip(ip: str) -> None:
    async def scene(one: Peer, other: Peer) -> None:
        other.call(one, ip)
        await until(lambda: one.neighbours == {2} and other.neighbours == {1}, "they meet")
        (theirs,), (ours,) = one.router.links, other.router.links
        assert ours.address == join_address(ip, one.port)
        assert (ours.local_ip, theirs.local_ip) == (ip, ip)
        assert theirs.address.rpartition(":")[0] == ours.address.rpartition(":")[0]

    play(scene, {"host": ""}, {"host": ""})


@needs_ipv6
def test_a_node_bound_to_an_address_says_what_it_cannot_reach() -> None:
    async def scene(one: Peer, other: Peer) -> None:
        other.call(one, "::1")
        await until(other.target_error, "it fails")
        assert f"--host binds this node to {HOST}" in other.target_error()

    play(scene, {"host": "::1"}, {})


def test_a_taken_port_is_named() -> None:
    async def scene(one: Peer) -> None:
        with pytest.raises(AddressInUse, match=rf"TCP {HOST}:{one.port} .*--port"):
            Transport(one.router, one.transport._identity, (HOST, one.port), print, print).listen()

    play(scene, {})


def test_strangers_are_refused_with_a_sentence_and_lookers_without() -> None:
    async def scene(one: Peer) -> None:
        _, looker = await asyncio.open_connection(HOST, one.port)
        looker.close()
        reader, writer = await asyncio.open_connection(HOST, one.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        try:
            while await reader.read(1000):
                pass
        except ConnectionResetError:
            pass
        await until(lambda: one.refusals, "it is refused")
        writer.close()
        assert len(one.refusals) == 1
        assert "no Weave or plait peer: it starts with b'GET / HTTP/1.1" in one.refusals[0][1]

    play(scene, {})


def test_strangers_who_wait_make_room_for_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_UNPROVEN", 3)

    async def scene(one: Peer, other: Peer) -> None:
        strangers = [await asyncio.open_connection(HOST, one.port) for _ in range(5)]
        await until(lambda: len(one.transport._unproven) == 3, "the oldest had to go")
        other.call(one)
        await until(lambda: one.neighbours == {2}, "a peer comes through")
        for _, writer in strangers:
            writer.close()
        await until(lambda: not one.transport._unproven, "all are gone")

    play(scene, {}, {})


def test_a_kernel_that_accepts_nothing_for_a_while_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "ACCEPT_PAUSE", 0.01)

    async def scene(one: Peer, other: Peer) -> None:
        loop = asyncio.get_running_loop()
        accept, failures = loop.sock_accept, iter([OSError(errno.EMFILE, "Too many open files")])

        async def refuse_once(listener: socket.socket) -> tuple[socket.socket, Any]:
            for failure in failures:
                raise failure
            return await accept(listener)

        monkeypatch.setattr(loop, "sock_accept", refuse_once)
        other.call(one)  # is taken by the accept that waits already, or by a later one
        await until(lambda: one.neighbours == {2}, "they meet")
        third = Peer(3)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(third.transport.run())
            await asyncio.sleep(0)
            third.call(one)
            await until(lambda: one.neighbours == {2, 3}, "the next one, too")
            running.cancel()
        warnings = [event.text for event in one.events if isinstance(event, events.Notice) and event.is_warning]
        assert any("Too many open files" in text and "file descriptors" in text for text in warnings)

    play(scene, {}, {})


def test_a_defect_that_a_peer_triggers_costs_its_connection_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(one: Peer, other: Peer) -> None:
        def fail(*_: object) -> None:
            raise ZeroDivisionError("planted")

        monkeypatch.setattr(one.router, "connection_opened", fail)
        other.call(one)
        await until(lambda: any("internal error" in str(event) for event in one.events), "it is told")
        monkeypatch.undo()
        other.call(one)
        await until(lambda: one.neighbours == {2}, "the next connection works")

    play(scene, {}, {})
    assert "planted" in caplog.text
