"""What is measured: the names of metrics and systems, how often and how long, and what ONLY= selects. Pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from plait.errors import UsageError

SUPER, WIRE = "super", "wire"
MAX_FOREIGN_CORES = 0.3
"""CPU of other programs, in cores, above which a measurement is thrown away."""


class Way(Enum):
    """What lies between two containers; the values are for people."""

    CABLE = "two hosts each"
    LOSSY = "two hosts each, a lossy switch between them"
    RELAY = "three hosts each, the middle one a relay"


@dataclass(frozen=True, slots=True)
class Metric:
    """A name that stays the same over versions of plait, and its unit."""

    name: str
    unit: str
    more_is_better: bool


METRICS = (
    Metric("tcp1_gbps", "Gbit/s", True),
    Metric("tcp4_gbps", "Gbit/s", True),
    Metric("tcp1_loss1_gbps", "Gbit/s", True),
    Metric("tcp1_relay_gbps", "Gbit/s", True),
    Metric("udp64_kpps", "kpackets/s", True),
    Metric("udp64_relay_kpps", "kpackets/s", True),
    Metric("udp1400_gbps", "Gbit/s", True),
    Metric("rr_per_s", "1/s", True),
    Metric("rtt_us", "us", False),
    Metric("cpu_s_per_gb", "s/GB", False),
    Metric("daemon_cpu_s_per_gb", "s/GB", False),
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

LOSSY = "tcp1_loss1_gbps"
"""Of the packets of this one, 1 in 100 is lost on a wire that segments; so it needs hosts joined by a switch."""
RELAYED = ("tcp1_relay_gbps", "udp64_relay_kpps")
"""From the first host to the third, by the second: the two have no link of their own."""
TRAFFIC = ("tcp1_gbps", "tcp4_gbps", "udp64_kpps", "udp1400_gbps", "rr_per_s", "rtt_us")
TRAFFIC_ON_WIRE = ("tcp1_gbps", "tcp4_gbps", "udp64_kpps", "udp1400_gbps")
"""Where every packet travels alone: what comes in bursts. The others send few packets or small ones anyway."""
WAITING = ("launch_to_ping_s", "attach_ms", "attach_api_ms")
WEIGHTS = ("rss_mb", "rss_daemon_mb", "rss_pump_mb", "idle_cpu_percent")

CPU_OF = {"tcp1_gbps": ("cpu_s_per_gb", "daemon_cpu_s_per_gb"), "udp64_kpps": ("cpu_us_per_pkt",)}
"""CPU metrics are taken in the runs of these; the other rates carry their CPU beside them only."""

FASTDP, FASTDP_DIRECT = "plait-fastdp", "plait-fastdp-direct"
PEERS = {10: "peers-10", 100: "peers-100", 1000: "peers-1000"}
"""plait-fastdp-direct whose kernel tables are filled as in networks of so many other hosts; by their number."""
SLEEVE, SLEEVE_ENC = "plait-sleeve", "plait-sleeve-enc"
SLEEVE_C, SLEEVE_C_ENC = "plait-sleeve-c", "plait-sleeve-c-enc"
WEAVEFORMAT, WEAVEFORMAT_ENC = "plait-weaveformat", "plait-weaveformat-enc"
WEAVE, WEAVE_ENC = "weave-sleeve", "weave-sleeve-enc"
VXLAN, ROUTED, SWARM = "vxlan-bridge", "routed", "docker-swarm"
NEBULA, WIREGUARD, TINC = "nebula", "wireguard-go", "tinc"
IN_KERNEL = (FASTDP, FASTDP_DIRECT)
IN_USER_SPACE = (SLEEVE, SLEEVE_ENC, SLEEVE_C, SLEEVE_C_ENC, WEAVEFORMAT, WEAVEFORMAT_ENC)
OURS = (*IN_KERNEL, *IN_USER_SPACE)
SYSTEMS = (*OURS, WEAVE, WEAVE_ENC, VXLAN, SWARM, NEBULA, WIREGUARD, TINC, ROUTED, *PEERS.values())

_PEERS_METRICS = frozenset(("tcp1_gbps", "udp64_kpps", "cpu_s_per_gb", "cpu_us_per_pkt"))
_VPN_METRICS = frozenset(("tcp1_gbps", "tcp4_gbps", LOSSY, "udp64_kpps", "rr_per_s", "rtt_us"))
"""Of VPNs: their MTUs differ too much for large datagrams, and nobody launches them like a container network."""

# For the estimate; from runs with two cores.
_BUILD_SECONDS = 3.0  # two hosts launched and joined
_BUILD_ENGINES_SECONDS = 15.0  # with a Docker engine each
_BETWEEN_SECONDS = 0.3  # programs start and end
_SEARCH_SECONDS = 4.5  # three or four UDP rates
_LAUNCH_SECONDS = 4.0
_ATTACH_SECONDS = 0.7
_MESH_SECONDS = 5.0  # three hosts


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


FULL = Plan(5, 3.0, (SUPER, WIRE), ("cubic", "bbr"), idle_seconds=20.0, attaches=5, searches=True, retries=60)
QUICK = Plan(1, 1.0, (SUPER,), ("cubic",), idle_seconds=5.0, attaches=3, searches=False, retries=5)


def adjusted(plan: Plan, wishes: Mapping[str, str]) -> Plan:
    """Give a plan with ROUNDS, congestion controls (CC) and WIRES that somebody wants. Raises UsageError."""
    rounds = wishes.get("ROUNDS") or str(plan.rounds)
    if not (rounds.isascii() and rounds.isdecimal() and int(rounds[:3])):
        raise UsageError(f"ROUNDS={rounds} is no number of rounds: give 1 to 999")
    wires = _words(wishes.get("WIRES", "")) or plan.wires
    if not {*wires} <= {SUPER, WIRE}:
        raise UsageError(f"WIRES={','.join(wires)} is not one or both of {SUPER}, {WIRE}")
    controls = _words(wishes.get("CC", "")) or plan.congestion_controls
    return replace(plan, rounds=int(rounds[:3]), congestion_controls=controls, wires=wires)


def _words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (word.strip() for word in text.split(","))))


@dataclass(frozen=True, slots=True)
class Selection:
    """The metrics and systems to measure; `named` if the metrics are those that ONLY= names, else they are all."""

    metrics: frozenset[str]
    systems: tuple[str, ...]
    named: bool = False

    def wants(self, *metrics: str) -> bool:
        """Say whether one of these is to be measured, or comes out of measuring it."""
        return any(name in self.metrics or self.metrics.intersection(CPU_OF.get(name, ())) for name in metrics)

    def systems_for(self, metric: str) -> tuple[str, ...]:
        """Give the systems of which a metric is measured."""
        return tuple(system for system in self.systems if is_measured(system, metric))


@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of traffic, under the same conditions for all systems. `cc`, congestion control, is for TCP only."""

    metric: str
    wire: str
    cc: str | None


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
    chosen |= {name for system in chosen for name in baselines(system, available)}
    selected = tuple(name for name in available if not chosen or name in chosen)
    return Selection(frozenset(metrics or UNITS), selected, named=bool(metrics))


