import os
import re
from itertools import chain
from pathlib import Path

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from golden import document
from plait.api import metrics
from plait.api.client import Client
from plait.api.metrics_guide import guide
from plait.api.model import Connection, Report
from plait.config import Config
from unit.api.full_report import REQUESTS, exposition, full_report
from unit.api.nodes import NOTHING_SPECIAL, MemoryNode, directory, sample_report, serving

ROOT = Path(__file__).parents[3]
DEFINED = tuple(chain.from_iterable(metrics.GROUPS.values()))

SLEEVE: dict[str, str | int | bool] = {"name": "sleeve", "mtu": 1438}
# Of services that are off here.
NOT_OURS = ("weave_dns", "weave_ip", "weave_max_ips", "weave_flows")


def values(text: str) -> dict[str, float]:
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def rendered(report: Report) -> dict[str, float]:
    return values(metrics.render(report, {}).decode())


def with_connections(*connections: Connection, terminations: int = 0) -> Report:
    report = sample_report()
    router = replace(report.router, connections=list(connections) or None, termination_count=terminations)
    return replace(report, router=router)


def recorded(path: str) -> str:
    bodies = [e["response"]["body"] for e in document(path)["exchanges"] if e.get("path") == "/metrics"]
    body: str = next(body for body in bodies if "weave_" in body)
    return body


@pytest.mark.parametrize("path", ["http/three_nodes.json", "http/single_node.json"])
def test_names_labels_and_values_are_weaves(path: str) -> None:
    weave = values(recorded(path))
    terminations = int(weave["weave_connection_terminations_total"])
    up = Connection("10.0.0.1:6783", True, "established", "", SLEEVE)
    report = with_connections(*[up] * int("weave_connections" in recorded(path)), terminations=terminations)
    ours = {name: value for name, value in rendered(report).items() if name.startswith("weave_")}
    assert ours == {name: value for name, value in weave.items() if not name.startswith(NOT_OURS)}


def test_types_are_weaves() -> None:
    body = metrics.render(with_connections(Connection("a", True, "failed", "", None)), {}).decode()
    ours = {line for line in body.splitlines() if line.startswith("# TYPE weave_")}
    weave = {
        line for line in recorded("http/three_nodes.json").splitlines() if line.startswith("# TYPE weave_connection")
    }
    assert ours == weave


def test_each_pair_of_state_and_type_has_both_encryptions() -> None:
    report = with_connections(
        Connection("a", True, "established", "", {**SLEEVE, "encrypted": True}),
        Connection("b", True, "established", "", {**SLEEVE, "encrypted": True}),
        Connection("c", True, "pending", "", {"name": "none"}),
        Connection("d", True, "failed", "", None),
    )
    ours = {name: value for name, value in rendered(report).items() if name.startswith("weave_connections{")}
    assert ours == {
        'weave_connections{encryption="",state="established",type="sleeve"}': 0,
        'weave_connections{encryption="yes",state="established",type="sleeve"}': 2,
        'weave_connections{encryption="",state="failed",type="unknown"}': 1,
        'weave_connections{encryption="yes",state="failed",type="unknown"}': 0,
        'weave_connections{encryption="",state="pending",type="unknown"}': 1,
        'weave_connections{encryption="yes",state="pending",type="unknown"}': 0,
    }


def test_a_lonely_node_has_no_connections_to_count() -> None:
    assert not [name for name in rendered(with_connections()) if name.startswith("weave_connections")]


@pytest.mark.parametrize("path", ["http/three_nodes.json", "http/single_node.json"])
def test_with_all_services_every_metric_of_weave_is_there(path: str) -> None:
    ours = metrics.render(full_report(), {}).decode()
    shapes = {re.sub(r'(state|type)="(?!local)[a-z0-9]+"', r'\1=""', line) for line in ours.splitlines()}
    for line in recorded(path).splitlines():
        if line.startswith("# TYPE weave_"):
            assert line in ours
        elif line.startswith("weave_"):
            shape = re.sub(r'(state|type)="(?!local)[a-z0-9]+"', r'\1=""', line.rpartition(" ")[0])
            assert any(each.startswith(f"{shape} ") for each in shapes), line


