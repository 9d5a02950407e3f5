import os

import pytest
from msgspec.structs import replace

from golden import document
from plait.api import metrics
from plait.api.model import Connection, Problem, Report
from unit.api.nodes import NOTHING_SPECIAL, sample_report

SLEEVE: dict[str, str | int | bool] = {"name": "sleeve", "mtu": 1438}
# Of services that are off here.
NOT_OURS = ("weave_dns", "weave_ip", "weave_max_ips", "weave_flows")


def values(text: str) -> dict[str, float]:
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def rendered(report: Report) -> dict[str, float]:
    return values(metrics.render(report).decode())


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
    body = metrics.render(with_connections(Connection("a", True, "failed", "", None))).decode()
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


def test_the_process_and_its_problems_are_measured() -> None:
    plait = replace(NOTHING_SPECIAL, problems=[Problem("a", "b", 0.0)], attached=3)
    ours = rendered(replace(sample_report(), plait=plait))
    assert ours["plait_problems"] == 1
    assert ours["plait_attached_containers"] == 3
    assert ours["process_resident_memory_bytes"] > 0
    assert ours["process_open_fds"] >= len(os.listdir("/proc/self/fd")) - 2


def test_names_of_services_that_are_off_are_absent() -> None:
    assert not [name for name in rendered(sample_report()) if name.startswith(NOT_OURS)]
