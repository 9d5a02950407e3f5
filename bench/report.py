"""From single readings to rows of medians, and rows to JSON and a table. Pure."""

import json
import math
import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from bench.plan import (
    CPU_OF,
    FASTDP_DIRECT,
    MAX_FOREIGN_CORES,
    METRICS,
    ROUTED,
    SWARM,
    UNITS,
    VXLAN,
    WEAVE,
    WEAVE_ENC,
    baselines,
)

Key = tuple[str, str, str | None, str | None]
NO_VALUE = "-"
NOISY = "!"
_MARKS = {WEAVE: "W", WEAVE_ENC: "W", VXLAN: "V", ROUTED: "R", SWARM: "D", FASTDP_DIRECT: "F"}


@dataclass(frozen=True, slots=True)
class Reading:
    """One measurement; `value` is None if it failed. `cpu` is the machine's time for one GB (s) or packet (us).

    `daemon_cpu` is the part of it that the system's own processes used; None if it has none. `wire` and `cc`
    (congestion control) are None where they mean nothing.
    """

    metric: str
    system: str
    wire: str | None
    cc: str | None
    value: float | None
    cpu: float | None = None
    foreign_cores: float = 0.0
    stolen_cores: float = 0.0
    daemon_cpu: float | None = None

    @property
    def key(self) -> Key:
        """What it is a measurement of."""
        return (self.metric, self.system, self.wire, self.cc)


@dataclass(frozen=True, slots=True)
class Row:
    """The median of `rounds` readings, `range` from the least to the most, and how it compares with one baseline.

    `ratio` is value to baseline value. `discarded` readings were noisy; with `noisy`, the others were too. The last
    four are medians; `cpu` and `daemon_cpu` in the unit of cpu_s_per_gb or cpu_us_per_pkt.
    """

    metric: str
    system: str
    value: float | None
    unit: str
    wire: str | None
    cc: str | None
    baseline: str | None
    baseline_value: float | None
    ratio: float | None
    rounds: int
    range: tuple[float, float] | None
    noisy: bool
    discarded: int
    cpu: float | None
    foreign_cores: float
    stolen_cores: float
    daemon_cpu: float | None


def summarize(readings: Iterable[Reading], systems: Collection[str]) -> list[Row]:
    """Give a row for everything measured, in the order of METRICS; `systems` are those that could be measured.

    What has several baselines has as many rows, one after the other, that differ in the baseline alone.
    """
    groups: dict[Key, list[Reading]] = {}
    for reading in (*(given := tuple(readings)), *_cpu_readings(given)):
        groups.setdefault(reading.key, []).append(reading)
    medians = {key: _median([each.value for each in quiet(group)[0]]) for key, group in groups.items()}
    order = {metric.name: number for number, metric in enumerate(METRICS)}
    rows = [row for key, group in groups.items() for row in _rows(key, group, medians, systems)]
    return sorted(rows, key=lambda row: order[row.metric])


def quiet(group: Sequence[Reading]) -> tuple[list[Reading], bool]:
    """Give the readings that count, and whether they had to be taken although noisy, because there are no others."""
    done = [reading for reading in group if reading.value is not None]
    good = [reading for reading in done if not is_noisy(reading.metric, reading.foreign_cores)]
    return (good, False) if good else (done, bool(done))


def is_noisy(metric: str, foreign_cores: float) -> bool:
    """Say whether other programs took too much of the machine; memory is not hurt by that."""
    return foreign_cores > MAX_FOREIGN_CORES and UNITS[metric] != "MB"


