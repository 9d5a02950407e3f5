import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.plan import MAX_FOREIGN_CORES, METRICS, ROUTED, SLEEVE, SYSTEMS, VXLAN, WEAVE
from bench.report import Reading, Row, summarize, to_json, to_table

NOISE = MAX_FOREIGN_CORES + 0.1


def reading(
    value: float | None = 1.0,
    *,
    metric: str = "tcp1_gbps",
    system: str = SLEEVE,
    wire: str | None = "super",
    cc: str | None = "cubic",
    cpu: float | None = None,
    foreign: float = 0.0,
    stolen: float = 0.0,
    daemon_cpu: float | None = None,
) -> Reading:
    return Reading(metric, system, wire, cc, value, cpu, foreign, stolen, daemon_cpu)


def rows_of(*readings: Reading) -> dict[tuple[str, str], Row]:
    return {(row.metric, row.system): row for row in summarize(readings, SYSTEMS)}


def row_of(*readings: Reading) -> Row:
    return rows_of(*readings)[readings[0].metric, readings[0].system]


def test_a_row_has_the_median_and_the_range() -> None:
    row = row_of(reading(3.0, cpu=9.0), reading(1.0, cpu=5.0), reading(2.0, cpu=7.0))
    assert (row.value, row.range, row.rounds, row.unit, row.cpu) == (2.0, (1.0, 3.0), 3, "Gbit/s", 7.0)
    assert (row.noisy, row.discarded) == (False, 0)


def test_of_an_even_number_the_median_lies_between() -> None:
    assert row_of(reading(1.0), reading(2.0)).value == 1.5


def test_noisy_readings_are_thrown_away() -> None:
    row = row_of(reading(1.0), reading(9.0, foreign=NOISE), reading(2.0, foreign=MAX_FOREIGN_CORES))
    assert (row.value, row.rounds, row.discarded, row.noisy) == (1.5, 2, 1, False)


def test_without_quiet_readings_the_noisy_ones_count_and_are_marked() -> None:
    row = row_of(reading(1.0, foreign=NOISE), reading(3.0, foreign=NOISE))
    assert (row.value, row.rounds, row.discarded, row.noisy) == (2.0, 2, 0, True)
    assert row.foreign_cores == NOISE


def test_memory_cannot_be_noisy() -> None:
    row = row_of(reading(70.0, metric="rss_mb", foreign=NOISE))
    assert (row.noisy, row.rounds) == (False, 1)


def test_a_failed_reading_is_a_row_without_a_value() -> None:
    row = row_of(reading(None))
    assert (row.value, row.ratio, row.range, row.rounds, row.noisy) == (None, None, None, 0, False)


def test_the_ratio_is_to_the_rival_under_the_same_conditions() -> None:
    row = row_of(
        reading(3.0),
        reading(2.0, system=WEAVE),
        reading(0.1, system=WEAVE, wire="wire"),
        reading(0.1, system=WEAVE, cc="bbr"),
    )
    assert (row.baseline, row.baseline_value, row.ratio) == (WEAVE, 2.0, 1.5)


def test_without_a_figure_of_the_rival_there_is_no_ratio() -> None:
    row = row_of(reading(3.0), reading(None, system=WEAVE))
    assert (row.baseline, row.baseline_value, row.ratio) == (WEAVE, None, None)


def test_the_ratio_to_kernel_vxlan_is_in_a_second_row_where_weave_has_the_first() -> None:
    rows = summarize([reading(3.0), reading(2.0, system=WEAVE), reading(6.0, system=VXLAN)], SYSTEMS)
    assert [(row.system, row.value, row.baseline, row.baseline_value, row.ratio) for row in rows] == [
        (SLEEVE, 3.0, WEAVE, 2.0, 1.5),
        (SLEEVE, 3.0, VXLAN, 6.0, 0.5),
        (WEAVE, 2.0, VXLAN, 6.0, 2.0 / 6.0),
        (VXLAN, 6.0, None, None, None),
    ]


def test_without_weave_the_only_row_has_the_ratio_to_kernel_vxlan() -> None:
    rows = summarize([reading(3.0), reading(6.0, system=VXLAN)], (SLEEVE, VXLAN))
    assert [(row.system, row.baseline, row.ratio) for row in rows] == [(SLEEVE, VXLAN, 0.5), (VXLAN, None, None)]


