"""What real Weave routers answered about addresses, asked of ours in the same order: real services, an ideal mesh."""

import asyncio
import itertools
import json
import random
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from golden import document
from plait.api import model
from plait.api.client import Client
from plait.api.server import ApiServer, serve
from plait.config import Config
from plait.errors import NodeUnreachable, PlaitError
from plait.ipam.address import Cidr
from plait.ipam.paxos import Voter
from plait.ipam.service import AddressService
from plait.ipam.settings import Settings
from plait.ipam_report import build_ipam
from plait.mesh.gossip import GossipData
from plait.mesh.name import PeerName
from plait.state import Store
from plait.testing.lab.waiting import wait_until
from unit.api.nodes import MemoryNode, directory, sample_report

Exchange = dict[str, Any]
OURS = ("/ip", "/ring", "/peer", "/status/ipam")
# Time goes this much faster than in the recordings, in which ticks came every 5 s and gossip every 30 s.
TICK = 0.05


class Chance(random.Random):
    """As it was in the recording: of two peers with space the first or the second is asked."""

    def __init__(self, is_first: bool) -> None:
        super().__init__(0)
        self._values = itertools.cycle([1.0, 0.0] if is_first else [0.0, 1.0])

    def random(self) -> float:
        return next(self._values)


class Host(MemoryNode):
    """A node of the recording."""

    def __init__(self, net: "Net", number: int, base: Path) -> None:
        super().__init__(sample_report())
        self.number, self.net, self.base = number, net, base
        self.peer = PeerName(0x020000000000 + number)
        self.set_router(name=str(self.peer), nick_name=f"host{number}")
        self.client = Client(base / f"run{number}", 10)
        self.service: AddressService | None = None
        self.store: Store | None = None
        self.api: ApiServer | None = None
        self.lives = 0
        self.votes = 0

    async def launch(
        self, universe: str | None, default: str | None = None, votes: int = 1, is_first: bool = False, **settings: Any
    ) -> None:
        config = Config(http_addr="", status_addr="", run_dir=self.base / f"run{self.number}", docker_api="")
        self.store = Store(self.base / f"state{self.number}")
        self.lives, self.votes = self.lives + 1, votes
        if universe is not None:
            made = Settings(Voter(self.peer, self.lives), f"host{self.number}", Cidr.parse(universe), **settings)
            self.addresses = self.service = AddressService(
                made,
                Cidr.parse(default or universe),
                self,
                self.store,
                lambda sentence: None,
                lambda error: pytest.fail(str(error)),
                Chance(is_first),
            )
            self.service.open()
        self.api = await serve(self, config)
        self.net.alive[self.peer] = self

    async def end(self) -> None:
        del self.net.alive[self.peer]
        assert self.api is not None
        assert self.store is not None
        await self.api.close()
        self.store.close()
        self.net.cuts = {pair: why for pair, why in self.net.cuts.items() if self.peer not in pair}

    async def report(self) -> model.Report:
        known = {peer for peer in self.net.alive if self.is_known(peer)}
        return replace(self.now, ipam=build_ipam(self.service, known))

    # ipam.service.Mesh

    def is_known(self, peer: PeerName) -> bool:
        return peer in self.net.alive and frozenset((peer, self.peer)) not in self.net.cuts

    def why_unreachable(self, peer: PeerName) -> str | None:
        return None if self.is_known(peer) else f"unknown relay destination: {peer}"

    def quorum(self) -> int:
        return self.votes

    def unicast(self, peer: PeerName, payload: bytes) -> None:
        self.net.deliver(self, peer, lambda service: service.receive_unicast(self.peer, payload, 0.0))

    def broadcast(self, news: GossipData) -> None:
        payloads = list(news.encode())
        for peer, payload in itertools.product(self.net.alive, payloads):
            self.net.deliver(self, peer, partial(_hear_broadcast, self.peer, payload))

    def flush(self) -> None:
        pass


