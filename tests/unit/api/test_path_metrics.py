"""Metrics of connections and of the kernel's datapath."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from plait.api.model import ConnectionDetail, Datapath, DatapathDrop, DatapathNeighbour, PlaitReport
from plait.api.path_metrics import path_metrics

PEER = "02:00:00:00:00:02"


class Of(Collector):
    def __init__(self, plait: PlaitReport) -> None:
        self._plait = plait

    def collect(self) -> list[Metric]:
        return list(path_metrics(self._plait))


def rendered(plait: PlaitReport) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(Of(plait))
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def detail(rtt: float | None, loss: float | None) -> ConnectionDetail:
    return ConnectionDetail(
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
        established_since=None,
        rtt=rtt,
        loss=loss,
        rate_sent=None,
        rate_received=None,
        counters={},
    )


def report(connections: list[ConnectionDetail], datapath: Datapath) -> PlaitReport:
    return PlaitReport(problems=[], connections=connections, pump={}, attached=0, exposed=[], datapath=datapath)


def test_what_a_connection_uses_and_what_its_path_is_like() -> None:
    found = rendered(report([detail(0.001, 0.25)], Datapath()))
    assert found[f'plait_connection_overlay{{overlay="fastdp",peer="{PEER}"}}'] == 1
    assert found[f'plait_connection_mtu_bytes{{peer="{PEER}"}}'] == 1450
    assert found[f'plait_connection_rtt_seconds{{peer="{PEER}"}}'] == 0.001
    assert found[f'plait_connection_loss_ratio{{peer="{PEER}"}}'] == 0.25
    assert found["plait_datapath_up"] == 0


def test_what_is_not_known_is_left_out() -> None:
    found = rendered(report([detail(None, None)], Datapath()))
    assert not [name for name in found if "rtt" in name or "loss" in name]


def test_what_the_kernel_carried_and_dropped() -> None:
    neighbour = DatapathNeighbour(peer=PEER, nick_name="two", tx_packets=1, tx_bytes=2, rx_packets=3, rx_bytes=4)
    drop = DatapathDrop(reason="foreign", meaning="not ours", frames=7)
    found = rendered(report([], Datapath(carries=True, neighbours=[neighbour], drops=[drop])))
    assert found["plait_datapath_up"] == 1
    assert found['plait_datapath_drops_total{reason="foreign"}'] == 7
    values = {"sent": (1, 2), "received": (3, 4)}
    for direction, (packets, size) in values.items():
        labels = f'{{direction="{direction}",peer="{PEER}"}}'
        assert found[f"plait_datapath_packets_total{labels}"] == packets
        assert found[f"plait_datapath_bytes_total{labels}"] == size
