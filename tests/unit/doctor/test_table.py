"""The table of checks against the rows of field problems (tests/vectors/doctor/rows.json) and the machines."""

import json
from pathlib import Path

import pytest

from plait.doctor.captured import Captured
from plait.doctor.check import Check
from plait.doctor.checks import CHECKS
from plait.doctor.examine import examine
from plait.doctor.finding import Severity

ROOT = Path(__file__).parents[3]
MACHINES = sorted(path.parent for path in (ROOT / "tests" / "machines").glob("*/expected.json"))
ROWS = json.loads((ROOT / "tests" / "vectors" / "doctor" / "rows.json").read_text())
CLEAN = [machine for machine in MACHINES if "clean" in machine.name]


def test_every_row_is_in_the_table_and_no_other() -> None:
    assert list(ROWS) == [str(number) for number in range(31)]
    assert {row for check in CHECKS for row in check.rows} == set(map(int, ROWS))


def test_every_row_is_in_the_guide() -> None:
    lines = (ROOT / "docs" / "troubleshooting.md").read_text().splitlines()
    cells = [line.split("|")[1] for line in lines if line.startswith("| ")]
    listed = {word.strip() for cell in cells for word in cell.split(",")} - {"", "row"}
    assert listed == set(ROWS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_a_machine_on_which_it_fires(check: Check) -> None:
    fires = [machine.name for machine in MACHINES if examine(Captured(machine), [check])]
    assert bool(fires) == (check.examine is not None)


@pytest.mark.parametrize("machine", CLEAN, ids=lambda path: path.name)
def test_machines_with_which_all_is_well(machine: Path) -> None:
    assert all(result.severity == Severity.NOTE for result in examine(Captured(machine), CHECKS))


def test_there_are_clean_machines_and_twelve_at_least() -> None:
    assert len(CLEAN) >= 3
    assert len(MACHINES) >= 12


@pytest.mark.parametrize("machine", MACHINES, ids=lambda path: path.name)
def test_what_is_found_is_said_whole(machine: Path) -> None:
    """No defect of a check hides behind a finding, and each names its cure."""
    for result in examine(Captured(machine), CHECKS):
        assert "a defect of plait's" not in result.finding.what
        assert all((result.finding.subject, result.finding.what, result.cure, result.check.reference))
