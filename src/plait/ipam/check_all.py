"""What is wrong with the addresses of the whole mesh: what each node finds, and what only all together show. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

import msgspec

from plait.ipam.address import Range
from plait.ipam.check import Finding, Use

MAX_USES = 5000
"""Addresses that a node tells; MAX_FINDINGS of what is wrong: an answer stays far below what a message may have."""

MAX_FINDINGS = 500

_MAX_TEXT = 512


class Account(msgspec.Struct, frozen=True):
    """What a node tells. `owned` are the ranges that it gives addresses of, as (first, after last)."""

    findings: list[tuple[str, str]]
    uses: list[tuple[str, str]]
    owned: list[tuple[int, int]]
    is_cut: bool = False


_decoder = msgspec.json.Decoder(Account)


def account(findings: Iterable[Finding], uses: Iterable[Use], owned: Iterable[Range]) -> Account:
    """Give what a node tells of itself, within the limits."""
    told = [(each.what[:_MAX_TEXT], each.cure[:_MAX_TEXT]) for each in findings]
    used = [(each.ident[:_MAX_TEXT], each.cidr.partition("/")[0]) for each in uses]
    pieces = [(piece.start, piece.end) for piece in owned]
    is_cut = len(told) > MAX_FINDINGS or len(used) > MAX_USES or len(pieces) > MAX_USES
    return Account(told[:MAX_FINDINGS], used[:MAX_USES], pieces[:MAX_USES], is_cut)


def decode(body: bytes) -> Account:
    """Read an account. Raises msgspec.DecodeError."""
    return _decoder.decode(body)


def check_all(accounts: Mapping[str, Account], silent: Mapping[str, str]) -> Iterator[Finding]:
    """Give all that is wrong. `accounts` are those of the nodes by name, `silent` says why others gave none."""
    seen: dict[tuple[str, str], str] = {}
    for node, told in accounts.items():
        for finding in told.findings:
            if finding not in seen:
                seen[finding] = node
                yield Finding(f"{node}: {finding[0]}", finding[1])
    yield from _doubles(accounts)
    yield from _overlaps(accounts)
    for node, told in accounts.items():
        if told.is_cut:
            yield Finding(f"{node} has more to tell than a message holds", "run 'plait ipam check' there")
    for node, reason in silent.items():
        yield Finding(f"{node} was not looked at: {reason}", "run 'plait ipam check' there, if it is a plait node")


def _doubles(accounts: Mapping[str, Account]) -> Iterator[Finding]:
    first: dict[str, tuple[str, str]] = {}
    for node, told in accounts.items():
        for ident, address in told.uses:
            other, theirs = first.setdefault(address, (node, ident))
            if other != node:
                yield Finding(
                    f"the address {address} is that of {theirs} on {other} and of {ident} on {node}",
                    f"'plait detach {ident}' on {node}, and attach it without an address",
                )


def _overlaps(accounts: Mapping[str, Account]) -> Iterator[Finding]:
    pieces = sorted((Range(*piece), node) for node, told in accounts.items() for piece in told.owned)
    for (piece, node), (following, other) in pairwise(pieces):
        if following.start < piece.end and node != other:
            yield Finding(
                f"{node} gives out {piece}, and {other} gives out {following}",
                f"bring the two together, so that they agree; if that does not help, 'plait reset' on {other} and "
                "launch it again",
            )