def to_json(rows: Iterable[Row], machine: str) -> str:
    """Write the rows as a JSON list, a line each, so that two files can be compared by lines."""
    lines = [
        json.dumps({name: _rounded(value) for name, value in asdict(row).items()} | {"machine": machine})
        for row in rows
    ]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def to_table(rows: Iterable[Row], systems: Sequence[str]) -> str:
    """Write a Markdown table: what was measured down, systems across; `!` behind noisy values.

    Ratios are in brackets: to Weave (W), vxlan-bridge (V), routed (R), docker-swarm (D), plait-fastdp-direct (F).
    """
    lines: dict[tuple[str, ...], dict[str, list[Row]]] = {}
    for row in rows:
        head = (row.metric, row.unit, row.wire or "", row.cc or "")
        lines.setdefault(head, {}).setdefault(row.system, []).append(row)
    present = [system for system in systems if any(system in cells for cells in lines.values())]
    body = [[*head, *(_cell(cells.get(system, ())) for system in present)] for head, cells in lines.items()]
    return aligned([["metric", "unit", "wire", "cc", *present], *body], left=4)


def _rows(
    key: Key, group: list[Reading], medians: Mapping[Key, float | None], systems: Collection[str]
) -> Iterator[Row]:
    """The row of the first baseline, even if that has no value, and of others that have one."""
    metric, system, wire, cc = key
    first, *others = baselines(system, systems) or (None,)
    rivals = {name: medians.get((metric, name, wire, cc)) for name in others if name}
    alone = _lone_row(key, group, medians[key])
    known = {first: medians.get((metric, first, wire, cc)) if first else None}
    known |= {name: value for name, value in rivals.items() if value is not None}
    for rival, rival_value in known.items():
        ratio = alone.value / rival_value if alone.value is not None and rival_value else None
        yield replace(alone, baseline=rival, baseline_value=rival_value, ratio=ratio)


def _lone_row(key: Key, group: list[Reading], value: float | None) -> Row:
    metric, system, wire, cc = key
    counted, noisy = quiet(group)
    values = [reading.value for reading in counted if reading.value is not None]
    return Row(
        metric=metric,
        system=system,
        value=value,
        unit=UNITS[metric],
        wire=wire,
        cc=cc,
        baseline=None,
        baseline_value=None,
        ratio=None,
        rounds=len(values),
        range=(min(values), max(values)) if values else None,
        noisy=noisy,
        discarded=len(group) - len(counted),
        cpu=_median([reading.cpu for reading in counted]),
        foreign_cores=_median([reading.foreign_cores for reading in counted]) or 0.0,
        stolen_cores=_median([reading.stolen_cores for reading in counted]) or 0.0,
        daemon_cpu=_median([reading.daemon_cpu for reading in counted]),
    )


def _cpu_readings(readings: Iterable[Reading]) -> Iterable[Reading]:
    """The CPU metrics: the same measurements, looked at from the other side."""
    for each in readings:
        for metric in CPU_OF.get(each.metric, ()):
            used = each.daemon_cpu if metric.startswith("daemon_") else each.cpu
            if used is None and each.value is not None:  # there is no daemon
                continue
            yield replace(each, metric=metric, value=used, cpu=None, daemon_cpu=None)


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _cell(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    row = rows[0]
    if row.value is None:
        return NO_VALUE
    ratios = [f"{short(each.ratio)}{_MARKS[each.baseline]}" for each in rows if each.ratio and each.baseline]
    return short(row.value) + (NOISY if row.noisy else "") + (f" ({', '.join(ratios)})" if ratios else "")


def short(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.2e}")
    return f"{rounded:.{max(0, 2 - math.floor(math.log10(abs(rounded))))}f}"


def _rounded(value: object) -> object:
    """Five significant digits are more than any measurement has."""
    match value:
        case float():
            return float(f"{value:.5g}")
        case tuple():
            return [_rounded(each) for each in value]
    return value


def aligned(table: Sequence[Sequence[str]], left: int) -> str:
    """Write a Markdown table, its head first; the columns behind the first `left` are numbers."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rule = ["-" * width if at < left else "-" * (width - 1) + ":" for at, width in enumerate(widths)]
    lines = [
        "| " + " | ".join(f"{cell:<{w}}" if at < left else f"{cell:>{w}}" for at, (cell, w) in enumerate(row)) + " |"
        for row in (list(zip(cells, widths, strict=True)) for cells in (table[0], rule, *table[1:]))
    ]
    return "\n".join(lines) + "\n"
