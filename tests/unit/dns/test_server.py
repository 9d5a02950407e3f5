"""The name server at real sockets of loopback, asked by dnspython."""

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import pytest

import golden
from plait.dns import server as server_module
from plait.dns.entries import Entries, Entry
from plait.dns.responder import Responder
from plait.dns.server import DnsServer, ResolvConf
from plait.dns.upstream import MAX_SERVERS, parse_resolv_conf
from plait.errors import AddressInUse, PlaitError
from plait.mesh.name import PeerName
from unit.dns.upstreams import Upstream

ENTRIES = [
    Entry("c1", PeerName(1), 0x0A200001, "foo.corp.local."),
    *(Entry("big", PeerName(1), 0x0A020100 + number, "big.corp.local.") for number in range(50)),
]
Ask = Callable[[str], Awaitable[dns.message.Message]]


class WarningServer(DnsServer):
    """At a free port of loopback; remembers what it told people."""

    def __init__(self, responder: Responder, resolv_conf: Path | None, patience: float, port: int) -> None:
        self.warnings: list[str] = []
        super().__init__(responder, "127.0.0.1", 0, resolv_conf, patience, port, self.warnings.append)


@asynccontextmanager
async def running(
    resolv_conf: Path | None = None, port: int = 53, patience: float = 5.0
) -> AsyncIterator["WarningServer"]:
    responder = Responder(Entries(ENTRIES), "corp.local.", 30, random.Random(1))
    server = WarningServer(responder, resolv_conf, patience, port)
    await server.listen()
    try:
        yield server
    finally:
        await server.close()


async def ask(
    server: DnsServer, name: str, rdtype: str = "A", tcp: bool = False, payload: int | None = None
) -> dns.message.Message:
    query = dns.message.make_query(name, rdtype, use_edns=payload is not None, payload=payload)
    host, port = server.address
    by = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    return await by(query, host, 20, port)


def texts(answer: dns.message.Message) -> list[str]:
    return [line for rrset in answer.answer for line in str(rrset).splitlines()]


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_local_names(tcp: bool) -> None:
    async def check() -> None:
        async with running() as server:
            for _ in range(3):
                answer = await ask(server, "FOO.corp.local.", tcp=tcp)
                assert texts(answer) == ["FOO.corp.local. 30 IN A 10.32.0.1"]
            assert (await ask(server, "foo.corp.local.", "AAAA", tcp)).rcode() == dns.rcode.NOERROR
            assert (await ask(server, "bar.corp.local.", tcp=tcp)).rcode() == dns.rcode.NXDOMAIN
            assert texts(await ask(server, "1.0.32.10.in-addr.arpa.", "PTR", tcp)) == [
                "1.0.32.10.in-addr.arpa. 30 IN PTR foo.corp.local."
            ]
            assert (server.counts.answered, server.counts.unknown, server.counts.refused) == (6, 1, 0)

    asyncio.run(check())


def test_what_does_not_fit_is_asked_again_by_tcp() -> None:
    async def check() -> None:
        async with running() as server:
            host, port = server.address
            query = dns.message.make_query("big.corp.local.", "A")
            answer, by_tcp = await dns.asyncquery.udp_with_fallback(query, host, 20, port=port)
            assert by_tcp
            assert len(texts(answer)) == 50
            assert len(texts(await ask(server, "big.corp.local.", payload=4096))) == 50

    asyncio.run(check())


def test_several_questions_on_one_connection() -> None:
    async def check() -> None:
        async with running() as server:
            reader, writer = await asyncio.open_connection(*server.address)
            for number in range(3):
                query = dns.message.make_query("foo.corp.local.", "A", id=number).to_wire()
                writer.write(len(query).to_bytes(2, "big") + query)
            for number in range(3):
                answer = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                assert dns.message.from_wire(answer).id == number
            writer.write(b"\0\x03abc")  # shorter than a header: an error, and the connection stays
            assert await reader.readexactly(2 + 12)
            writer.close()

    asyncio.run(check())


