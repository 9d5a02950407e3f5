"""What changes for somebody who follows the ranges a peer owns as CIDRs, say routes of a cloud or a set of a firewall.

Pure: takes the ranges before and after, gives the CIDRs to add and to remove (spec: ipam 18).
"""

from collections.abc import Iterable
from typing import NamedTuple

from plait.ipam.address import Cidr, Range, glued


class Difference(NamedTuple):
    """Add first, then remove, so that no address is without cover in between."""

    add: list[Cidr]
    remove: list[Cidr]


def cidrs(ranges: Iterable[Range]) -> list[Cidr]:
    """Give the fewest CIDRs that cover exactly these ranges, ascending."""
    return [block for piece in glued(ranges) for block in piece.blocks()]


def difference(before: Iterable[Range], after: Iterable[Range]) -> Difference:
    """Give the CIDRs that only one side has, ascending."""
    old, new = cidrs(before), cidrs(after)
    old_set, new_set = set(old), set(new)
    return Difference([c for c in new if c not in old_set], [c for c in old if c not in new_set])
