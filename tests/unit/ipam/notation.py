"""The notation of the address allocation vectors: ranges, entries, rings and proposals as JSON."""

from collections.abc import Iterable

from plait.ipam.address import Range, parse_ip, text


def range_of(pair: list[str]) -> Range:
    """Read `["first", "end"]`."""
    return Range(parse_ip(pair[0]), parse_ip(pair[1]))


def ranges_of(pairs: Iterable[list[str]] | None) -> list[Range]:
    """Read a list of ranges; Go writes an empty one as null."""
    return [range_of(pair) for pair in pairs or ()]


def ranges_text(ranges: Iterable[Range]) -> list[list[str]]:
    """Write a list of ranges."""
    return [[text(piece.start), text(piece.end)] for piece in ranges]
