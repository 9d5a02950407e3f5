"""Names over HTTP and in `status`: a real server around the real names, asked what Weave was asked."""

import asyncio
import json
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from golden import document
from plait.api import metrics, status
from plait.api.client import Answer, Client
from plait.config import Config
from plait.dns.resolver import Resolver
from plait.dns.settings import Settings
from plait.mesh.gossip import GossipData
from plait.mesh.name import PeerName
from unit.api.nodes import MemoryNode, directory, report_of, serving, with_names

US = PeerName.parse("02:00:00:00:00:01")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Accept": "application/json"}


def resolver(sent: list[GossipData]) -> Resolver:
    return Resolver(US, {US}, Settings(listen=("127.0.0.1", 5353)), sent.append, lambda text: None)


@pytest.fixture
def node() -> MemoryNode:
    node = MemoryNode()
    node.names = resolver([])
    return node


@pytest.fixture
def client(node: MemoryNode) -> Iterator[Client]:
    with directory() as base, serving(node, Config(http_addr="", status_addr="", run_dir=base, docker_api="")):
        yield Client(base)


def about_names(exchange: dict[str, Any]) -> bool:
    path = exchange.get("path", "")
    is_dump = path == "/name" and exchange["method"] == "GET"
    is_v6 = "::" in path  # taken for 0.0.0.0 by the original, refused here
    return "response" in exchange and path.startswith(("/name", "/domain")) and not is_dump and not is_v6


def dump(client: Client) -> list[dict[str, Any]]:
    answer = client.request("GET", "/name", headers=JSON)
    assert answer.status == 200
    found: list[dict[str, Any]] = json.loads(answer.body) or []
    return found


