"""The Markdown table of a results file, for documents: systems down, and how they compare. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.plan import LOSSY, SYSTEMS, VXLAN, WEAVE, WIRE, weave_for
from bench.report import NO_VALUE, NOISY, aligned, short
from plait.errors import UsageError

COLUMNS = {
    "tcp1_gbps": "TCP 1, Gbit/s",
    "tcp4_gbps": "TCP 4, Gbit/s",
    LOSSY: "TCP 1, 1 % lost, Gbit/s",
    "udp64_kpps": "UDP 64 B, kpackets/s",
    "tcp1_relay_gbps": "TCP 1 by a relay, Gbit/s",
    "udp64_relay_kpps": "UDP 64 B by a relay, kpackets/s",
    "rr_per_s": "TCP request/response, 1/s",
    "cpu_s_per_gb": "CPU s/GB, machine",
    "daemon_cpu_s_per_gb": "CPU s/GB, daemons",
    "cpu_us_per_pkt": "CPU us/packet, machine",
    "rtt_us": "round trip, us",
}
COMPARED = ("tcp1_gbps", "tcp4_gbps", "udp64_kpps")
"""The metrics whose ratios are shown."""

_Values = Mapping[tuple[str, str], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Conditions:
    """Which of the rows: those of this wire and congestion control, and those for which these mean nothing."""

    wire: str
    cc: str


def read(text: str, name: str) -> list[dict[str, Any]]:
    """Read a results file. Raise UsageError, naming the file, if it is none."""
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{name} is not JSON ({error}): name a file that `python -m bench` wrote") from error
    needed = {"metric", "system", "value", "wire", "cc"}
    if not isinstance(rows, list) or not all(isinstance(row, dict) and needed <= row.keys() for row in rows):
        raise UsageError(f"{name} has no results in it: name a file that `python -m bench` wrote")
    return rows


def conditions_of(rows: Sequence[Mapping[str, Any]]) -> list[Conditions]:
    """Give the conditions under which TCP was measured, in the order of the file."""
    found = (Conditions(row["wire"], row["cc"]) for row in rows if row["wire"] and row["cc"])
    return list(dict.fromkeys(found))


def to_markdown(rows: Sequence[Mapping[str, Any]], conditions: Conditions) -> str:
    """Write the table. Columns without a value are left out; `!` stands behind noisy values, `-` for failures.

    Ratios are to Weave (of systems with a password, to Weave with one) and to vxlan-bridge.
    """
    values = values_of(rows, conditions)
    systems = _in_order({system for system, _ in values})
    table = [["system", *COLUMNS.values(), *(f"{title(metric)} : {rival}" for metric, rival in _comparisons())]]
    for system in systems:
        shown = [_cell(values.get((system, metric))) for metric in COLUMNS]
        table.append([system, *shown, *(_ratio(values, system, *comparison) for comparison in _comparisons())])
    filled = [at for at, column in enumerate(zip(*table, strict=True)) if at == 0 or any(column[1:])]
    return aligned([[line[at] for at in filled] for line in table], left=1)


def values_of(rows: Sequence[Mapping[str, Any]], conditions: Conditions) -> _Values:
    """Give the rows by system and metric; of rows that differ in the baseline alone, the first."""
    values: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        fits = row["wire"] in (None, conditions.wire) and row["cc"] in (None, conditions.cc)
        if fits and row["metric"] in COLUMNS:
            values.setdefault((row["system"], row["metric"]), row)
    return values


def _in_order(systems: set[str]) -> list[str]:
    return [*(name for name in SYSTEMS if name in systems), *sorted(systems.difference(SYSTEMS))]


def _comparisons() -> list[tuple[str, str]]:
    return [(metric, rival) for rival in (WEAVE, VXLAN) for metric in COMPARED]


def title(metric: str) -> str:
    """Name a metric without its unit."""
    return COLUMNS[metric].partition(",")[0]


def _ratio(values: _Values, system: str, metric: str, rival: str) -> str:
    against = weave_for(system) if rival == WEAVE else rival
    own, other = values.get((system, metric)), values.get((against, metric))
    if system == against or own is None or other is None or own["value"] is None or not other["value"]:
        return ""
    return short(own["value"] / other["value"])


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    if row["value"] is None:
        return NO_VALUE
    return short(row["value"]) + (NOISY if row.get("noisy") else "")


def heading(conditions: Conditions) -> str:
    """Say in a line what the conditions mean."""
    wire = "a wire where every packet travels alone" if conditions.wire == WIRE else "a wire that passes 64 KB whole"
    return f"On {wire} (`{conditions.wire}`), congestion control {conditions.cc}:"
