"""All checks against one machine."""

from collections.abc import Iterable

from plait.doctor.check import Check, Result
from plait.doctor.finding import Certainty, Finding, Severity
from plait.doctor.machine import Machine
from plait.doctor.probe import Probe
from plait.errors import PlaitError


def examine(probe: Probe, checks: Iterable[Check]) -> list[Result]:
    """Give what was found, worst first. A check that fails is a finding of its own and hides no other."""
    machine = Machine(probe)
    results = [Result(check, finding) for check in checks for finding in _findings(check, machine)]
    return sorted(results, key=lambda result: -result.severity)


def _findings(check: Check, machine: Machine) -> list[Finding]:
    if check.examine is None:
        return []
    try:
        return list(check.examine(machine))
    except PlaitError:
        raise  # the machine itself cannot be read
    except Exception as error:  # a strange machine must not hide what else is wrong with it
        what = f"this could not be looked at: a defect of plait's ({type(error).__name__}: {error})"
        cure = "report it with what 'plait doctor --capture DIR' writes"
        return [Finding("plait", what, cure, severity=Severity.NOTE, certainty=Certainty.CERTAIN)]