def baselines(system: str, available: Collection[str]) -> tuple[str, ...]:
    """Give the rivals with which a system is compared, if they can run; the first is the one that counts.

    All are compared with kernel VXLAN. What plait does in the kernel, also with routing and Docker, what it does in
    user space, with Weave; filled tables with those of two hosts.
    """
    if system == VXLAN:
        return ()
    rivals: tuple[str, ...] = (VXLAN,)
    if system in IN_KERNEL:
        rivals = (VXLAN, ROUTED, SWARM)
    elif system in IN_USER_SPACE:
        rivals = (weave_for(system), VXLAN)
    elif system in PEERS.values():
        rivals = (FASTDP_DIRECT,)
    return tuple(name for name in rivals if name in available)


def weave_for(system: str) -> str:
    """Give the sort of Weave that does as much as a system: with a password if it has one."""
    return WEAVE_ENC if system.endswith("-enc") else WEAVE


def is_measured(system: str, metric: str) -> bool:
    """Say whether a metric of a system is of interest, and worth the time that it takes."""
    if system in (NEBULA, WIREGUARD, TINC):
        return metric in _VPN_METRICS
    if system in PEERS.values():
        return metric in _PEERS_METRICS
    if metric in RELAYED:
        return system in (*IN_KERNEL, VXLAN, ROUTED)
    if metric in ("attach_ms", "attach_api_ms"):
        return system in OURS and not system.endswith("-enc")
    if metric in WEIGHTS:
        return system not in (VXLAN, ROUTED)
    return True