class Net:
    """Everybody reaches everybody at once, unless one refused what the other said."""

    def __init__(self, base: Path) -> None:
        self.alive: dict[PeerName, Host] = {}
        self.cuts: dict[frozenset[PeerName], str] = {}
        self.hosts = [Host(self, number, base) for number in (1, 2, 3)]
        self.loop = asyncio.new_event_loop()
        self.rounds = 0

    def deliver(self, source: Host, peer: PeerName, take: Callable[[AddressService], object]) -> None:
        if peer == source.peer or not source.is_known(peer):
            return
        target = self.alive[peer]
        self.loop.call_soon(self._arrive, source, target, take)

    def _arrive(self, source: Host, target: Host, take: Callable[[AddressService], object]) -> None:
        try:
            if target.service is not None:
                take(target.service)
        except PlaitError as error:
            self.cuts[frozenset((source.peer, target.peer))] = str(error)

    async def live(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            for host in list(self.alive.values()):
                if host.service is None:
                    continue
                host.service.tick()
                payload = host.service.payload()
                assert payload is not None
                for peer in self.alive:
                    self.deliver(host, peer, partial(_hear_gossip, payload))
            self.rounds += 1

    def settle(self) -> None:
        """Let 20 rounds of ticks and gossip pass, however long they take."""
        until = self.rounds + 20
        wait_until(lambda: self.rounds >= until, "the rounds have passed", 60.0)

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def client(self, exchange: Exchange) -> Client:
        return self.hosts[int(exchange["node"].removeprefix("host")) - 1].client

    def launch(self, number: int, *words: Any, **settings: Any) -> None:
        self.run(self.hosts[number - 1].launch(*words, **settings))

    def end(self, number: int) -> None:
        self.run(self.hosts[number - 1].end())


@pytest.fixture
def net() -> Iterator[Net]:
    with directory() as base, running(Net(base)) as net:
        yield net


@contextmanager
def running(net: Net) -> Iterator[Net]:
    thread = threading.Thread(target=net.loop.run_forever)
    thread.start()
    living = asyncio.run_coroutine_threadsafe(net.live(), net.loop)
    try:
        yield net
    finally:
        living.cancel()
        for host in list(net.alive.values()):
            net.run(host.end())
        net.loop.call_soon_threadsafe(net.loop.stop)
        thread.join()
        net.loop.run_until_complete(net.loop.shutdown_default_executor())
        net.loop.close()


def _hear_broadcast(source: PeerName, payload: bytes, service: AddressService) -> None:
    service.receive_broadcast(source, payload, 0.0)


def _hear_gossip(payload: bytes, service: AddressService) -> None:
    service.receive(payload, 0.0)


def recorded(path: str) -> list[Exchange]:
    exchanges: list[Exchange] = document(path)["exchanges"]
    return exchanges


def is_ours(exchange: Exchange) -> bool:
    path = urllib.parse.unquote(exchange.get("path", ""))
    return exchange.get("port") == "control" and (
        path.startswith(OURS) or path.startswith("/report?format={{json .IPAM")
    )


def replay(net: Net, exchanges: list[Exchange]) -> None:
    for exchange in exchanges:
        if is_ours(exchange):
            ask(net.client(exchange), exchange)


def ask(client: Client, exchange: Exchange) -> None:
    expected, form = exchange["response"], "&".join(exchange.get("form") or []).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
    label = f"{exchange['node']} {exchange['method']} {exchange['path']}"
    if "status" not in expected:
        with pytest.raises(NodeUnreachable):
            Client(client._path.parent, 0.2).request(exchange["method"], exchange["path"], form, headers)
        return
    answer = client.request(exchange["method"], exchange["path"], form, headers)
    assert (label, answer.status, plain(answer.body)) == (label, expected["status"], plain(expected["body"]))
    kept = {name: value for name, value in answer.headers.items() if name in expected["headers"]}
    if "Content-Length" in kept and "owned" in answer.body:
        del kept["Content-Length"], expected["headers"]["Content-Length"]
    assert (label, kept) == (label, expected["headers"])


def plain(body: str) -> Any:
    """A body without what Weave gives in no fixed order, and without versions, which tell how often news was merged."""
    if body.startswith('{"owned":'):
        return {each["containerid"]: each["addrs"] for each in json.loads(body)["owned"] or []}
    if "% of total" in body:
        first, *others = body.split("\n")
        return first, sorted(others)
    return re.sub(r'"Version":[0-9]+', "", body)


def test_every_route_of_a_lone_node(net: Net) -> None:
    net.launch(1, "10.32.0.0/12")
    replay(net, recorded("http/single_node.json"))


def test_a_default_subnet_and_no_allocator(net: Net) -> None:
    net.launch(1, "10.9.0.0/17", "10.9.0.0/16")
    net.launch(2, None)
    replay(net, recorded("http/disabled.json"))


def test_three_nodes_agree_donate_die_and_leave(net: Net) -> None:
    exchanges = recorded("http/three_nodes.json")
    parts: list[list[Exchange]] = [[]]
    for exchange in exchanges:
        if "event" in exchange:
            parts.append([])
        else:
            parts[-1].append(exchange)
    _, alone, observer, three, dns, killed, old, fresh, stopped = parts
    early, k3, _, obs1 = three[:4]
    with ThreadPoolExecutor() as threads:  # these waited until there were enough to decide

        def begin(exchange: Exchange) -> None:
            waiting.append(threads.submit(ask, net.client(exchange), exchange))
            net.settle()

        waiting: list[Future[None]] = []
        net.launch(1, "10.32.0.0/12", None, 2)
        replay(net, alone[:1])
        begin(early)
        replay(net, alone[1:4])
        begin(k3)
        replay(net, alone[4:])
        net.launch(3, "10.32.0.0/12", None, 2, is_observer=True)
        begin(obs1)
        replay(net, observer)
        net.launch(2, "10.32.0.0/12", None, 2)
        for each in waiting:
            each.result()
    net.settle()
    # Weave forgets a claim that it answered early when that client goes; ours has claimed the address meanwhile.
    assert net.hosts[0].client.request("DELETE", "/ip/k2").status == 204
    replay(net, [three[2], *three[4:], *dns])
    net.end(3)
    replay(net, killed)
    net.launch(3, "10.32.0.0/12", None, 2, is_observer=True)
    net.settle()
    assert set(net.cuts) == {frozenset((net.hosts[2].peer, net.hosts[number].peer)) for number in (0, 1)}
    replay(net, old)
    net.end(3)
    for path in (net.hosts[2].base / "state3").iterdir():
        path.unlink()
    net.launch(3, "10.32.0.0/12", None, 2, is_first=True, is_observer=True)
    net.settle()
    replay(net, fresh)
    net.end(2)
    net.settle()
    replay(net, stopped)


def test_a_small_range_is_used_up(net: Net) -> None:
    seed = (net.hosts[0].peer, net.hosts[1].peer)
    for number in (1, 2):
        net.launch(number, "10.9.0.0/28", seed=seed)
    net.settle()
    exchanges = recorded("http/exhaustion.json")
    stop = next(number for number, each in enumerate(exchanges) if "event" in each)
    full = next(number for number, each in enumerate(exchanges) if each["path"] == "/ip/full")
    last = next(number for number, each in enumerate(exchanges) if each["path"] == "/ip/b6")
    replay(net, exchanges[: last + 1])
    with ThreadPoolExecutor() as threads:  # it waited from here on
        waiting = threads.submit(ask, net.hosts[0].client, exchanges[full])
        net.settle()
        replay(net, exchanges[last + 1 : full])
        waiting.result()
    replay(net, exchanges[full + 1 : stop])
    net.end(1)
    replay(net, exchanges[stop + 1 :])


def test_different_seeds_and_ranges_part_the_peers(net: Net) -> None:
    exchanges = recorded("http/mismatch.json")
    first, second = net.hosts[0].peer, net.hosts[1].peer
    net.launch(1, "10.32.0.0/12", seed=(first,))
    net.launch(2, "10.32.0.0/12", seed=(second,))
    net.settle()
    replay(net, exchanges[:5])
    assert next(iter(net.cuts.values())) in _told(exchanges[2]) | _told(exchanges[2], swapped=True)
    net.end(2)
    for path in (net.hosts[1].base / "state2").iterdir():
        path.unlink()
    net.launch(2, "10.0.0.0/12", seed=(first,))
    net.settle()
    expected = {"10.32.0.0/12", "10.0.0.0/12"}
    assert all(each in next(iter(net.cuts.values())) for each in expected)


def _told(exchange: Exchange, *, swapped: bool = False) -> set[str]:
    """The sentence of a failed connection, also with the two peers in each other's place."""
    sentence = exchange["response"]["body"].split("failed      ")[1].rpartition(", retry")[0]
    if swapped:
        one, two = "02:00:00:00:00:01(host1)", "02:00:00:00:00:02(host2)"
        sentence = sentence.replace(one, "@").replace(two, one).replace("@", two)
    return {sentence}


def test_a_live_peer_is_taken_over_only_by_force(net: Net) -> None:
    seed = (net.hosts[0].peer, net.hosts[1].peer)
    for number in (1, 2):
        net.launch(number, "10.32.0.0/12", seed=seed)
    net.settle()
    *before, takeover, died, _, after = recorded("http/takeover_of_live_peer.json")
    assert "exit status" in died["event"], "Weave's peer dies of it; ours loses its space"
    replay(net, before)
    answer = net.hosts[0].client.request("DELETE", "/peer/host2")
    assert (answer.status, "host2 is in the network" in answer.body) == (400, True)
    replay(net, before)
    ask(net.hosts[0].client, {**takeover, "path": f"{takeover['path']}?force=true"})
    net.settle()
    replay(net, [after])
    assert "0 IPs" not in net.hosts[1].client.text("/status/ipam"), "the other owns nothing now"
