from typing import Any

import pytest

from bench.goals import GOALS, Goal, to_markdown
from bench.plan import FASTDP, FASTDP_DIRECT, PEERS, SYSTEMS, UNITS, VXLAN, baselines, is_measured
from bench.report import Reading, summarize, to_json
from bench.table import COLUMNS, Conditions, read

CUBIC = Conditions("super", "cubic")


def results(*readings: Reading) -> list[dict[str, Any]]:
    return read(to_json(summarize(readings, SYSTEMS), "a machine"), "a file")


def tcp1(system: str, value: float | None, foreign: float = 0.0) -> Reading:
    return Reading("tcp1_gbps", system, "super", "cubic", value, None, foreign)


def cells(markdown: str | None) -> list[list[str]]:
    assert markdown is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()[2:]]


@pytest.mark.parametrize("goal", GOALS, ids=str)
def test_a_goal_is_about_what_is_measured_and_shown(goal: Goal) -> None:
    assert goal.rival in baselines(goal.system, SYSTEMS)
    assert goal.metric in UNITS
    assert is_measured(goal.system, goal.metric)
    assert is_measured(goal.rival, goal.metric)
    assert goal.metric in COLUMNS


@pytest.mark.parametrize(
    ("metric", "ratio", "met"),
    [("tcp1_gbps", 1.2, True), ("tcp1_gbps", 1.19, False), ("cpu_s_per_gb", 1.2, True), ("cpu_s_per_gb", 1.21, False)],
)
def test_of_rates_a_goal_is_the_least_and_of_costs_the_most(metric: str, ratio: float, met: bool) -> None:
    assert Goal(FASTDP_DIRECT, metric, VXLAN, 1.2).is_met(ratio) is met


def test_goals_are_shown_of_which_both_values_are_there() -> None:
    rows = results(tcp1(FASTDP, 1.0), tcp1(FASTDP_DIRECT, 6.0), tcp1(VXLAN, 4.0))
    assert cells(to_markdown(rows, CUBIC)) == [
        [FASTDP_DIRECT, VXLAN, "TCP 1", "met", ">= 1.2", "1.50"],
        [FASTDP, VXLAN, "TCP 1", "missed", ">= 0.95", "0.250"],
    ]


def test_a_cost_that_grows_with_the_tables_is_a_goal_missed() -> None:
    runs = (
        Reading("udp64_kpps", FASTDP_DIRECT, "super", None, 100.0, cpu=8.0),
        Reading("udp64_kpps", PEERS[1000], "super", None, 100.0, cpu=10.0),
    )
    assert cells(to_markdown(results(*runs), CUBIC)) == [
        [PEERS[1000], FASTDP_DIRECT, "CPU us/packet", "missed", "<= 1.1", "1.25"]
    ]


def test_noise_is_marked_and_failures_have_no_ratio() -> None:
    rows = results(tcp1(FASTDP_DIRECT, 5.0, foreign=1.0), tcp1(FASTDP, None), tcp1(VXLAN, 4.0))
    assert [line[-1] for line in cells(to_markdown(rows, CUBIC))] == ["1.25!"]


def test_without_a_goal_that_was_measured_there_is_no_table() -> None:
    assert to_markdown(results(tcp1(VXLAN, 4.0)), CUBIC) is None
