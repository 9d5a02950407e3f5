import pytest

import golden
from plait.ipam import tracker
from plait.ipam.address import Cidr, InvalidAddress, Range, glued, parse_ip, reverse, text
from unit.ipam.notation import range_of, ranges_of, ranges_text

ADDRESS = "ipam/address.json"


def test_parse_cidr() -> None:
    for case in golden.cases(ADDRESS, "parse_cidr"):
        if case["error"]:
            with pytest.raises(InvalidAddress) as caught:
                Cidr.parse(case["in"])
            assert str(caught.value) == case["error"]
            continue
        cidr = Cidr.parse(case["in"])
        assert (text(cidr.address), cidr.prefix_length) == (case["addr"], case["prefix_len"])
        assert (cidr.size, cidr.is_subnet) == (case["size"], case["is_subnet"]), case["in"]
        assert [text(end) for end in cidr.range] == case["range"]
        assert [text(end) for end in cidr.host_range] == case["host_range"]


def test_parse_ip() -> None:
    for case in golden.cases(ADDRESS, "parse_ip"):
        if case["error"]:
            with pytest.raises(InvalidAddress) as caught:
                parse_ip(case["in"])
            assert str(caught.value) == case["error"]
            continue
        address = parse_ip(case["in"])
        assert (address, text(reverse(address))) == (case["value"], case["reverse"])


def test_ranges() -> None:
    for case in golden.cases(ADDRESS, "ranges"):
        piece = range_of([case["start"], case["end"]])
        assert piece.size == case["size"]
        assert str(piece) == case["string"]
        assert piece.as_cidr_text() == case["as_cidr_string"]
        assert [str(block) for block in piece.blocks()] == case["cidrs"]
        assert piece.biggest_block() == range_of(case["biggest_cidr_range"])


def test_tracker_difference() -> None:
    for case in golden.cases(ADDRESS, "tracker_diff"):
        before, after = ranges_of(case["prev"]), ranges_of(case["curr"])
        assert ranges_text(glued(before)) == case["prev_merged"]
        assert ranges_text(glued(after)) == case["curr_merged"]
        assert [str(cidr) for cidr in tracker.cidrs(before)] == case["prev_cidrs"]
        assert [str(cidr) for cidr in tracker.cidrs(after)] == case["curr_cidrs"]
        add, remove = tracker.difference(before, after)
        assert [str(cidr) for cidr in add] == case["add"]
        assert [str(cidr) for cidr in remove] == case["remove"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("10.0.0.1/24", "invalid subnet - bits after network prefix are not all zero: 10.0.0.1/24"),
        ("10.0.0.0/31", "invalid subnet - smaller than minimum size 4: 10.0.0.0/31"),
        ("0.0.0.0/0", "invalid subnet - smaller than minimum size 4: 0.0.0.0/0"),
        ("10.0.0.0/x", "invalid CIDR address: 10.0.0.0/x"),
    ],
)
def test_subnets_refused(given: str, problem: str) -> None:
    with pytest.raises(InvalidAddress) as caught:
        Cidr.parse_subnet(given)
    assert str(caught.value) == problem


def test_subnet_and_membership() -> None:
    subnet = Cidr.parse_subnet("10.0.0.0/30")
    assert str(subnet) == "10.0.0.0/30"
    assert list(range(*subnet.host_range)) == [parse_ip("10.0.0.1"), parse_ip("10.0.0.2")]
    assert parse_ip("10.0.0.3") in subnet.range
    assert parse_ip("10.0.0.4") not in subnet.range


def test_cut_and_overlap() -> None:
    one, other = Range(10, 20), Range(15, 30)
    assert one.overlaps(other)
    assert one.cut(other) == Range(15, 20)
    assert not one.overlaps(Range(20, 30))
    assert one.cut(Range(25, 30)).size <= 0
