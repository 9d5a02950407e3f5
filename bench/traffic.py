"""What travels from container to container: how each rate is measured, and the CPU time it takes."""

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import echo, machine, plan
from bench.network import Network, core_of
from plait.testing.lab import LabError, wait_until

DEFAULT_CC = "cubic"
UDP_PAYLOAD = {"udp64_kpps": 64, "udp64_relay_kpps": 64, "udp1400_gbps": 1372}
"""Bytes: the smaller as iperf3 counts them, the larger such that IP packets of 1400 bytes fit every system's MTU."""

RAMP = (1.2, 1.5, 2.0, 2.5)
"""Offered UDP rates tried, in multiples of what was delivered when the sender was not held back."""
RAMP_SECONDS = 1.0

_ECHO_PORT = 7
_PINGS, _PING_INTERVAL = 60, 0.01
_JSON_SECONDS = 30.0  # on top of the run's own time; a flooded path answers slowly


@dataclass(frozen=True, slots=True)
class Measured:
    """A value in the metric's unit, and the work that CPU time is divided by: GB or million packets, 0 for none."""

    value: float
    work: float = 0.0


def tcp(network: Network, seconds: float, cc: str, streams: int) -> Measured:
    """Give Gbit/s received."""
    options = ["--congestion", cc, "--parallel", str(streams)]
    received = _iperf3(network, seconds, *options)["sum_received"]
    return Measured(received["bits_per_second"] / 1e9, received["bytes"] / 1e9)


def udp(network: Network, seconds: float, metric: str, offered: float) -> Measured:
    """Give kpackets/s or Gbit/s (of UDP payload) received. `offered` is the rate sent, packets/s; 0 for all it can."""
    payload = UDP_PAYLOAD[metric]
    rate = str(round(offered * payload * 8))
    end = _iperf3(network, seconds, "--udp", "--length", str(payload), "--bitrate", rate)
    packets = end["sum"]["packets"] - end["sum"]["lost_packets"]
    per_second = packets / end["sum"]["seconds"]
    if metric.endswith("_kpps"):
        return Measured(per_second / 1e3, packets / 1e6)
    return Measured(per_second * payload * 8 / 1e9, packets * payload / 1e9)


def best_offer(network: Network, metric: str) -> float:
    """Find the offered rate, packets/s, at which most is delivered; 0 if the sender need not be held back.

    A flooded path delivers less than one that is just full: its CPU goes to packets that are lost later.
    """
    payload = UDP_PAYLOAD[metric]
    per_unit = 1e3 if metric.endswith("_kpps") else 1e9 / payload / 8
    flooded = udp(network, RAMP_SECONDS, metric, 0.0).value
    best, best_rate = 0.0, flooded
    for factor in RAMP:
        offered = flooded * factor * per_unit
        delivered = udp(network, RAMP_SECONDS, metric, offered).value
        if delivered <= best_rate:
            break
        best, best_rate = offered, delivered
    return best


def requests(network: Network, seconds: float) -> Measured:
    """Give one-byte requests answered per second, over one TCP connection."""
    program, address = str(Path(echo.__file__)), network.server.ip
    with machine.pinned(core_of(network.server)):
        server = network.server.spawn([sys.executable, program, "serve", address, str(_ECHO_PORT)])
    try:
        wait_until(lambda: echo.LISTENING in server.output, "the echo server listens")
        with machine.pinned(core_of(network.client)):
            words = [sys.executable, program, "ask", address, str(_ECHO_PORT), str(seconds)]
            rate = float(network.client.run(words, timeout=seconds + _JSON_SECONDS).stdout)
    finally:
        server.stop()
    return Measured(rate, rate * seconds / 1e6)


def round_trip(network: Network) -> Measured:
    """Give the median of pings on an idle path, us."""
    with machine.pinned(core_of(network.client)):
        result = network.client.ping(network.server, count=_PINGS, interval=_PING_INTERVAL)
    if not result.rtts_ms:
        raise LabError(f"{network.name}: no ping was answered")
    return Measured(statistics.median(result.rtts_ms) * 1e3)


def measurement(metric: str, seconds: float, cc: str | None, offered: float) -> Callable[[Network], Measured]:
    """Give what measures a metric."""
    match metric:
        case "tcp1_gbps" | "tcp4_gbps" | "tcp1_relay_gbps" | plan.LOSSY:
            return lambda network: tcp(network, seconds, cc or DEFAULT_CC, 4 if metric == "tcp4_gbps" else 1)
        case "udp64_kpps" | "udp64_relay_kpps" | "udp1400_gbps":
            return lambda network: udp(network, seconds, metric, offered)
        case "rr_per_s":
            return lambda network: requests(network, seconds)
        case "rtt_us":
            return round_trip
    raise ValueError(f"{metric} is not measured by traffic")


def _iperf3(network: Network, seconds: float, *options: str) -> dict[str, Any]:
    """Run iperf3, each end on its host's core, and give the part of its report about the whole run."""
    cores = f"{core_of(network.client)},{core_of(network.server)}"
    words = ("--time", str(max(1, round(seconds))), "--affinity", cores, *options)
    report = network.client.iperf3(network.server, *words, timeout=seconds + _JSON_SECONDS)
    end: dict[str, Any] = report["end"]
    return end
