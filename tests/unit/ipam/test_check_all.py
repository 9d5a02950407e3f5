"""What only all nodes together show, and that a node's account is bounded."""

import msgspec
import pytest

from plait.ipam.address import Range
from plait.ipam.check import Finding, Use
from plait.ipam.check_all import MAX_FINDINGS, MAX_USES, account, check_all, decode

LOW, HIGH = Range(0x0A200000, 0x0A200080), Range(0x0A200080, 0x0A200100)


def test_nothing_is_wrong() -> None:
    one = account([], [Use("c1", "p1", "10.32.0.1/24")], [LOW])
    two = account([], [Use("c1", "p1", "10.32.0.129/24")], [HIGH])
    assert not list(check_all({"one": one, "two": decode(msgspec.json.encode(two))}, {}))


def test_doubles_overlaps_and_who_is_silent() -> None:
    lost = Finding("8 addresses are owned by peer x", "rmpeer")
    one = account([lost], [Use("c1", "p1", "10.32.0.1/24")], [LOW])
    two = account([lost], [Use("c2", "p2", "10.32.0.1/16")], [Range(LOW.end - 1, HIGH.end)])
    what = [each.what for each in check_all({"one": one, "two": two}, {"three": "it is a Weave router"})]
    assert what == [
        "one: 8 addresses are owned by peer x",
        "the address 10.32.0.1 is that of c1 on one and of c2 on two",
        "one gives out 10.32.0.0-10.32.0.127, and two gives out 10.32.0.127-10.32.0.255",
        "three was not looked at: it is a Weave router",
    ]


def test_an_account_is_bounded() -> None:
    many = account(
        [Finding("x" * 9999, "y")] * (MAX_FINDINGS + 1),
        [Use(f"c{number}" * 99, "p", "10.32.0.1/24") for number in range(MAX_USES + 1)],
        [],
    )
    assert (many.is_cut, len(many.findings), len(many.uses)) == (True, MAX_FINDINGS, MAX_USES)
    cut = Finding("h has more to tell than a message holds", "run 'plait ipam check' there")
    assert cut in list(check_all({"h": many}, {}))
    with pytest.raises(msgspec.DecodeError):
        decode(b"[]")
