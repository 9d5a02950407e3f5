"""What rooms of the node cost: figures with a goal each, not ratios of traffic."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """A figure of a system, the best of `rounds`."""

    metric: str
    system: str
    value: float
    unit: str
    rounds: int
