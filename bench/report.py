"""From single readings to rows of medians, and rows to JSON and a table. Pure."""

import json
import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from bench.plan import CPU_OF, MAX_FOREIGN_CORES, METRICS, UNITS, baseline

Key = tuple[str, str, str | None, str | None]
_NO_VALUE = "-"
_NOISY = "!"


@dataclass(frozen=True, slots=True)
class Reading:
    """One measurement; `value` is None if it failed. `cpu` is the machine's time for one GB (s) or packet (us).

    `wire` and `cc` (congestion control) are None where they mean nothing.
    """

    metric: str
    system: str
    wire: str | None
    cc: str | None
    value: float | None
    cpu: float | None
    foreign_cores: float
    stolen_cores: float

    @property
    def key(self) -> Key:
        """What it is a measurement of."""
        return (self.metric, self.system, self.wire, self.cc)


@dataclass(frozen=True, slots=True)
class Row:
    """The median of `rounds` readings, `range` from the least to the most, and how it compares.

    `ratio` is value to baseline value. `discarded` readings were noisy; with `noisy`, the others were too. The last
    three are medians; `cpu` in the unit of cpu_s_per_gb or cpu_us_per_pkt.
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


def summarize(readings: Iterable[Reading], systems: Collection[str]) -> list[Row]:
    """Give a row for everything measured, in the order of METRICS; `systems` are those that could be measured."""
    groups: dict[Key, list[Reading]] = {}
    for reading in (*(given := tuple(readings)), *_cpu_readings(given)):
        groups.setdefault(reading.key, []).append(reading)
    medians = {key: _median([each.value for each in quiet(group)[0]]) for key, group in groups.items()}
    order = {metric.name: number for number, metric in enumerate(METRICS)}
    rows = [_row(key, group, medians, systems) for key, group in groups.items()]
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
    """Write a Markdown table: what was measured down, systems across; ratios in brackets, `!` behind noisy values."""
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        head = (row.metric, row.unit, row.wire or "", row.cc or "")
        lines.setdefault(head, {})[row.system] = _cell(row)
    present = [system for system in systems if any(system in cells for cells in lines.values())]
    body = [[*head, *(cells.get(system, "") for system in present)] for head, cells in lines.items()]
    return _aligned([["metric", "unit", "wire", "cc", *present], *body], left=4)


def _row(key: Key, group: list[Reading], medians: Mapping[Key, float | None], systems: Collection[str]) -> Row:
    metric, system, wire, cc = key
    counted, noisy = quiet(group)
    values = [reading.value for reading in counted if reading.value is not None]
    value, rival = medians[key], baseline(system, systems)
    rival_value = medians.get((metric, rival, wire, cc)) if rival else None
    return Row(
        metric=metric,
        system=system,
        value=value,
        unit=UNITS[metric],
        wire=wire,
        cc=cc,
        baseline=rival,
        baseline_value=rival_value,
        ratio=value / rival_value if value is not None and rival_value else None,
        rounds=len(values),
        range=(min(values), max(values)) if values else None,
        noisy=noisy,
        discarded=len(group) - len(counted),
        cpu=_median([reading.cpu for reading in counted]),
        foreign_cores=_median([reading.foreign_cores for reading in counted]) or 0.0,
        stolen_cores=_median([reading.stolen_cores for reading in counted]) or 0.0,
    )


def _cpu_readings(readings: Iterable[Reading]) -> Iterable[Reading]:
    """The CPU metrics: the same measurements, looked at from the other side."""
    for each in readings:
        if each.metric in CPU_OF:
            conditions = (each.system, each.wire, each.cc)
            yield Reading(CPU_OF[each.metric], *conditions, each.cpu, None, each.foreign_cores, each.stolen_cores)


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _cell(row: Row) -> str:
    if row.value is None:
        return _NO_VALUE
    ratio = "" if row.ratio is None else f" ({_short(row.ratio)}x)"
    return _short(row.value) + (_NOISY if row.noisy else "") + ratio


def _short(value: float) -> str:
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


def _aligned(table: Sequence[Sequence[str]], left: int) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rule = ["-" * width if at < left else "-" * (width - 1) + ":" for at, width in enumerate(widths)]
    lines = [
        "| " + " | ".join(f"{cell:<{w}}" if at < left else f"{cell:>{w}}" for at, (cell, w) in enumerate(row)) + " |"
        for row in (list(zip(cells, widths, strict=True)) for cells in (table[0], rule, *table[1:]))
    ]
    return "\n".join(lines) + "\n"
