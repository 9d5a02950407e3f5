"""`GET /metrics`: Weave's names and labels, so that dashboards keep working, made from a report.

Metrics of services that are off are left out (Weave crashed there).
"""

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from plait.api.model import Connection, Ipam, Report
from plait.api.path_metrics import path_metrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ENCRYPTION = ("", "yes")


def render(report: Report) -> bytes:
    """Give the exposition text."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_ReportCollector(report))
    return generate_latest(registry)


class _ReportCollector(Collector):
    def __init__(self, report: Report) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        """Give what the report says."""
        router, plait = self._report.router, self._report.plait
        yield _connections(router.connections or [])
        yield CounterMetricFamily(
            "weave_connection_terminations", "Connections with peers that have ended.", value=router.termination_count
        )
        yield GaugeMetricFamily("plait_problems", "Things that are wrong now, see status.", value=len(plait.problems))
        if ipam := self._report.ipam:
            yield from _addresses(ipam)
        if dns := self._report.dns:
            ours = [entry for entry in dns.entries or [] if entry.origin == router.name and not entry.tombstone]
            yield GaugeMetricFamily("weave_dns_entries", "Names that this node gave.", value=len(ours))
        yield GaugeMetricFamily("plait_attached_containers", "Containers on the network here.", value=plait.attached)
        yield from path_metrics(plait)


def _addresses(ipam: Ipam) -> Iterator[Metric]:
    used = GaugeMetricFamily("weave_ips", "Addresses in use.", labels=("state",))
    used.add_metric(("local-used",), ipam.active_ips)
    lost = [entry for entry in ipam.entries or [] if not entry.is_known_peer]
    gauges: dict[str, tuple[str, float]] = {
        "weave_max_ips": ("Addresses to share out.", ipam.range_num_ips),
        "weave_ipam_unreachable_count": (
            "Peers that own addresses and are not in the mesh.",
            len({entry.peer for entry in lost}),
        ),
        "weave_ipam_unreachable_percentage": (
            "Percentage of the addresses that they own.",
            100 * sum(entry.size for entry in lost) / ipam.range_num_ips,
        ),
        "weave_ipam_pending_allocates": ("Requests that wait for an address.", len(ipam.pending_allocates or ())),
        "weave_ipam_pending_claims": ("Requests that wait for a given address.", len(ipam.pending_claims or ())),
    }
    yield used
    for name, (meaning, value) in gauges.items():
        yield GaugeMetricFamily(name, meaning, value=value)


def _connections(connections: list[Connection]) -> Metric:
    gauge = GaugeMetricFamily(
        "weave_connections", "Connections with peers, and targets without.", labels=("encryption", "state", "type")
    )
    counts = Counter(map(_labels, connections))
    for state, kind in sorted({(state, kind) for _, state, kind in counts}):
        for encryption in _ENCRYPTION:
            gauge.add_metric((encryption, state, kind), counts[encryption, state, kind])
    return gauge


def _labels(connection: Connection) -> tuple[str, str, str]:
    attributes = connection.attrs or {}
    kind = str(attributes.get("name", "none"))
    return "yes" if attributes.get("encrypted") else "", connection.state, "unknown" if kind == "none" else kind
