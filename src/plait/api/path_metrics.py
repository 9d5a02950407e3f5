"""Metrics of the ways that frames take: which overlay serves each peer, what the kernel carried and what it dropped."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from plait.api.model import ConnectionDetail, Datapath, PlaitReport


def path_metrics(plait: PlaitReport) -> Iterator[Metric]:
    """Give what a report says of connections and of the kernel's datapath."""
    yield from _connections(plait.connections)
    yield from _datapath(plait.datapath)


def _connections(connections: list[ConnectionDetail]) -> Iterator[Metric]:
    overlay = GaugeMetricFamily("plait_connection_overlay", "1 for the overlay in use.", labels=("peer", "overlay"))
    mtu = GaugeMetricFamily("plait_connection_mtu_bytes", "IP packet of a container that fits.", labels=("peer",))
    rtt = GaugeMetricFamily("plait_connection_rtt_seconds", "Smoothed round-trip time.", labels=("peer",))
    loss = GaugeMetricFamily("plait_connection_loss_ratio", "Part of the packets that is lost.", labels=("peer",))
    for each in connections:
        overlay.add_metric((each.peer, each.overlay), 1)
        mtu.add_metric((each.peer,), each.mtu)
        if each.rtt is not None:
            rtt.add_metric((each.peer,), each.rtt)
        if each.loss is not None:
            loss.add_metric((each.peer,), each.loss)
    yield from (overlay, mtu, rtt, loss)


def _datapath(datapath: Datapath) -> Iterator[Metric]:
    yield GaugeMetricFamily("plait_datapath_up", "1 if the kernel carries frames.", value=int(datapath.carries))
    drops = CounterMetricFamily("plait_datapath_drops", "Frames dropped in the kernel.", labels=("reason",))
    for drop in datapath.drops:
        drops.add_metric((drop.reason,), drop.frames)
    packets = CounterMetricFamily("plait_datapath_packets", "Packets by the kernel.", labels=("peer", "direction"))
    size = CounterMetricFamily("plait_datapath_bytes", "Bytes by the kernel.", labels=("peer", "direction"))
    for each in datapath.neighbours:
        packets.add_metric((each.peer, "sent"), each.tx_packets)
        packets.add_metric((each.peer, "received"), each.rx_packets)
        size.add_metric((each.peer, "sent"), each.tx_bytes)
        size.add_metric((each.peer, "received"), each.rx_bytes)
    yield from (drops, packets, size)
