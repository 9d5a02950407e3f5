"""The table: every check, by family."""

from plait.doctor.check import Check
from plait.doctor.checks import offload

CHECKS: tuple[Check, ...] = (*offload.CHECKS,)
