"""What `status` and the metrics say of addresses: Weave's texts from Weave's reports."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from golden import document
from plait.api import metrics, model, status
from unit.api.nodes import report_of, sample_report


def recorded(node: str) -> tuple[model.Report, dict[str, str]]:
    found = document("mesh/live/status_samples.json")["nodes"][node]
    return replace(report_of(found["report"]), ipam=msgspec.convert(found["report"]["IPAM"], model.Ipam)), found["text"]


def with_ipam(**changes: Any) -> model.Report:
    report, _ = recorded("node1")
    assert isinstance(report.ipam, model.Ipam)
    return replace(report, ipam=replace(report.ipam, **changes))


def state(**changes: Any) -> str:
    lines = status.summary(with_ipam(**changes)).splitlines()
    return next(line for line in lines if line.startswith("         Status: ")).removeprefix("         Status: ")


@pytest.mark.parametrize("node", ["node1", "node2", "node3"])
def test_texts_are_weaves(node: str) -> None:
    report, texts = recorded(node)
    block = next(block for block in texts["/status"].split("\n\n") if "Service: ipam" in block)
    assert block.rstrip("\n") in status.summary(report)
    ours, weaves = status.ipam(report), texts["/status/ipam"]
    assert (ours.splitlines()[:1], sorted(ours.splitlines())) == (weaves.splitlines()[:1], sorted(weaves.splitlines()))


def test_states_come_in_weaves_order() -> None:
    entry = model.IpamEntry(
        token="10.32.0.0", size=4, peer="02:00:00:00:00:09", nickname="", is_known_peer=False, version=1
    )
    waits = ["c1 10.32.0.0/12"]
    assert state() == "ready"
    assert state(pending_allocates=waits) == "waiting for IP(s) to become available"
    lost = "all IP ranges owned by unreachable peers - use 'rmpeer' if they are dead"
    assert state(entries=[entry], pending_allocates=waits) == lost
    voting = model.Paxos(elector=True, known_nodes=1, quorum=2)
    assert state(entries=None, paxos=voting) == "awaiting consensus (quorum: 2, known: 1)"
    assert state(entries=None, paxos=replace(voting, elector=False)) == "priming"
    assert state(entries=None) == "idle"


def test_metrics_are_there_with_an_allocator_only() -> None:
    text = metrics.render(with_ipam(pending_allocates=["c1 10.32.0.0/12"]), {}).decode()
    assert 'weave_ips{state="local-used"} ' in text
    assert "\nweave_ipam_pending_allocates 1.0\n" in text
    assert "\nweave_ipam_unreachable_count 0.0\n" in text
    assert "weave_ip" not in metrics.render(sample_report(), {}).decode()
