"""What is measured: the names of metrics and systems, how often and how long, and what ONLY= selects. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from plait.errors import UsageError

SUPER, WIRE = "super", "wire"
MAX_FOREIGN_CORES = 0.3
"""CPU of other programs, in cores, above which a measurement is thrown away."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A name that stays the same over versions of plait, and its unit."""

    name: str
    unit: str
    more_is_better: bool


METRICS = (
    Metric("tcp1_gbps", "Gbit/s", True),
    Metric("tcp4_gbps", "Gbit/s", True),
    Metric("udp64_kpps", "kpackets/s", True),
    Metric("udp1400_gbps", "Gbit/s", True),
    Metric("rr_per_s", "1/s", True),
    Metric("rtt_us", "us", False),
    Metric("cpu_s_per_gb", "s/GB", False),
    Metric("cpu_us_per_pkt", "us/packet", False),
    Metric("launch_to_ping_s", "s", False),
    Metric("attach_ms", "ms", False),
    Metric("attach_api_ms", "ms", False),
    Metric("rss_mb", "MB", False),
    Metric("rss_daemon_mb", "MB", False),
    Metric("rss_pump_mb", "MB", False),
    Metric("idle_cpu_percent", "%", False),
)
UNITS = {metric.name: metric.unit for metric in METRICS}

TRAFFIC = ("tcp1_gbps", "tcp4_gbps", "udp64_kpps", "udp1400_gbps", "rr_per_s", "rtt_us")
TRAFFIC_ON_WIRE = ("tcp1_gbps", "udp64_kpps", "udp1400_gbps")
"""Where every packet travels alone: what comes in bursts. The others send few packets or small ones anyway."""

CPU_OF = {"tcp1_gbps": "cpu_s_per_gb", "udp64_kpps": "cpu_us_per_pkt"}
"""CPU metrics are taken in the runs of these; the other rates carry their CPU beside them only."""

PLAIT, PLAIT_ENC = "plait-weaveformat", "plait-weaveformat-enc"
WEAVE, WEAVE_ENC = "weave-sleeve", "weave-sleeve-enc"
VXLAN, ROUTED = "vxlan-bridge", "routed"
SYSTEMS = (PLAIT, PLAIT_ENC, WEAVE, WEAVE_ENC, VXLAN, ROUTED)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. Times are seconds."""

    rounds: int
    seconds: float
    wires: tuple[str, ...]
    congestion_controls: tuple[str, ...]
    idle_seconds: float
    attaches: int
    searches: bool
    """Look for the UDP rate at which most is delivered; else the sender is not held back."""
    retries: int
    """Noisy measurements that are repeated, in the whole run."""


FULL = Plan(5, 3.0, (SUPER, WIRE), ("cubic", "bbr"), idle_seconds=20.0, attaches=5, searches=True, retries=40)
QUICK = Plan(1, 1.0, (SUPER,), ("cubic",), idle_seconds=5.0, attaches=3, searches=False, retries=5)


@dataclass(frozen=True, slots=True)
class Selection:
    """The metrics and systems to measure."""

    metrics: frozenset[str]
    systems: tuple[str, ...]

    def wants(self, *metrics: str) -> bool:
        """Say whether one of these is to be measured, or comes out of measuring it."""
        return any(name in self.metrics or CPU_OF.get(name) in self.metrics for name in metrics)


def select(only: str, systems: Iterable[str]) -> Selection:
    """Read ONLY: names of metrics, and names of systems or parts of them, with commas between; empty means all.

    The baselines of the chosen systems are always measured too. Raises UsageError for a word that names nothing.
    """
    available = tuple(systems)
    metrics, chosen = set[str](), set[str]()
    for word in filter(None, (part.strip() for part in only.split(","))):
        matching = {name for name in available if word in name}
        if word in UNITS:
            metrics.add(word)
        elif matching:
            chosen |= matching
        else:
            raise UsageError(f"ONLY={word} names no metric ({', '.join(UNITS)}) and no system ({', '.join(available)})")
    chosen |= {name for name in (baseline(system, available) for system in chosen) if name}
    return Selection(frozenset(metrics or UNITS), tuple(name for name in available if not chosen or name in chosen))


def baseline(system: str, available: Collection[str]) -> str | None:
    """Give the rival with which a system of plait is compared: Weave where it can be run, else kernel VXLAN."""
    if not system.startswith("plait-"):
        return None
    rival = WEAVE_ENC if system.endswith("-enc") else WEAVE
    return next((name for name in (rival, VXLAN) if name in available), None)
