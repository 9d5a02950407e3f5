"""Captured and constructed machines: what is found on each, no more and no less."""

import json
from pathlib import Path

import pytest

from plait.doctor.captured import Captured
from plait.doctor.checks import CHECKS
from plait.doctor.examine import examine
from plait.doctor.guide import guide

ROOT = Path(__file__).parents[3]
MACHINES = sorted(path.parent for path in (ROOT / "tests" / "machines").glob("*/expected.json"))


def findings(machine: Path) -> list[list[str]]:
    return sorted([result.check.name, result.finding.subject] for result in examine(Captured(machine), CHECKS))


@pytest.mark.parametrize("machine", MACHINES, ids=lambda path: path.name)
def test_a_machine(machine: Path) -> None:
    assert findings(machine) == sorted(json.loads((machine / "expected.json").read_text()))
    assert (machine / "README.md").read_text().strip()


def test_the_guide_is_that_of_the_checks() -> None:
    assert (ROOT / "docs" / "troubleshooting.md").read_text() == guide(), "python -m plait.doctor.guide > ..."


def test_names_are_told_apart() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    assert all((check.examine is None) == bool(check.unseen) for check in CHECKS)
