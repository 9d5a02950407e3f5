"""Weave's metrics, with its names, types and labels, so that dashboards keep working.

Those of services that are off are absent; one question for them ended a weaver without an allocator.
"""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from plait.api.metric import Definition
from plait.api.model import Connection, Ipam, Report

_ENCRYPTION = ("", "yes")
_NO_ALLOCATOR = "with an empty `--ipalloc-range`"

CONNECTIONS = Definition(
    "weave_connections",
    "Connections with peers, and targets that have none",
    ("encryption", "state", "type"),
    "while there are none; both values of `encryption` are there for each pair of `state` and `type` that occurs",
)
TERMINATIONS = Definition("weave_connection_terminations_total", "Connections with peers that have ended")
FLOWS = Definition(
    "weave_flows",
    "MAC addresses that the kernel's datapath has learned: plait has no flow table, these stand in its place",
    absent="while the kernel carries no frames",
)
DNS_ENTRIES = Definition("weave_dns_entries", "Names that this node gave", absent="with `--no-dns`")
IPS = Definition("weave_ips", "Addresses of the range that are in use here", ("state",), _NO_ALLOCATOR)
MAX_IPS = Definition("weave_max_ips", "Addresses of the whole range", absent=_NO_ALLOCATOR)
UNREACHABLE_COUNT = Definition(
    "weave_ipam_unreachable_count", "Peers that own addresses and are not in the mesh", absent=_NO_ALLOCATOR
)
UNREACHABLE_PERCENTAGE = Definition(
    "weave_ipam_unreachable_percentage", "Their share of the range, 0 to 100", absent=_NO_ALLOCATOR
)
PENDING_ALLOCATES = Definition(
    "weave_ipam_pending_allocates", "Requests that wait for an address", absent=_NO_ALLOCATOR
)
PENDING_CLAIMS = Definition("weave_ipam_pending_claims", "Requests that wait for a given address", absent=_NO_ALLOCATOR)

DEFINITIONS = (
    *(CONNECTIONS, TERMINATIONS, FLOWS, DNS_ENTRIES, IPS, MAX_IPS),
    *(UNREACHABLE_COUNT, UNREACHABLE_PERCENTAGE, PENDING_ALLOCATES, PENDING_CLAIMS),
)


def weave_metrics(report: Report) -> Iterator[Metric]:
    """Give what a report says in Weave's metrics."""
    router, datapath = report.router, report.plait.datapath
    yield CONNECTIONS.samples(_connections(router.connections or []).items())
    yield TERMINATIONS.value(router.termination_count)
    if datapath.carries:
        yield FLOWS.value(datapath.learned)
    if dns := report.dns:
        ours = [entry for entry in dns.entries or [] if entry.origin == router.name and not entry.tombstone]
        yield DNS_ENTRIES.value(len(ours))
    if ipam := report.ipam:
        yield from _addresses(ipam)


def _addresses(ipam: Ipam) -> Iterator[Metric]:
    lost = [entry for entry in ipam.entries or [] if not entry.is_known_peer]
    yield IPS.samples([(("local-used",), ipam.active_ips)])
    yield MAX_IPS.value(ipam.range_num_ips)
    yield UNREACHABLE_COUNT.value(len({entry.peer for entry in lost}))
    yield UNREACHABLE_PERCENTAGE.value(100 * sum(entry.size for entry in lost) / ipam.range_num_ips)
    yield PENDING_ALLOCATES.value(len(ipam.pending_allocates or ()))
    yield PENDING_CLAIMS.value(len(ipam.pending_claims or ()))


def _connections(connections: list[Connection]) -> dict[tuple[str, ...], float]:
    counts = Counter(map(_labels, connections))
    pairs = sorted({(state, kind) for _, state, kind in counts})
    return {(each, state, kind): counts[each, state, kind] for state, kind in pairs for each in _ENCRYPTION}


def _labels(connection: Connection) -> tuple[str, str, str]:
    attributes = connection.attrs or {}
    kind = str(attributes.get("name", "none"))
    return "yes" if attributes.get("encrypted") else "", connection.state, "unknown" if kind == "none" else kind