def test_daemon_cpu_comes_from_the_runs_of_one_stream_and_of_systems_that_have_daemons() -> None:
    rows = rows_of(
        reading(1.0, cpu=10.0, daemon_cpu=8.0),
        reading(1.0, system=WEAVE, cpu=20.0, daemon_cpu=16.0),
        reading(1.0, metric="tcp4_gbps", cpu=9.0, daemon_cpu=7.0),
        reading(1.0, system=ROUTED, cpu=1.0),
    )
    row = rows["daemon_cpu_s_per_gb", SLEEVE]
    assert (row.value, row.ratio, row.unit) == (8.0, 0.5, "s/GB")
    assert (rows["tcp4_gbps", SLEEVE].cpu, rows["tcp4_gbps", SLEEVE].daemon_cpu) == (9.0, 7.0)
    assert ("daemon_cpu_s_per_gb", ROUTED) not in rows


def test_cpu_metrics_come_from_the_runs_of_their_rates() -> None:
    rows = rows_of(
        reading(1.0, cpu=10.0),
        reading(1.0, cpu=99.0, foreign=NOISE),
        reading(1.0, system=WEAVE, cpu=20.0),
        reading(80.0, metric="udp64_kpps", cc=None, cpu=15.0),
        reading(0.5, metric="udp1400_gbps", cc=None, cpu=7.0),
    )
    per_gb = rows["cpu_s_per_gb", SLEEVE]
    assert (per_gb.value, per_gb.ratio, per_gb.unit, per_gb.discarded) == (10.0, 0.5, "s/GB", 1)
    assert (per_gb.wire, per_gb.cc) == ("super", "cubic")
    assert rows["cpu_us_per_pkt", SLEEVE].value == 15.0
    assert rows["udp1400_gbps", SLEEVE].cpu == 7.0


def test_rows_come_in_the_order_of_the_metrics() -> None:
    shuffled = [reading(1.0, metric=metric.name) for metric in reversed(METRICS) if not metric.name.startswith("cpu")]
    found = [row.metric for row in summarize(shuffled, SYSTEMS)]
    assert found == [metric.name for metric in METRICS if metric.name in found]


def test_json_has_the_agreed_fields_and_is_a_line_a_row() -> None:
    text = to_json(summarize([reading(2 / 3), reading(1.0, system=WEAVE)], SYSTEMS), "a machine")
    entries: list[dict[str, Any]] = json.loads(text)
    agreed = {
        "metric",
        "system",
        "value",
        "unit",
        "wire",
        "cc",
        "baseline",
        "baseline_value",
        "ratio",
        "rounds",
        "range",
    }
    assert all(agreed <= set(entry) for entry in entries)
    assert entries[0] | {"value": 0.66667, "ratio": 0.66667, "range": [0.66667, 0.66667]} == entries[0]
    assert {entry["machine"] for entry in entries} == {"a machine"}
    assert len(text.splitlines()) == len(entries) + 2


@given(st.lists(st.builds(reading, st.none() | st.floats(0, 1e9), foreign=st.floats(0, 2))))
def test_every_json_can_be_read_again(readings: list[Reading]) -> None:
    json.loads(to_json(summarize(readings, SYSTEMS), "m"))


def test_the_table_has_metrics_down_and_the_systems_measured_across() -> None:
    table = to_table(
        summarize(
            [
                reading(1.2345),
                reading(0.5, system=WEAVE),
                reading(20.0, system=VXLAN),
                reading(12345.6, system=ROUTED, foreign=NOISE),
                reading(None, metric="rr_per_s", cc=None),
            ],
            SYSTEMS,
        ),
        SYSTEMS,
    )
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert cells[0] == ["metric", "unit", "wire", "cc", SLEEVE, WEAVE, VXLAN, ROUTED]
    assert cells[2] == [
        "tcp1_gbps",
        "Gbit/s",
        "super",
        "cubic",
        "1.23 (2.47W, 0.0617V)",
        "0.500 (0.0250V)",
        "20.0",
        "12300! (617V)",
    ]
    assert cells[3] == ["rr_per_s", "1/s", "super", "", "-", "", "", ""]
    assert len({len(line) for line in table.splitlines()}) == 1


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (0.00123, "0.00123"), (99.95, "100"), (1000.4, "1000")])
def test_values_are_shown_with_three_digits(value: float, text: str) -> None:
    table = to_table(summarize([reading(value)], SYSTEMS), SYSTEMS)
    assert table.splitlines()[2].split("|")[5].strip() == text
