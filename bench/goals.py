"""How fast plait is to be, compared with rivals in the same run or by itself, and whether a run shows it. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.costs import Cost
from bench.plan import FASTDP, FASTDP_DIRECT, METRICS, PEERS, ROUTED, SWARM, VXLAN
from bench.report import NOISY, aligned, short
from bench.table import Conditions, title, values_of

NOISE_OF_CPU = 1.1
"""The cost of a frame is the same if it is within this ratio: CPU times of single runs differ by as much."""

_MORE_IS_BETTER = {metric.name: metric.more_is_better for metric in METRICS}


@dataclass(frozen=True, slots=True)
class Goal:
    """`ratio` of a system's value to its rival's: at least, or of what is better the less there is, at most."""

    system: str
    metric: str
    rival: str
    ratio: float

    def is_met(self, ratio: float) -> bool:
        """Say whether a ratio is good enough."""
        return ratio >= self.ratio if _MORE_IS_BETTER[self.metric] else ratio <= self.ratio

    @property
    def bound(self) -> str:
        """The goal for people."""
        return f"{'>=' if _MORE_IS_BETTER[self.metric] else '<='} {self.ratio:g}"


def _goals(system: str, rival: str, **ratios: float) -> list[Goal]:
    return [Goal(system, metric, rival, ratio) for metric, ratio in ratios.items()]


GOALS = (
    *_goals(
        FASTDP_DIRECT,
        VXLAN,
        tcp1_gbps=1.2,
        tcp4_gbps=1.2,
        udp64_kpps=1.5,
        rr_per_s=1.15,
        cpu_us_per_pkt=0.65,
        cpu_s_per_gb=0.8,
    ),
    *_goals(FASTDP_DIRECT, ROUTED, tcp1_gbps=0.95, tcp4_gbps=0.85, udp64_kpps=1.1),
    *_goals(FASTDP_DIRECT, SWARM, tcp1_gbps=1.2, tcp4_gbps=1.2, udp64_kpps=1.2),
    *_goals(FASTDP, VXLAN, tcp1_gbps=0.95, tcp4_gbps=0.95),
    *(
        goal
        for name in PEERS.values()
        for goal in _goals(name, FASTDP_DIRECT, cpu_us_per_pkt=NOISE_OF_CPU, cpu_s_per_gb=NOISE_OF_CPU)
    ),
)


MET, MISSED = "met", "missed"
LIMITS = {
    ("dns_per_s", "plait-dns"): 20_000.0,
    ("dns_p99_ms", "plait-dns"): 5.0,
    ("dns_rss_mb", "plait-dns"): 150.0,
    ("allocate_ms", "plait-ipam"): 2.0,
    ("merge_ms", "plait-ipam"): 50.0,
    ("receive_ms", "plait-ipam"): 50.0,
    ("held_mb", "plait-ipam"): 50.0,
}
"""Of costs, which have no rival: at least for rates (1/s), at most for all others."""


def costs_to_markdown(costs: Iterable[Cost]) -> str:
    """Write a table of costs with their goals, as far as there are some."""
    lines = []
    for cost in costs:
        limit = LIMITS.get((cost.metric, cost.system))
        is_rate = cost.unit == "1/s"
        bound = "" if limit is None else f"{'>=' if is_rate else '<='} {limit:g}"
        verdict = ""
        if limit is not None:
            verdict = MET if (cost.value >= limit if is_rate else cost.value <= limit) else MISSED
        lines.append([cost.system, cost.metric, short(cost.value), cost.unit, bound, verdict])
    return aligned([["system", "metric", "value", "unit", "goal", ""], *lines], left=2)


def to_markdown(rows: Sequence[Mapping[str, Any]], conditions: Conditions, goals: Iterable[Goal] = GOALS) -> str | None:
    """Write a table of the goals of which both values were measured; None if there are none.

    `!` stands behind ratios of noisy values.
    """
    values = values_of(rows, conditions)
    lines = []
    for goal in goals:
        own, other = values.get((goal.system, goal.metric)), values.get((goal.rival, goal.metric))
        if own is None or other is None or own["value"] is None or not other["value"]:
            continue
        ratio = own["value"] / other["value"]
        noisy = NOISY if own.get("noisy") or other.get("noisy") else ""
        verdict = MET if goal.is_met(ratio) else MISSED
        lines.append([goal.system, goal.rival, title(goal.metric), verdict, goal.bound, short(ratio) + noisy])
    return aligned([["system", "against", "metric", "", "goal", "ratio"], *lines], left=4) if lines else None
