"""What a real Weave router answered, asked of ours: the routes that exist here, and those of services that are off."""

import json
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from golden import cases, document, left_out
from plait.api.client import Client
from plait.config import Config
from unit.api.nodes import MemoryNode, directory, report_of, serving

Exchange = dict[str, Any]
FILES = ("http/single_node.json", "http/disabled.json", "http/three_nodes.json")
# disabled.json: host1 ran without DNS, host2 without an allocator, so their other half is not ours to answer.
IN_ORDER_OF_NAMES = "asked in its order in test_name_vectors.py"
OF_DNS, OF_ALLOCATOR = ("/name", "/domain", "/dns-address"), ("/ip", "/ring")


def why_not(path: str, exchange: Exchange) -> str | None:
    """Why an exchange is not ours to answer; None if it is."""
    if "response" not in exchange or "status" not in exchange["response"]:
        return "an event, or Weave crashed"
    route = exchange["path"]
    is_off = path == "http/disabled.json"
    if exchange["response"]["status"] == 404:
        return None
    if route.startswith(OF_DNS):
        return IN_ORDER_OF_NAMES
    if route.startswith(OF_ALLOCATOR):
        return "asked in its order in test_ipam_vectors.py"
    if route.startswith("/peer/") and not is_off:
        return "asked in its order in test_ipam_vectors.py"
    if route == "/status/dns" and exchange["response"]["status"] != 500:
        return IN_ORDER_OF_NAMES
    if route == "/status/ipam" and exchange["response"]["status"] != 500:
        return "asked in its order in test_ipam_vectors.py"
    if route == "/metrics":
        return "compared in test_metrics.py"
    if route == "/status" or route.startswith("/report?format={{.IPAM") or "Accept: application/json" in str(exchange):
        return "its blocks of services are left out here; see test_status.py"
    if not is_off and "json .DNS" in unquoted(exchange):
        return IN_ORDER_OF_NAMES
    if not is_off and "IPAM" in unquoted(exchange):
        return "asked in its order in test_ipam_vectors.py"
    if route in ("/status/peers", "/status/connections", "/status/targets") and path == "http/three_nodes.json":
        return "the report it was made from was not recorded"
    return None


def unquoted(exchange: Exchange) -> str:
    return urllib.parse.unquote(exchange["path"])


def ours() -> Iterator[Any]:
    for path in FILES:
        for number, exchange in enumerate(cases(path, "exchanges")):
            reason = why_not(path, exchange)
            if reason is None:
                name = f"{path.removesuffix('.json')}-{number}-{exchange['method']}-{unquoted(exchange)}"
                yield pytest.param((exchange,), id=name)
            else:
                left_out(path, f"{number}", reason)


def the_report() -> Any:
    recorded = next(
        exchange["response"]["body"]
        for exchange in document("http/single_node.json")["exchanges"]
        if exchange.get("path") == "/report" and exchange.get("headers")
    )
    return report_of(json.loads(recorded))


@pytest.fixture(scope="module")
def addresses() -> Iterator[dict[str, Client]]:
    with directory() as base:
        run_dir, status = base / "run", base / "status"
        status.mkdir()
        config = Config(
            http_addr="", status_addr=str(status / "plait.sock"), metrics_addr="", run_dir=run_dir, docker_api=""
        )
        with serving(MemoryNode(the_report()), config):
            yield {"control": Client(run_dir), "status": Client(status)}


@pytest.mark.parametrize("case", list(ours()))
def test_answers_are_weaves(addresses: dict[str, Client], case: tuple[Exchange]) -> None:
    exchange, expected = case[0], case[0]["response"]
    headers = dict(header.split(": ", 1) for header in exchange.get("headers") or [])
    form = "&".join(exchange.get("form") or []).encode()
    if form:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    answer = addresses[exchange["port"]].request(exchange["method"], exchange["path"], form, headers)
    assert (answer.status, answer.body) == (expected["status"], expected["body"])
    kept = {name: value for name, value in answer.headers.items() if name in expected["headers"]}
    assert kept == expected["headers"]
    assert not set(answer.headers) - set(expected["headers"]) - {"Date", "X-Plait-Detail"}
