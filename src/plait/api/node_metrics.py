"""Metrics of the node itself: what is wrong, the mesh, addresses, names, and who asks its API."""

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from plait.api.metric import Definition
from plait.api.model import Report
from plait.api.requests import Requests

_NO_ALLOCATOR = "with an empty `--ipalloc-range`"
_NO_NAMES = "with `--no-dns`"

BUILD_INFO = Definition("plait_build_info", "1 for the version that runs", ("version",))
READY = Definition("plait_ready", "1 if the node has begun to serve")
PROBLEMS = Definition("plait_problems", "Things that are wrong now, see `plait status`; every kind is there", ("kind",))
CONTAINERS = Definition("plait_attached_containers", "Containers on the network here")
EXPOSED = Definition("plait_exposed_addresses", "Addresses that the host has on the network")
REQUESTS = Definition(
    "plait_api_requests_total",
    "Answered requests to the HTTP API; `route` is the pattern, `unknown` for paths that there are not",
    ("route", "method", "code"),
    "until the first was answered",
)

PEERS = Definition("plait_mesh_peers", "Peers in the mesh, this one included")
PEER_INFO = Definition("plait_mesh_peer_info", "1 for each peer of the mesh, with its nickname", ("peer", "nickname"))
ROUTES = Definition("plait_mesh_routes", "Peers that there is a way to, this one included")
TARGETS = Definition("plait_mesh_targets", "Peers that the operator named")
CHANNELS = Definition("plait_mesh_gossip_channels", "Gossip channels, those that are only passed on too")
ENCRYPTION = Definition("plait_mesh_password", "1 if the node has a password")

AGREED = Definition("plait_ipam_agreed", "1 if the range is divided among the peers", absent=_NO_ALLOCATOR)
OWNED = Definition("plait_ipam_owned_addresses", "Addresses of the range that this peer owns", absent=_NO_ALLOCATOR)
FREE = Definition("plait_ipam_free_addresses", "Those of them that are free", absent=_NO_ALLOCATOR)
SUSPENDED = Definition(
    "plait_ipam_suspended", "1 while none may be given out, as others may take them over", absent=_NO_ALLOCATOR
)
RECLAIMED = Definition(
    "plait_ipam_reclaimed_addresses_total",
    "Addresses taken over from peers that are gone (--reclaim-after, plait ipam reclaim)",
    absent=_NO_ALLOCATOR,
)
ELECTORS = Definition(
    "plait_ipam_electors",
    "Peers, this one included, of which a majority must hear of it, or its addresses may be taken over (1: nobody may)",
    absent=_NO_ALLOCATOR,
)

DNS_UP = Definition("plait_dns_up", "1 if names are answered at an address of this host", absent=_NO_NAMES)
DNS_NAMES = Definition("plait_dns_names", "Names of the whole mesh, deleted ones excepted", absent=_NO_NAMES)
DNS_QUERIES = Definition(
    "plait_dns_queries_total",
    "Questions: `local` and `nxdomain` (answered here), `forwarded`, `unreadable`, `overload` (refused)",
    ("kind",),
    _NO_NAMES,
)
DNS_FAILURES = Definition(
    "plait_dns_upstream_failures_total", "Forwarded questions that no server answered", absent=_NO_NAMES
)

DEFINITIONS = (
    *(BUILD_INFO, READY, PROBLEMS, CONTAINERS, EXPOSED, REQUESTS),
    *(PEERS, PEER_INFO, ROUTES, TARGETS, CHANNELS, ENCRYPTION),
    *(AGREED, OWNED, FREE, SUSPENDED, RECLAIMED, ELECTORS, DNS_UP, DNS_NAMES, DNS_QUERIES, DNS_FAILURES),
)


def node_metrics(report: Report, requests: Requests) -> Iterator[Metric]:
    """Give what a report says of the node, and the requests that it answered."""
    plait = report.plait
    yield BUILD_INFO.samples([((report.version,), 1)])
    yield READY.value(report.ready)
    yield PROBLEMS.samples(((kind,), count) for kind, count in plait.figures.problems.items())
    yield CONTAINERS.value(plait.attached)
    yield EXPOSED.value(len(plait.exposed))
    yield REQUESTS.samples(requests.items())
    yield from _mesh(report)
    yield from _addresses(report)
    yield from _names(report)


def _mesh(report: Report) -> Iterator[Metric]:
    router = report.router
    yield PEERS.value(len(router.peers))
    yield PEER_INFO.samples(((peer.name, peer.nick_name), 1) for peer in router.peers)
    yield ROUTES.value(len(router.unicast_routes))
    yield TARGETS.value(len(router.targets or ()))
    yield CHANNELS.value(report.plait.figures.channels)
    yield ENCRYPTION.value(router.encryption)


def _addresses(report: Report) -> Iterator[Metric]:
    figures = report.plait.figures.addresses
    if figures is not None:
        yield AGREED.value(figures.agreed)
        yield OWNED.value(figures.owned)
        yield FREE.value(figures.free)
        yield SUSPENDED.value(figures.suspended)
        yield RECLAIMED.value(figures.reclaimed)
        yield ELECTORS.value(figures.electors)


def _names(report: Report) -> Iterator[Metric]:
    figures = report.plait.figures.names
    if figures is not None:
        entries = (report.dns.entries if report.dns else None) or []
        yield DNS_UP.value(figures.served)
        yield DNS_NAMES.value(sum(not entry.tombstone for entry in entries))
        yield DNS_QUERIES.samples(((kind,), count) for kind, count in figures.queries.items())
        yield DNS_FAILURES.value(figures.upstream_failures)