def test_the_kernels_addresses_stand_for_flows() -> None:
    assert exposition(full_report())["weave_flows"] == 3
    assert "weave_flows" not in exposition(sample_report())


def test_the_exposition_is_what_is_defined() -> None:
    text = metrics.render(full_report(), REQUESTS).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for each in DEFINED:
        family = families.pop(each.name.removesuffix("_total") if each.kind == "counter" else each.name)
        assert (family.type, family.documentation) == (each.kind, f"{each.meaning}.")
        assert family.samples
        for sample in family.samples:
            assert (sample.name, {*sample.labels}) == (each.name, {*each.labels})
    left = {sample.name for family in families.values() for sample in family.samples}
    assert left == {*metrics.PROCESS_METRICS}


def test_every_peer_of_a_metric_has_its_nickname() -> None:
    found = exposition(full_report())
    peers = {name: re.search(r'peer="([^"]+)"', name) for name in found}
    named = {match[1] for name, match in peers.items() if match and name.startswith("plait_mesh_peer_info")}
    assert {match[1] for match in peers.values() if match} == named


def test_every_metric_has_a_sentence_and_a_prefix() -> None:
    for each in DEFINED:
        assert each.meaning
        assert not each.meaning.endswith(".")
        assert each.name.startswith(("weave_", "plait_"))


def test_the_guide_is_that_of_the_metrics() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == guide(), "python -m plait.api.metrics_guide > docs/metrics.md"


def test_the_node_and_its_problems_are_measured() -> None:
    found = exposition(full_report())
    assert found[f'plait_build_info{{version="{full_report().version}"}}'] == 1
    assert (found["plait_ready"], found["plait_attached_containers"]) == (1, 3)
    assert (found['plait_problems{kind="pending"}'], found['plait_problems{kind="other"}']) == (1, 0)
    assert found['plait_api_requests_total{code="200",method="GET",route="/status"}'] == 3
    assert found["plait_mesh_gossip_channels"] == 4
    assert found["plait_mesh_peers"] == len(full_report().router.peers)


def test_addresses_and_names_are_measured() -> None:
    found = exposition(full_report())
    assert [found[f"plait_ipam_{each}"] for each in ("agreed", "owned_addresses", "free_addresses")] == [1, 1024, 1000]
    assert found['plait_dns_queries_total{kind="nxdomain"}'] == 2
    assert (found["plait_dns_up"], found["plait_dns_upstream_failures_total"]) == (1, 1)


def test_both_processes_are_measured() -> None:
    found = exposition(replace(sample_report(), plait=replace(NOTHING_SPECIAL, pump={"pid": os.getpid()})))
    for name in metrics.PROCESS_METRICS:
        assert name in found
        assert f"{metrics.PUMP_NAMESPACE}_{name}" in found
    assert found["process_start_time_seconds"] == found["plait_pump_process_start_time_seconds"] > 0
    assert found["process_open_fds"] >= len(os.listdir("/proc/self/fd")) - 2


def test_names_of_services_that_are_off_are_absent() -> None:
    off = (*NOT_OURS, "plait_ipam", "plait_dns")
    assert not [name for name in exposition(sample_report()) if name.startswith(off)]


def test_requests_are_counted_by_pattern() -> None:
    with directory() as base, serving(MemoryNode(), Config(http_addr="", status_addr="", run_dir=base / "run")):
        client = Client(base / "run")
        for path in ("/status", "/status/peers", "/status/nothing", "/no/such/path", "/connect", "/status"):
            client.request("GET", path)
        client.request("POST", "/connect", b"peer=bad1", {"Content-Type": "application/x-www-form-urlencoded"})
        counted = values(client.text("/metrics"))
    name = 'plait_api_requests_total{{code="{}",method="{}",route="{}"}}'.format
    assert {each: count for each, count in counted.items() if each.startswith("plait_api")} == {
        name("200", "GET", "/status"): 2,
        name("200", "GET", "/status/{sub}"): 1,
        name("404", "GET", "/status/{sub}"): 1,
        name("404", "unknown", "unknown"): 1,
        name("405", "unknown", "unknown"): 1,
        name("400", "POST", "/connect"): 1,
    }
