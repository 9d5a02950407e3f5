"""What real Weave routers answered about names and about containers that end, asked of ours in the same order."""

import asyncio
import json
import random
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import plait.ipam.service
from golden import cases, document
from plait.api import model
from plait.api.client import Client
from plait.api.server import ApiServer, serve
from plait.config import Config
from plait.container_life import ContainerLife
from plait.dns.resolver import Resolver
from plait.dns.settings import Settings as NameSettings
from plait.ipam.address import Cidr
from plait.ipam.paxos import Voter
from plait.ipam.service import AddressService
from plait.ipam.settings import Settings
from plait.ipam_report import build_ipam
from plait.mesh.gossip import GossipData
from plait.mesh.name import PeerName
from plait.state import Store
from unit.api.nodes import MemoryNode, directory, sample_report

Exchange = dict[str, Any]
OURS = ("/name", "/domain", "/dns-address", "/status/dns", "/report?format={{json .DNS}}")
# The idents that stand for CID1 and so on; an engine shows twelve of their digits to people.
IDENTS = {f"CID{number}": f"{number}" * 64 for number in (1, 2, 3)}


class RecordedResolver(Resolver):
    """Says where the recorded one listened."""

    at = ("127.0.0.1", 53)

    @property
    def address(self) -> tuple[str, int]:
        return self.at

    def report(self) -> model.Dns:
        return replace(super().report(), upstream=["127.0.0.5"])


class Host(MemoryNode):
    """A node of the recording, with real names, and real addresses if it has a range."""

    def __init__(self, net: "Net", number: int, base: Path, domain: str, listen: tuple[str, int]) -> None:
        super().__init__(sample_report())
        self.peer = PeerName(0x020000000000 + number)
        self.net, self.base = net, base
        self.client = Client(base / f"run{number}", 10)
        self.running: set[str] = set()
        self.has_engine = False
        self.resolver = RecordedResolver(self.peer, net.alive, NameSettings(domain=domain), self.tell, pytest.fail)
        self.resolver.at = listen
        self.names = self.resolver
        self.service: AddressService | None = None
        self.life = ContainerLife(self.resolver.service, None, self.living)
        self.api: ApiServer | None = None

    async def launch(self) -> None:
        config = Config(http_addr="", status_addr="", run_dir=self.client._path.parent, docker_api="")
        self.api = await serve(self, config)
        self.net.alive[self.peer] = self

    async def give_range(self, store: Store, universe: str) -> None:
        made = Settings(Voter(self.peer, 1), "host1", Cidr.parse(universe))
        warn: Callable[[str], None] = lambda sentence: None  # noqa: E731
        self.service = AddressService(
            made, Cidr.parse(universe), self, store, warn, lambda error: pytest.fail(str(error)), random.Random(0)
        )
        self.addresses = self.service
        self.service.open()
        self.life = ContainerLife(self.resolver.service, self.service, self.living)

    async def end(self) -> None:
        del self.net.alive[self.peer]
        assert self.api is not None
        await self.api.close()
        for other in self.net.alive.values():
            other.resolver.service.peer_gone(self.peer)

    async def report(self) -> model.Report:
        return replace(self.now, ipam=build_ipam(self.service, set(self.net.alive)), dns=self.resolver.report())

    async def is_running(self, ident: str) -> bool:
        return ident in self.running or not self.has_engine

    async def living(self, candidates: Iterable[str]) -> set[str]:
        return {ident for ident in candidates if len(ident) != 64 or ident in self.running}

    def tell(self, news: GossipData) -> None:
        for payload in news.encode():
            for other in self.net.alive.values():
                if other is not self:
                    self.net.loop.call_soon(other.resolver.service.receive_broadcast, self.peer, payload, 0.0)

    # ipam.service.Mesh, of a node alone

    def is_known(self, peer: PeerName) -> bool:
        return peer == self.peer

    def why_unreachable(self, peer: PeerName) -> str | None:
        return None

    def quorum(self) -> int:
        return 1

    def unicast(self, peer: PeerName, payload: bytes) -> None:
        pytest.fail("nobody is to be asked")

    def broadcast(self, news: GossipData) -> None:
        pass

    def flush(self) -> None:
        pass


