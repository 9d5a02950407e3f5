"""A row of the table of field problems: what it is, what one sees of it, what cures it, and how it is found."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from plait.doctor.finding import Certainty, Finding, Severity
from plait.doctor.machine import Machine

Examine = Callable[[Machine], Iterable[Finding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """`name` is what the command line calls it; `rows` are its numbers in the table (docs/troubleshooting.md)."""

    name: str
    rows: tuple[int, ...] = ()
    condition: str
    """What is the case, in a few words."""
    symptom: str
    """What people see first."""
    consequence: str
    """What it does to the network."""
    cure: str
    """What to do, where a finding has no command of its own."""
    reference: str
    """Where more is said of it: a commit, a manual page, an issue."""
    severity: Severity = Severity.RISK
    certainty: Certainty = Certainty.CERTAIN
    examine: Examine | None = None
    unseen: str = ""
    """Why nothing can be read of it on this machine without effects; then `examine` is None."""


@dataclass(frozen=True, slots=True)
class Result:
    """A finding of a check, complete: every word that is shown of it."""

    check: Check
    finding: Finding

    @property
    def severity(self) -> Severity:
        """How bad it is here."""
        return self.finding.severity or self.check.severity

    @property
    def certainty(self) -> Certainty:
        """How sure it is here."""
        return self.finding.certainty or self.check.certainty

    @property
    def cure(self) -> str:
        """The command, or the words."""
        fix = self.finding.fix
        return self.finding.cure or (fix.command if fix else self.check.cure)

    @property
    def lasting(self) -> str:
        """What becomes of the cure over a reboot; empty if it stays by itself."""
        fix = self.finding.fix
        return self.finding.lasting or (fix.lasting if fix else "")
