"""The table: every check, by family."""

from plait.doctor.check import Check
from plait.doctor.checks import firewall, kernel, links, netfilter, offload, paths, system, weave

CHECKS: tuple[Check, ...] = (
    *offload.CHECKS,
    *links.CHECKS,
    *netfilter.CHECKS,
    *firewall.CHECKS,
    *paths.CHECKS,
    *kernel.CHECKS,
    *system.CHECKS,
    *weave.CHECKS,
)
