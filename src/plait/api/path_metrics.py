"""Metrics of the ways that frames take: the path to each neighbour, what kernel and pump carried and what they lost."""

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from plait.api.metric import Definition
from plait.api.model import ConnectionDetail, Datapath, PlaitReport, Report
from plait.overlay.sleeve.pump.counters import LOSSES

_PEER = ("peer",)
_UNMEASURED = "where it is not measured: Weave's formats do not"
_NO_KERNEL = "while the kernel carries no frames"
_NO_PUMP = "while the pump does not answer"
_DIRECTIONS = (("sent", "tx"), ("received", "rx"))
_ALONE = "without connections"

ESTABLISHED = Definition("plait_connection_established", "1 if frames pass, 0 if none do (yet)", _PEER, _ALONE)
ESTABLISHED_SINCE = Definition(
    "plait_connection_established_timestamp_seconds",
    "Since when frames pass, Unix time",
    _PEER,
    "for connections on which none do",
)
OVERLAY = Definition(
    "plait_connection_overlay",
    "1 for the overlay in use (`fastdp`: in the kernel, `plait1`, `sleeve`: in user space) and why it is",
    ("peer", "overlay", "reason"),
    _ALONE,
)
FALLS = Definition(
    "plait_connection_falls_total", "Falls from an overlay that had worked to a slower one, of all connections"
)
ENCRYPTED = Definition("plait_connection_encrypted", "1 if the connection is encrypted", _PEER, _ALONE)
MTU = Definition("plait_connection_mtu_bytes", "Largest IP packet of a container that fits", _PEER, _ALONE)
PATH_MTU = Definition("plait_connection_path_mtu_bytes", "IP packet between the hosts that goes with it", _PEER, _ALONE)
MTU_SOURCE = Definition(
    "plait_connection_path_mtu_source", "1 for the reason of the path MTU", ("peer", "source"), _ALONE
)
BLACK_HOLES = Definition(
    "plait_connection_black_holes_total", "Path-MTU black holes seen on this connection", _PEER, _ALONE
)
RTT = Definition("plait_connection_rtt_seconds", "Smoothed round-trip time", _PEER, _UNMEASURED)
JITTER = Definition("plait_connection_jitter_seconds", "Variation of the round-trip time", _PEER, _UNMEASURED)
LOSS = Definition("plait_connection_loss_ratio", "Part of the packets that is lost, 0 to 1", _PEER, _UNMEASURED)
REJECTED = Definition(
    "plait_connection_rejected_total", "Datagrams of the neighbour that the pump rejected", _PEER, _NO_PUMP
)
FRAMES = Definition(
    "plait_peer_frames_total",
    "Frames exchanged with a neighbour: by the kernel (`fastdp`) and by the pump",
    ("peer", "overlay", "direction"),
    "for overlays that carried none",
)
BYTES = Definition(
    "plait_peer_bytes_total",
    "The same in bytes: of frames in the kernel, of UDP payloads in the pump",
    FRAMES.labels,
    FRAMES.absent,
)

DATAPATH_UP = Definition("plait_datapath_up", "1 if the kernel carries frames")
DATAPATH_DROPS = Definition(
    "plait_datapath_drops_total", "Frames that the kernel's programs dropped", ("reason",), _NO_KERNEL
)
DATAPATH_ENTRIES = Definition(
    "plait_datapath_map_entries",
    "Entries in a table of the kernel's programs",
    ("map",),
    f"{_NO_KERNEL}, and for the one that cannot be counted",
)
DATAPATH_ROOM = Definition(
    "plait_datapath_map_max_entries", "Entries that it has room for", ("map",), DATAPATH_ENTRIES.absent
)

PUMP_UP = Definition("plait_pump_up", "1 if the pump, which carries frames in user space, answers")
PUMP_RESTARTS = Definition("plait_pump_restarts_total", "Pumps that ended and were replaced")
PUMP_DROPS = Definition(
    "plait_pump_drops_total", "Frames and datagrams that the pump lost or dropped", ("reason",), _NO_PUMP
)
_PUMP_COUNTERS = {
    "captured": Definition(
        "plait_pump_captured_frames_total", "Frames that containers of this host sent to others", absent=_NO_PUMP
    ),
    "injected": Definition(
        "plait_pump_injected_frames_total", "Frames given to containers of this host", absent=_NO_PUMP
    ),
    "sent": Definition("plait_pump_sent_datagrams_total", "Datagrams sent", absent=_NO_PUMP),
    "received": Definition("plait_pump_received_datagrams_total", "Datagrams received", absent=_NO_PUMP),
    "answered": Definition("plait_pump_too_big_answered_total", "Too big frames answered with ICMP", absent=_NO_PUMP),
    "fragmented": Definition(
        "plait_pump_fragmented_packets_total", "IPv4 packets cut because they did not fit", absent=_NO_PUMP
    ),
    "macs": Definition("plait_pump_mac_addresses", "MAC addresses that the pump knows", absent=_NO_PUMP),
    "mac_moves": Definition("plait_pump_mac_moves_total", "MAC addresses that changed their host", absent=_NO_PUMP),
}