class Net:
    """Names of each reach all others at once."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.alive: dict[PeerName, Host] = {}
        self.hosts: dict[str, Host] = {}
        self.loop = asyncio.new_event_loop()

    def launch(self, number: int, domain: str = "weave.local.", listen: tuple[str, int] = ("127.0.0.1", 53)) -> Host:
        async def begin() -> Host:
            host = Host(self, number, self.base, domain, listen)
            await host.launch()
            return host

        host: Host = self.run(begin())
        self.hosts[f"host{number}"] = host
        return host

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def do(self, *steps: Callable[[], object]) -> None:
        async def all_of_them() -> None:
            for step in steps:
                step()

        self.run(all_of_them())


@pytest.fixture
def net() -> Iterator[Net]:
    with directory() as base, running(Net(base)) as net:
        yield net


@contextmanager
def running(net: Net) -> Iterator[Net]:
    thread = threading.Thread(target=net.loop.run_forever)
    thread.start()
    try:
        yield net
    finally:
        for host in list(net.alive.values()):
            net.run(host.end())
        net.loop.call_soon_threadsafe(net.loop.stop)
        thread.join()
        net.loop.run_until_complete(net.loop.shutdown_default_executor())
        net.loop.close()


def recorded(path: str) -> Iterator[Exchange]:
    """Give exchanges and events in order; those that are ours count as run."""
    for number, exchange in enumerate(document(path)["exchanges"]):
        if is_ours(exchange):
            cases(path, "exchanges")[number]
        yield exchange


def is_ours(exchange: Exchange) -> bool:
    if exchange.get("port") != "control":
        return False
    return urllib.parse.unquote(exchange["path"]).startswith(OURS) and exchange["response"]["status"] != 404


def ask(net: Net, exchange: Exchange) -> None:
    expected, form = exchange["response"], "&".join(exchange.get("form") or []).encode()
    headers = dict(header.split(": ", 1) for header in exchange.get("headers") or [])
    if form:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    path = in_full(exchange["path"])
    answer = net.hosts[exchange["node"]].client.request(exchange["method"], path, form, headers)
    label = f"{exchange['method']} {exchange['path']} {exchange.get('note', '')}"
    assert (label, answer.status, plain(answer.body)) == (label, expected["status"], plain(expected["body"]))


def in_full(path: str) -> str:
    for short, ident in IDENTS.items():
        path = path.replace(f"{short}short", ident[:12]).replace(short, ident)
    return path


def plain(body: str) -> Any:
    """A body without times and idents of its own; owners come in no fixed order."""
    for short, ident in IDENTS.items():
        body = body.replace(ident, short).replace(ident[:12], f"{short}short")
    if body.startswith('{"owned":'):
        return {each["containerid"]: each["addrs"] for each in json.loads(body)["owned"] or []}
    return re.sub(r'"Tombstone":[1-9][0-9]*', '"Tombstone":TIME', body)


def test_names_of_a_lone_node(net: Net) -> None:
    net.launch(1)
    for exchange in recorded("http/single_node.json"):
        if "::1" in exchange.get("path", ""):
            # Weave takes it for 0.0.0.0, which helps nobody; here it is refused.
            assert net.hosts["host1"].client.request("PUT", exchange["path"]).status == 400
            ask(net, {**exchange, "path": exchange["path"].replace("::1", "0.0.0.0")})
        elif is_ours(exchange):
            ask(net, exchange)


def test_names_of_another_domain(net: Net) -> None:
    net.launch(2, "corp.local.", ("127.0.0.1", 5353))
    for exchange in recorded("http/disabled.json"):
        if exchange.get("node") == "host2" and is_ours(exchange):
            ask(net, exchange)


def test_names_among_three_nodes(net: Net) -> None:
    for number in (1, 2, 3):
        net.launch(number)
    for exchange in recorded("http/three_nodes.json"):
        if "host3 killed" in exchange.get("event", ""):
            net.run(net.hosts["host3"].end())
        elif "host2 stopped" in exchange.get("event", ""):
            net.run(net.hosts["host2"].end())
        elif is_ours(exchange):
            ask(net, exchange)


def test_containers_that_die_start_again_and_are_removed(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(plait.ipam.service, "_now", lambda: now)
    host, store = net.launch(1), Store(net.base / "state")
    one, two, three = IDENTS.values()
    host.running, host.has_engine = {one, two, three}, True

    def released_after(seconds: float) -> None:
        nonlocal now
        now += seconds
        assert host.service is not None
        net.do(host.service.tick)

    def happen(event: str) -> None:
        match event:
            case "both containers killed":
                host.running -= {one, two}
                net.do(lambda: host.life.died(one), lambda: host.life.died(two))
            case "CID2 started again after about 7 s":
                host.running.add(two)
                released_after(7)
                net.do(lambda: host.life.started(two))
            case "address of CID1 released 33 s after its death":
                net.run(host.life.look())
                released_after(26)
            case "CID2 removed (die, then destroy)":
                host.running.remove(two)
                net.do(lambda: host.life.died(two), lambda: host.life.destroyed(two))
                net.run(host.life.look())
            case "CID3 removed while the router is down":
                host.running.remove(three)
            case "router started with its database":
                # Weave releases at once; here a container that starts again in time after a reboot keeps its address.
                net.run(host.give_range(store, "10.32.0.0/12"))
                net.run(host.life.look())
                released_after(31)
            case _:
                assert event == "router stopped"

    net.run(host.give_range(store, "10.32.0.0/12"))
    for exchange in cases("http/docker_events.json", "exchanges"):
        if "event" in exchange:
            happen(exchange["event"])
        else:
            ask(net, exchange)
    store.close()


def test_an_address_in_use_by_another_container_outlives_the_removed_one(net: Net) -> None:
    host, store = net.launch(1), Store(net.base / "state")
    net.run(host.give_range(store, "10.32.0.0/12"))
    one = IDENTS["CID1"]
    host.running = {one}  # as Attacher.living says while another container lives in its network
    assert host.client.request("POST", f"/ip/{one}?check-alive=true").body == "10.32.0.1/12"
    net.do(lambda: host.life.died(one), lambda: host.life.destroyed(one))
    net.run(host.life.look())
    assert host.client.text(f"/ip/{one}") == "10.32.0.1/12"
    store.close()


def test_names_of_containers_that_ended_unheard_go(net: Net) -> None:
    host = net.launch(1)
    one, two, _ = IDENTS.values()
    host.running = {one}
    for container in (one, two, "weave:extern"):
        assert (
            host.client.request("PUT", f"/name/{container}/10.32.0.1?fqdn=x{container[:5]}.weave.local").status == 204
        )
    net.run(host.life.look())
    assert len(host.resolver.service.named()) == 3, "nothing was missed"
    net.do(host.life.missed)
    net.run(host.life.look())
    assert host.resolver.service.named() == {one, "weave:extern"}
