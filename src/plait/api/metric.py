"""What a metric is: its name as in the exposition, what it means, and which labels it has."""

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

Samples = Iterable[tuple[tuple[str, ...], float]]
"""Combinations of labels, each with its value."""

_TOTAL = "_total"


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric. `absent`: when it has no samples, in words; empty if it always has some.

    Names that end in `_total` are counters, all others gauges: the convention, and Weave's too.
    """

    name: str
    meaning: str
    labels: tuple[str, ...] = ()
    absent: str = ""

    @property
    def kind(self) -> str:
        """The type, as Prometheus calls it."""
        return "counter" if self.name.endswith(_TOTAL) else "gauge"

    def value(self, value: float) -> Metric:
        """Give the metric without labels."""
        return self.samples([((), value)])

    def samples(self, samples: Samples) -> Metric:
        """Give the metric; the values of the labels are in the order of `labels`."""
        family = (CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily)(
            self.name, f"{self.meaning}.", labels=self.labels
        )
        for labels, value in samples:
            family.add_metric(labels, value)
        return family