def stable(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without when something was deleted, and without the address that is refused here."""
    return [{**each, "Tombstone": bool(each["Tombstone"])} for each in entries if each["Addr"] != "0.0.0.0"]


def test_a_history_of_requests_has_weaves_answers(client: Client, node: MemoryNode) -> None:
    asked = dumps = 0
    for exchange in document("http/single_node.json")["exchanges"]:
        if exchange.get("path") == "/name" and exchange.get("headers") == ["Accept: application/json"]:
            assert stable(dump(client)) == stable(json.loads(exchange["response"]["body"]) or [])
            dumps += 1
        elif about_names(exchange):
            body = "&".join(exchange.get("form") or []).encode()
            answer = client.request(exchange["method"], exchange["path"], body, FORM if body else None)
            expected = exchange["response"]
            assert (answer.status, answer.body) == (expected["status"], expected["body"]), exchange
            asked += 1
    assert (asked, dumps) == (24, 4)


def test_dump_wants_json_to_be_asked_for(client: Client) -> None:
    assert client.request("GET", "/name").status == 405
    assert client.request("GET", "/name", headers={"Accept": "*/*"}).status == 405
    assert client.request("GET", "/name", headers=JSON).body == "null\n"


def test_illegal_names_are_refused(client: Client) -> None:
    fqdn = urllib.parse.quote("a b.weave.local")
    answer = client.request("PUT", f"/name/c1/10.32.0.1?fqdn={fqdn}")
    assert answer.status == 400
    assert "may have letters" in answer.body


def test_the_name_of_a_dead_container_is_deleted_if_it_is_asked_for(client: Client, node: MemoryNode) -> None:
    node.dead = {"c1"}
    client.act("PUT", "/name/c1/10.32.0.1?fqdn=web.weave.local")
    assert client.call("dns-lookup", name="web")["addresses"] == ["10.32.0.1"], "nobody asked whether it lives"
    for container in ("c1", "c2"):
        client.act("PUT", f"/name/{container}/10.32.0.3?fqdn=db.weave.local&check-alive=true")
    assert client.call("dns-lookup", name="db")["addresses"] == ["10.32.0.3"]
    assert [(each["ContainerID"], bool(each["Tombstone"])) for each in dump(client) if each["Addr"] == "10.32.0.3"] == [
        ("c1", True),
        ("c2", False),
    ]


def test_lookup(client: Client) -> None:
    client.act("PUT", "/name/c1/10.32.0.1?fqdn=Web.weave.local")
    client.act("PUT", "/name/c2/10.32.0.2?fqdn=web.weave.local")
    expected = {"addresses": ["10.32.0.1", "10.32.0.2"], "names": []}
    for name in ("web", "WEB.weave.local", "web.weave.local."):
        assert client.call("dns-lookup", name=name) == expected
    assert client.call("dns-lookup", name="10.32.0.1") == {"addresses": [], "names": ["Web.weave.local."]}
    assert client.call("dns-lookup", name="10.32.0.9") == {"addresses": [], "names": []}


def test_where_names_are_answered(node: MemoryNode, client: Client) -> None:
    assert client.text("/dns-address") == client.text("/dns-address-port") == ""


def test_names_that_are_off_are_unknown_paths() -> None:
    node = MemoryNode()
    with directory() as base, serving(node, Config(http_addr="", status_addr="", run_dir=base, docker_api="")):
        client = Client(base)
        for method, path in (("GET", "/name"), ("PUT", "/name/c/1.2.3.4"), ("DELETE", "/name"), ("GET", "/domain")):
            assert client.request(method, path, headers=JSON) == Answer(404, "404 page not found\n")
        assert client.request("POST", "/plait/dns-lookup", b'{"name": "a"}').status == 404
        assert client.request("GET", "/status/dns") == Answer(500, "error during template execution\n")


@pytest.mark.parametrize("node", ["node1", "node2", "node3"])
def test_texts_are_weaves(node: str) -> None:
    sample = document("mesh/live/status_samples.json")["nodes"][node]
    report = with_names(sample["report"])
    expected = next(block for block in sample["text"]["/status"].split("\n\n") if "Service: dns" in block)
    ours = next(block for block in status.summary(report).split("\n\n") if "Service: dns" in block)
    assert ours.strip("\n").splitlines()[:5] == expected.strip("\n").splitlines()
    assert status.dns(report) == sample["text"]["/status/dns"]


def test_status_dns_is_weaves() -> None:
    names = resolver([])
    for container, ip, fqdn in (
        ("c2", 0x0A200004, "a.b.c.weave.local"),
        ("weave:extern", 0xC0000207, "ext.weave.local"),
        ("0123456789abcdef", 0x0A200003, "FOO.weave.local"),
    ):
        names.add(container, ip, fqdn)
    names.add("c3", 5, "gone.weave.local")
    names.remove("c3", None, None)
    node_report = report_of(document("mesh/live/status_samples.json")["nodes"]["node1"]["report"])
    assert status.dns(replace(node_report, dns=names.report())) == (
        "a.b.c        10.32.0.4                 c2 02:00:00:00:00:01\n"
        "ext          192.0.2.7       weave:extern 02:00:00:00:00:01\n"
        "FOO          10.32.0.3       0123456789ab 02:00:00:00:00:01\n"
    )


def test_the_metric_counts_our_living_names() -> None:
    names = resolver([])
    names.add("c", 1, "a.weave.local")
    names.add("c", 2, "b.weave.local")
    names.remove("c", 2, None)
    report = report_of(document("mesh/live/status_samples.json")["nodes"]["node1"]["report"])
    report = replace(report, dns=names.report(), router=replace(report.router, name=str(US)))
    assert "weave_dns_entries 1.0" in metrics.render(report, {}).decode()


def test_names_of_addresses_that_are_gone_are_released() -> None:
    sent: list[GossipData] = []
    names = resolver(sent)
    names.add("c1", 0x0A200001, "a.weave.local")
    names.add("weave:extern", 0x0A200001, "b.weave.local")
    names.add("c2", 0x0A200002, "c.weave.local")
    sent.clear()
    names.containers_have({"10.32.0.1", "fd00::1", "10.32.0.9", "10.32.0.2"})
    assert sent == []
    names.containers_have({"10.32.0.2"})
    assert [names.lookup(f"{label}.weave.local") for label in "abc"] == [[], [0x0A200001], [0x0A200002]]
    assert len(sent) == 1
    names.containers_have({"10.32.0.2"})
    assert len(sent) == 1


def test_start_and_close() -> None:
    async def check() -> None:
        names = Resolver(US, {US}, Settings(listen=("127.0.0.1", 0)), lambda news: None, lambda text: None)
        assert names.address is None
        await names.start()
        address = names.address
        assert address is not None
        assert names.report().address == f"127.0.0.1:{address[1]}"
        await names.close()
        assert names.report().address == ""

    asyncio.run(check())
