import random

from hypothesis import given
from hypothesis import strategies as st

from plait.mesh.name import PeerName
from plait.mesh.shortids import SHORT_IDS, ShortIds

LOW, MIDDLE, HIGH = PeerName(1), PeerName(2), PeerName(3)


class _Stuck(random.Random):
    """Draws the same number for ever."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return 7


def test_nobody_owns_an_unclaimed_id() -> None:
    ids = ShortIds()
    assert ids.owner(5) is None
    assert ids.claimants(5) == ()


def test_the_lowest_name_owns_a_contested_id() -> None:
    ids = ShortIds()
    for name in (MIDDLE, HIGH, LOW):
        ids.claim(5, name)
    assert ids.owner(5) == LOW
    assert ids.claimants(5) == (LOW, MIDDLE, HIGH)


def test_first_use_is_no_change() -> None:
    ids = ShortIds()
    ids.claim(5, LOW)
    assert ids.take_changes() == frozenset()


def test_a_claim_that_does_not_win_is_no_change() -> None:
    ids = ShortIds()
    ids.claim(5, LOW)
    ids.claim(5, HIGH)
    assert ids.take_changes() == frozenset()


def test_a_collision_won_by_a_new_owner_is_a_change() -> None:
    ids = ShortIds()
    ids.claim(5, HIGH)
    ids.claim(5, LOW)
    assert ids.take_changes() == {5}
    assert ids.take_changes() == frozenset()


def test_promotion_of_another_claimant_is_a_change() -> None:
    ids = ShortIds()
    ids.claim(5, LOW)
    ids.claim(5, HIGH)
    ids.release(5, LOW)
    assert ids.owner(5) == HIGH
    assert ids.take_changes() == {5}


def test_a_loser_who_leaves_changes_nothing() -> None:
    ids = ShortIds()
    ids.claim(5, LOW)
    ids.claim(5, HIGH)
    ids.release(5, HIGH)
    assert ids.claimants(5) == (LOW,)
    assert ids.take_changes() == frozenset()


def test_disuse_is_no_change_but_reuse_is() -> None:
    ids = ShortIds()
    ids.claim(5, LOW)
    ids.release(5, LOW)
    assert ids.owner(5) is None
    assert ids.take_changes() == frozenset()
    ids.claim(5, HIGH)
    assert ids.take_changes() == {5}


def test_the_same_claim_again_is_nothing() -> None:
    ids = ShortIds()
    ids.claim(5, LOW)
    ids.claim(5, LOW)
    assert ids.claimants(5) == (LOW,)
    assert ids.take_changes() == frozenset()


def test_releasing_what_is_not_claimed_is_nothing() -> None:
    ids = ShortIds()
    ids.claim(5, MIDDLE)
    for name in (LOW, HIGH):
        ids.release(5, name)
    ids.release(6, LOW)
    ids.release(None, LOW)
    assert ids.claimants(5) == (MIDDLE,)


def test_peers_without_id_or_with_an_impossible_one_take_no_part() -> None:
    ids = ShortIds()
    for short_id in (None, -1, SHORT_IDS, 65535):
        ids.claim(short_id, LOW)
    assert ids.owner(SHORT_IDS) is None
    assert ids.owner(65535) is None


def test_the_only_free_id_is_found() -> None:
    ids = ShortIds()
    for short_id in range(SHORT_IDS):
        if short_id != 1234:
            ids.claim(short_id, PeerName(short_id + 1))
    assert ids.choose(random.Random(1)) == 1234


def test_if_the_draws_hit_taken_ids_a_free_one_is_picked_from_the_list() -> None:
    ids = ShortIds()
    ids.claim(7, LOW)
    chosen = ids.choose(_Stuck(3))
    assert chosen is not None
    assert chosen != 7


def test_a_formerly_used_id_is_free() -> None:
    ids = ShortIds()
    ids.claim(7, LOW)
    ids.release(7, LOW)
    assert ids.choose(_Stuck(3)) == 7


def test_if_all_ids_are_taken_none_is_chosen() -> None:
    ids = ShortIds()
    for short_id in range(SHORT_IDS):
        ids.claim(short_id, LOW)
    assert ids.choose(random.Random(1)) is None


_operations = st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(1, 5)), max_size=40)


@given(_operations)
def test_every_id_that_changes_hands_is_reported(operations: list[tuple[bool, int, int]]) -> None:
    """Whoever remembers owners and drops the reported ones never remembers a wrong one, and `model` agrees."""
    ids = ShortIds()
    model: dict[int, set[int]] = {}
    remembered: dict[int, PeerName] = {}
    for is_claim, short_id, number in operations:
        if is_claim:
            ids.claim(short_id, PeerName(number))
            model.setdefault(short_id, set()).add(number)
        else:
            ids.release(short_id, PeerName(number))
            model.get(short_id, set()).discard(number)
        for changed in ids.take_changes():
            remembered.pop(changed, None)
        for each, claimants in model.items():
            owner = ids.owner(each)
            assert list(ids.claimants(each)) == sorted(claimants)
            if owner is not None:
                assert remembered.setdefault(each, owner) == owner
