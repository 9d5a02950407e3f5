"""A report of a node with all services on, so that every metric has a sample."""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from golden import document
from plait.api import metrics, model
from plait.api.figures import AddressFigures, Figures, NameFigures, PathFigures
from plait.overlay.fastdp.tables import DROP_REASONS
from plait.overlay.sleeve.pump.counters import COUNTERS
from unit.api.nodes import NOTHING_SPECIAL, sample_report

PEER = "02:00:00:00:01:01"
REQUESTS = {("/status", "GET", "200"): 3}
COUNTED = {name: 100 + number for number, name in enumerate(COUNTERS)}
FIGURES = Figures(
    problems={"pending": 1, "other": 0},
    paths=[
        PathFigures(
            peer=PEER,
            user_overlay="plait1",
            choice="first_choice",
            mtu_source="acknowledged",
            jitter=0.0005,
            black_holes=2,
        )
    ],
    falls=5,
    channels=4,
    addresses=AddressFigures(owned=1024, free=1000, agreed=True, suspended=False, reclaimed=256, electors=3),
    names=NameFigures(served=True, queries={"local": 7, "nxdomain": 2}, upstream_failures=1),
)
DATAPATH = model.Datapath(
    carries=True,
    maps=[
        model.DatapathMap(name="learned", kind="lru_hash", used=3, max_entries=4096),
        model.DatapathMap(name="events", kind="ringbuf", used=None, max_entries=65536),
    ],
    neighbours=[
        model.DatapathNeighbour(peer=PEER, nick_name="two", tx_packets=1, tx_bytes=2, rx_packets=3, rx_bytes=4)
    ],
    drops=[model.DatapathDrop(reason=reason, meaning=meaning, frames=7) for reason, meaning in DROP_REASONS.items()],
    learned=3,
)


def detail(rtt: float | None = 0.001, loss: float | None = 0.25) -> model.ConnectionDetail:
    return model.ConnectionDetail(
        peer=PEER,
        nick_name="two",
        overlay="fastdp",
        reason="fastdp is the first choice",
        mtu=1450,
        path_mtu=1500,
        mtu_source="acknowledged by the peer",
        remote="192.0.2.2:6784",
        encrypted=False,
        cipher=None,
        established_since=1_700_000_000.0,
        rtt=rtt,
        loss=loss,
        rate_sent=None,
        rate_received=None,
        counters={"tx_frames": 5, "tx_bytes": 6, "rx_frames": 7, "rx_bytes": 8, "rx_rejected": 9},
    )


def plait_report(
    connections: Sequence[model.ConnectionDetail] = (), datapath: model.Datapath = DATAPATH, figures: Figures = FIGURES
) -> model.PlaitReport:
    pump: dict[str, str | int | None] = {"pid": None, "restarts": 2, "answers": "yes"}
    return replace(
        NOTHING_SPECIAL, connections=list(connections), pump=pump, attached=3, datapath=datapath, figures=figures
    )


def report_with(plait: model.PlaitReport, counters: dict[str, int] | None = None) -> model.Report:
    report = sample_report()
    router = replace(report.router, overlay_diagnostics={"fastdp": None, "sleeve": counters})
    return replace(report, plait=plait, router=router)


def full_report() -> model.Report:
    weave = document("mesh/live/status_samples.json")["nodes"]["node2"]["report"]
    names = model.Dns(domain="weave.local.", upstream=[], address="172.17.0.1:53", ttl=1, entries=[])
    shared = msgspec.convert(weave["IPAM"], model.Ipam)
    return replace(report_with(plait_report([detail()]), COUNTED), dns=names, ipam=shared)


def exposition(report: model.Report) -> dict[str, float]:
    """The samples, by name and labels as they stand there."""
    lines = metrics.render(report, REQUESTS).decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}