def test_a_burst_is_answered_whole() -> None:
    async def check() -> None:
        async with running() as server:
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
                client.setblocking(False)
                client.connect(server.address)
                for number in range(200):
                    client.send(dns.message.make_query("foo.corp.local.", "A", id=number).to_wire())
                got = {(await loop.sock_recv(client, 512))[:2] for _ in range(200)}
            assert len(got) == 200

    asyncio.run(check())


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_other_names_are_asked_upstream_by_the_same_transport(tcp: bool, tmp_path: Path) -> None:
    async def check() -> None:
        async with Upstream("127.0.0.5") as upstream:
            (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.5\n")
            async with running(tmp_path / "resolv.conf", upstream.port) as server:
                assert texts(await ask(server, "OnE.example.", tcp=tcp)) == ["OnE.example. 60 IN A 192.0.2.1"]
                assert (await ask(server, "nx.example.", tcp=tcp)).rcode() == dns.rcode.NXDOMAIN
                assert (await ask(server, "servfail.example.", tcp=tcp)).rcode() == dns.rcode.SERVFAIL
                assert (await ask(server, "refused.example.", tcp=tcp)).rcode() == dns.rcode.REFUSED
                assert (await ask(server, "nosuch.", tcp=tcp)).rcode() == dns.rcode.NXDOMAIN
                assert {transport for transport, _ in upstream.asked} == {"tcp" if tcp else "udp"}
                assert len(upstream.asked) == 4
                assert server.upstream == ("127.0.0.5",)

    asyncio.run(check())


def test_a_large_answer_comes_by_tcp_unless_the_client_takes_it(tmp_path: Path) -> None:
    async def check() -> None:
        async with Upstream("127.0.0.5") as upstream:
            (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.5\n")
            async with running(tmp_path / "resolv.conf", upstream.port) as server:
                for payload in (None, 100, 1232):
                    answer = await ask(server, "huge.example.", payload=payload)
                    assert answer.flags & dns.flags.TC
                    assert texts(answer) == []
                assert len(texts(await ask(server, "huge.example.", payload=4096))) == 120
                assert len(texts(await ask(server, "huge.example.", tcp=True))) == 120

    asyncio.run(check())


def test_false_answers_are_passed_over(tmp_path: Path) -> None:
    async def check() -> None:
        async with Upstream("127.0.0.5") as upstream:
            (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.5\n")
            async with running(tmp_path / "resolv.conf", upstream.port, patience=0.2) as server:
                assert texts(await ask(server, "late.example.")) == ["late.example. 60 IN A 192.0.2.7"]
                for name in ("garbage.example.", "wrongid.example.", "silent.example."):
                    for tcp in (False, True):
                        answer = await ask(server, name, tcp=tcp)
                        assert answer.rcode() == dns.rcode.SERVFAIL
                        assert answer.question
                assert server.counts.failed == 6

    asyncio.run(check())


def test_too_many_questions_upstream_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_IN_FLIGHT", 2)

    async def check() -> None:
        async with Upstream("127.0.0.5") as upstream:
            (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.5\n")
            async with running(tmp_path / "resolv.conf", upstream.port, patience=60) as server:
                waiting = [asyncio.create_task(ask(server, "silent.example.", tcp=tcp)) for tcp in (False, True)]
                for _ in waiting:
                    await upstream.silences.acquire()
                for tcp in (False, True):
                    assert (await ask(server, "one.example.", tcp=tcp)).rcode() == dns.rcode.SERVFAIL
                    assert texts(await ask(server, "foo.corp.local.", tcp=tcp)) != []
                assert server.counts.overload == 2
                assert len(server.warnings) == 2  # the node says a sentence once, however often it is told
                assert "2 wait for 127.0.0.5" in server.warnings[0]
                for task in waiting:
                    task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(check())


def test_history_of_resolv_conf(tmp_path: Path) -> None:
    """The original's, with its answers; each change of the file is seen at the next look."""
    path = tmp_path / "resolv.conf"

    async def check() -> None:
        async with Upstream("127.0.0.5") as upstream, running(path, upstream.port) as server:
            for number, step in enumerate(golden.cases("dns/dns_fallback.json", "steps")):
                if step.get("event") == "resolv.conf is now":
                    path.write_text(step["content"])
                    os.utime(path, (number, number))
                elif step.get("event") == "resolv.conf removed":
                    path.unlink()
                elif "restart" in step.get("event", ""):
                    golden.left_out("dns/dns_fallback.json", "restart", "test_without_servers, and of silence, have it")
                    break
                elif "query" in step and "right after the change" not in step["desc"]:
                    server._resolv_conf._next_look = 0.0
                    answer = await ask(server, step["query"])
                    assert answer.rcode() == step["rcode"], step["desc"]
                    assert texts(answer) == step["answer"], step["desc"]

    asyncio.run(check())


def test_without_servers() -> None:
    async def check() -> None:
        async with running(Path("/nonexistent/resolv.conf")) as server:
            assert (await ask(server, "one.example.")).rcode() == dns.rcode.SERVFAIL

    asyncio.run(check())


def test_resolv_conf_is_looked_at_now_and_then(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    conf = ResolvConf(path, "127.0.0.1")
    assert conf.servers(0.0) == ()
    path.write_text("nameserver 192.0.2.1\n")
    assert conf.servers(4.9) == ()
    assert conf.servers(5.0) == ("192.0.2.1",)
    path.write_text("nameserver 192.0.2.2\n")
    os.utime(path, (1, 1))
    assert conf.servers(9.9) == ("192.0.2.1",)
    assert conf.servers(10.0) == ("192.0.2.2",)
    path.unlink()
    assert conf.servers(20.0) == ("192.0.2.2",)


def test_words_of_resolv_conf() -> None:
    text = "\n".join(f"nameserver 192.0.2.{number}" for number in range(100))
    assert parse_resolv_conf(text, "192.0.2.0") == tuple(f"192.0.2.{number}" for number in range(1, MAX_SERVERS + 1))
    odd = "nameserver\n;nameserver 1.1.1.1\n nameserver\tfe80::1%eth0 x\nNAMESERVER 1.1.1.1\nnameserver host\0\n"
    assert parse_resolv_conf(odd * 2, "") == ("fe80::1%eth0",)


def test_an_address_that_is_taken() -> None:
    async def check() -> None:
        async with running() as first:
            second = DnsServer(Responder(Entries(), "x.", 1, random.Random(1)), *first.address, None)
            with pytest.raises(AddressInUse, match="another program has it"):
                await second.listen()
            await second.close()
        foreign = DnsServer(Responder(Entries(), "x.", 1, random.Random(1)), "192.0.2.1", 0, None)
        with pytest.raises(PlaitError, match="--dns-listen-address"):
            await foreign.listen()
        await foreign.close()

    asyncio.run(check())
