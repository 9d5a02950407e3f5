import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
from plait.ipam.address import Range, parse_ip, text
from plait.ipam.space import AddressSet, Space, SpaceError
from unit.ipam.notation import range_of, ranges_of, ranges_text


def replay(space: Space, step: dict[str, Any]) -> dict[str, Any]:
    """Do a step of the vectors; gives what the vectors tell of it."""
    match step["op"]:
        case "add_ranges" | "update_ranges":
            space.add(ranges_of(step["ranges"]))
            return {}
        case "claim" | "free" as op:
            try:
                (space.claim if op == "claim" else space.release)(parse_ip(step["addr"]))
            except SpaceError as error:
                return {"error": str(error)}
            return {"error": None}
        case "allocate":
            address = space.allocate(range_of(step["range"]))
            return {"ok": False} if address is None else {"ok": True, "addr": text(address)}
        case "donate":
            before = space.count_free(range_of(step["range"]))
            chunk = space.donate(range_of(step["range"]))
            found = {"ok": False} if chunk is None else {"ok": True, "chunk": ranges_text([chunk])[0]}
            return {"free_in_range_before": before} | found
        case op:
            raise AssertionError(f"unknown step {op}")


@pytest.mark.parametrize("case", golden.cases("ipam/space_scenarios.json"), ids=lambda case: str(case["seed"]))
def test_scenario(case: dict[str, Any]) -> None:
    space = Space()
    for step in case["steps"]:
        for key, value in replay(space, step).items():
            assert value == step[key], step
        assert ranges_text(space.free) == step["free"], step
        assert ranges_text(space.ours) == step["ours"], step
        if "owned_ranges" in step:
            assert ranges_text(space.owned()) == step["owned_ranges"], step
            assert (space.free.size, space.ours.size) == (step["num_free"], step["num_owned"]), step


RANGES = st.tuples(st.integers(0, 60), st.integers(1, 12)).map(lambda pair: Range(pair[0], pair[0] + pair[1]))


@given(st.lists(st.tuples(st.booleans(), RANGES)), RANGES)
def test_address_set_is_a_set(steps: list[tuple[bool, Range]], limits: Range) -> None:
    packed, plain = AddressSet(), set[int]()
    for is_added, piece in steps:
        if is_added:
            packed.add(piece)
            plain |= set(range(*piece))
        else:
            packed.remove(piece)
            plain -= set(range(*piece))
        pieces = list(packed)
        assert {address for part in pieces for address in range(*part)} == plain
        assert all(one.end < other.start for one, other in itertools.pairwise(pieces)), "joined, ascending"
    assert packed.count(limits) == len(plain & set(range(*limits)))
    assert packed.size == len(plain)
    assert all((address in packed) == (address in plain) for address in range(75))


def test_lost_ranges_leave_both_sets() -> None:
    space = Space(free=[Range(10, 20)])
    space.claim(12)
    space.claim(18)
    lost = space.set_owned([Range(15, 25)])
    assert lost == [Range(12, 13)]
    assert list(space.ours) == [Range(18, 19)]
    assert list(space.free) == [Range(15, 18), Range(19, 25)]
    assert space.owned() == [Range(15, 25)]


def test_used_is_what_is_not_free() -> None:
    space = Space(free=[Range(10, 20)])
    assert not space.is_used([Range(10, 20)])
    assert space.is_used([Range(10, 21)]), "not ours counts as used"
    space.claim(13)
    assert space.is_used([Range(13, 15)])
    assert not space.is_used([Range(14, 20)])
