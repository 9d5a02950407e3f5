"""Entries as the vectors write them."""

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Any

from plait.dns.entries import Entry, merge_lists
from plait.mesh.name import PeerName


def address(text: str) -> int:
    return int(IPv4Address(text))


def entry(case: dict[str, Any]) -> Entry:
    return Entry(
        case["container_id"],
        PeerName.parse(case["origin"]),
        address(case["addr"]),
        case["hostname"],
        case["version"],
        case["tombstone"],
    )


def entries(cases: Iterable[dict[str, Any]]) -> list[Entry]:
    return [entry(case) for case in cases]


def once(items: Iterable[Entry]) -> list[Entry]:
    """Each entry once, in its newest state, in the order of the wire."""
    return merge_lists(items, ())


def has_twins(items: list[Entry]) -> bool:
    """The original keeps an entry twice if another spelling of its name comes between: a known defect of it."""
    return len({item.identity for item in items}) != len(items)
