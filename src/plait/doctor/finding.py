"""What a check finds: one trouble of one thing, how sure that is, and what cures it."""

import enum
from dataclasses import dataclass

from plait.doctor.fix import Fix


class Severity(enum.IntEnum):
    """How bad it is. Values are for sorting."""

    NOTE = 1
    """Good to know; nothing is lost."""
    RISK = 2
    """It will hurt when something else happens."""
    BREAKS = 3
    """Something does not work, or works badly, now."""


class Certainty(enum.StrEnum):
    """How sure a finding is."""

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"


@dataclass(frozen=True, slots=True)
class Finding:
    """`subject`: the device, file or peer that it is about. `what`: a sentence with the values that were read.

    `cure`: the exact command, `lasting`: what keeps it over a reboot; both empty where the check's own words do, or
    where `fix` says them. `severity` and `certainty` None: the check's.
    """

    subject: str
    what: str
    cure: str = ""
    lasting: str = ""
    fix: Fix | None = None
    severity: Severity | None = None
    certainty: Certainty | None = None
