"""`GET /metrics`: Weave's metrics and plait's own, made from a report. docs/metrics.md lists them.

A metric of a service that is off, or of something that is not measured, has no samples and is left out.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from plait.api import node_metrics, path_metrics, weave_metrics
from plait.api.model import Report
from plait.api.requests import Requests

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

GROUPS = {
    "Weave's": weave_metrics.DEFINITIONS,
    "The node": node_metrics.DEFINITIONS,
    "Paths, kernel and pump": path_metrics.DEFINITIONS,
}
"""All metrics but those of processes."""

PUMP_NAMESPACE = "plait_pump"
PROCESS_METRICS = {
    "process_cpu_seconds_total": "CPU time of user and system, seconds",
    "process_resident_memory_bytes": "Memory that is resident",
    "process_virtual_memory_bytes": "Address space",
    "process_start_time_seconds": "When it was started, Unix time",
    "process_open_fds": "Open files",
    "process_max_fds": "How many it may open",
}
"""Of the node's process; the same of the pump's with `plait_pump_` before the name."""


def render(report: Report, requests: Requests) -> bytes:
    """Give the exposition text."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    pump = report.plait.pump.get("pid")
    if pump is not None:
        ProcessCollector(PUMP_NAMESPACE, lambda: pump, registry=registry)
    registry.register(_ReportCollector(report, requests))
    return generate_latest(registry)


class _ReportCollector(Collector):
    def __init__(self, report: Report, requests: Requests) -> None:
        self._report = report
        self._requests = requests

    def collect(self) -> Iterator[Metric]:
        """Give what the report says; without samples a metric is not there."""
        for metric in self._all():
            if metric.samples:
                yield metric

    def _all(self) -> Iterator[Metric]:
        yield from weave_metrics.weave_metrics(self._report)
        yield from node_metrics.node_metrics(self._report, self._requests)
        yield from path_metrics.path_metrics(self._report)
