"""The table: every check, by family."""

from plait.doctor.check import Check
from plait.doctor.checks import kernel, links, offload, system, weave

CHECKS: tuple[Check, ...] = (
    *offload.CHECKS,
    *links.CHECKS,
    *kernel.CHECKS,
    *system.CHECKS,
    *weave.CHECKS,
)