DEFINITIONS = (
    *(ESTABLISHED, ESTABLISHED_SINCE, OVERLAY, FALLS, ENCRYPTED, MTU, PATH_MTU, MTU_SOURCE, BLACK_HOLES),
    *(RTT, JITTER, LOSS, REJECTED, FRAMES, BYTES),
    *(DATAPATH_UP, DATAPATH_DROPS, DATAPATH_ENTRIES, DATAPATH_ROOM),
    *(PUMP_UP, PUMP_RESTARTS, PUMP_DROPS, *_PUMP_COUNTERS.values()),
)


def path_metrics(report: Report) -> Iterator[Metric]:
    """Give what a report says of connections, of the kernel's datapath and of the pump."""
    yield from _connections(report.plait)
    yield from _measures(report.plait.connections)
    yield from _traffic(report.plait)
    yield from _datapath(report.plait.datapath)
    yield from _pump(report)


def _connections(plait: PlaitReport) -> Iterator[Metric]:
    found, figures = plait.connections, {each.peer: each for each in plait.figures.paths}
    yield ESTABLISHED.samples(((each.peer,), each.established_since is not None) for each in found)
    yield ESTABLISHED_SINCE.samples(
        ((each.peer,), each.established_since) for each in found if each.established_since is not None
    )
    yield OVERLAY.samples(
        ((each.peer, each.overlay, figures[each.peer].choice), 1) for each in found if each.peer in figures
    )
    yield FALLS.value(plait.figures.falls)
    yield ENCRYPTED.samples(((each.peer,), each.encrypted) for each in found)
    yield MTU.samples(((each.peer,), each.mtu) for each in found)
    yield PATH_MTU.samples(((each.peer,), each.path_mtu) for each in found)
    yield MTU_SOURCE.samples(((peer, each.mtu_source), 1) for peer, each in figures.items())
    yield BLACK_HOLES.samples(((peer,), each.black_holes) for peer, each in figures.items())
    yield JITTER.samples(((peer,), each.jitter) for peer, each in figures.items() if each.jitter is not None)


def _measures(connections: list[ConnectionDetail]) -> Iterator[Metric]:
    yield RTT.samples(((each.peer,), each.rtt) for each in connections if each.rtt is not None)
    yield LOSS.samples(((each.peer,), each.loss) for each in connections if each.loss is not None)
    yield REJECTED.samples(
        ((each.peer,), each.counters["rx_rejected"]) for each in connections if "rx_rejected" in each.counters
    )


def _traffic(plait: PlaitReport) -> Iterator[Metric]:
    frames: dict[tuple[str, ...], float] = {}
    size: dict[tuple[str, ...], float] = {}
    for each in plait.datapath.neighbours:
        for direction, short in _DIRECTIONS:
            labels = (each.peer, "fastdp", direction)
            frames[labels] = getattr(each, f"{short}_packets")
            size[labels] = getattr(each, f"{short}_bytes")
    overlays = {each.peer: each.user_overlay for each in plait.figures.paths}
    for detail in plait.connections:
        overlay = overlays.get(detail.peer)
        for direction, short in _DIRECTIONS if overlay is not None and detail.counters else ():
            labels = (detail.peer, overlay or "", direction)
            frames[labels] = detail.counters[f"{short}_frames"]
            size[labels] = detail.counters[f"{short}_bytes"]
    yield FRAMES.samples(frames.items())
    yield BYTES.samples(size.items())


def _datapath(datapath: Datapath) -> Iterator[Metric]:
    yield DATAPATH_UP.value(datapath.carries)
    yield DATAPATH_DROPS.samples(((drop.reason,), drop.frames) for drop in datapath.drops)
    yield DATAPATH_ENTRIES.samples(((each.name,), each.used) for each in datapath.maps if each.used is not None)
    yield DATAPATH_ROOM.samples(((each.name,), each.max_entries) for each in datapath.maps if each.used is not None)


def _pump(report: Report) -> Iterator[Metric]:
    restarts = report.plait.pump.get("restarts")
    yield PUMP_UP.value(report.plait.pump.get("answers") == "yes")
    yield PUMP_RESTARTS.value(restarts if isinstance(restarts, int) else 0)
    counters = report.router.overlay_diagnostics.get("sleeve")
    if isinstance(counters, dict):
        yield PUMP_DROPS.samples(((reason,), counters[reason]) for reason in LOSSES if reason in counters)
        for name, definition in _PUMP_COUNTERS.items():
            if name in counters:
                yield definition.value(counters[name])