def kinds(selection: Selection, plan: Plan) -> Iterator[Kind]:
    """Give all traffic between two hosts without loss; the second congestion control with one stream, on one wire."""
    for wire in plan.wires:
        for metric in TRAFFIC if wire == SUPER else TRAFFIC_ON_WIRE:
            if not selection.wants(metric):
                continue
            if not metric.startswith("tcp"):
                yield Kind(metric, wire, None)
                continue
            is_main = metric == "tcp1_gbps" and wire == SUPER
            yield from (Kind(metric, wire, cc) for cc in plan.congestion_controls[: None if is_main else 1])


def lossy_kinds(selection: Selection, plan: Plan) -> list[Kind]:
    """Give the lossy traffic. A plan without the wire that it needs has it only if it is named."""
    if not selection.wants(LOSSY) or (WIRE not in plan.wires and not selection.named):
        return []
    return [Kind(LOSSY, WIRE, cc) for cc in plan.congestion_controls]


def relay_kinds(selection: Selection, plan: Plan) -> list[Kind]:
    """Give the traffic by a relay, on the first wire of the plan only."""
    return [
        Kind(metric, plan.wires[0], plan.congestion_controls[0] if metric.startswith("tcp") else None)
        for metric in RELAYED
        if selection.wants(metric)
    ]


def traffic(selection: Selection, plan: Plan) -> dict[Way, list[Kind]]:
    """Give all traffic, by what it needs."""
    return {
        Way.CABLE: list(kinds(selection, plan)),
        Way.LOSSY: lossy_kinds(selection, plan),
        Way.RELAY: relay_kinds(selection, plan),
    }


def estimate(selection: Selection, plan: Plan) -> float:
    """Give about how many seconds a run takes, noise apart: at most `plan.retries` measurements are repeated."""
    seconds = 0.0
    for group in traffic(selection, plan).values():
        involved = {system for kind in group for system in selection.systems_for(kind.metric)}
        seconds += sum(_BUILD_ENGINES_SECONDS if name == SWARM else _BUILD_SECONDS for name in involved)
        seconds += sum(_seconds(kind, plan) * len(selection.systems_for(kind.metric)) for kind in group)
    for metric, once in (("launch_to_ping_s", _LAUNCH_SECONDS), ("attach_ms", _ATTACH_SECONDS * plan.attaches)):
        if selection.wants(metric):
            seconds += plan.rounds * once * len(selection.systems_for(metric))
    if selection.wants(*WEIGHTS):
        seconds += plan.idle_seconds + _MESH_SECONDS * len(selection.systems_for("rss_mb"))
    return seconds


def _seconds(kind: Kind, plan: Plan) -> float:
    """Of all rounds of one system."""
    if kind.metric == "rtt_us":
        return plan.rounds * 1.0
    searching = _SEARCH_SECONDS if plan.searches and kind.metric.startswith("udp") else 0.0
    return plan.rounds * (plan.seconds + _BETWEEN_SECONDS) + searching
