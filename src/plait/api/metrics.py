"""`GET /metrics`: Weave's names and labels, so that dashboards keep working, from a report."""

import os
from collections import Counter

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest
from prometheus_client import Counter as CounterMetric

from plait.api.model import Connection, Report

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(report: Report) -> bytes:
    """Give the exposition text."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry, pid=os.getpid)
    _connections(registry, report.router.connections or [])
    terminated = CounterMetric("weave_connection_terminations", "Number of peer connections ended.", registry=registry)
    terminated.inc(report.router.termination_count)
    problems = Gauge("plait_problems", "Number of things that are wrong now.", registry=registry)
    problems.set(len(report.plait.problems))
    return generate_latest(registry)


def _connections(registry: CollectorRegistry, connections: list[Connection]) -> None:
    gauge = Gauge(
        "weave_connections", "Number of peer-to-peer connections.", ["encryption", "state", "type"], registry=registry
    )
    counts: Counter[tuple[str, str, str]] = Counter()
    for connection in connections:
        attributes = connection.attrs or {}
        encryption = "yes" if attributes.get("encrypted") else ""
        kind = str(attributes.get("name", "unknown"))
        counts[encryption, connection.state, "unknown" if kind == "none" else kind] += 1
    for _, state, kind in list(counts):
        for encryption in ("", "yes"):
            gauge.labels(encryption, state, kind).set(counts[encryption, state, kind])
