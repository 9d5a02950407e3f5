from hypothesis import given
from hypothesis import strategies as st

from plait.overlay.sleeve.mtu_search import ATTEMPTS, FLOOR, MtuSearch, mtu_test_length


def run(search: MtuSearch, ceiling: int, passes: int) -> list[int]:
    """Search a path that lets an overlay MTU of `passes` through; give the candidates tested."""
    tested: list[int] = []
    now = 0.0
    candidate = search.begin(ceiling, now)
    while search.candidate is not None:
        assert candidate == search.candidate
        tested.append(candidate)
        if candidate <= passes:
            candidate = search.verified(candidate, now)
            continue
        assert search.deadline is not None
        now = search.deadline
        candidate = search.handle_timer(now)
    return tested


def test_a_path_that_carries_the_ceiling_needs_one_test() -> None:
    search = MtuSearch()
    assert run(search, 1438, 1438) == [1438]
    assert search.result == 1438


def test_a_lost_candidate_costs_eight_tests_and_2550_ms() -> None:
    search = MtuSearch()
    search.begin(1438, 100.0)
    sent_at = [100.0]
    while search.candidate == 1438:
        assert search.deadline is not None
        now = search.deadline
        assert search.handle_timer(now - 0.001) is None
        search.handle_timer(now)
        sent_at.append(now)
    assert [round(at - 100.0, 3) for at in sent_at] == [0, 0.01, 0.03, 0.07, 0.15, 0.31, 0.63, 1.27, 2.55]
    assert len(sent_at) == ATTEMPTS + 1
    assert search.candidate == 995


def test_at_or_below_the_floor_nothing_is_tested() -> None:
    search = MtuSearch()
    assert search.begin(FLOOR, 0.0) is None
    assert search.result == FLOOR
    assert search.begin(100, 0.0) is None
    assert search.result == 100


def test_other_values_and_late_timers_change_nothing() -> None:
    search = MtuSearch()
    assert search.verified(1438, 0.0) is None
    assert search.handle_timer(5.0) is None
    search.begin(1438, 0.0)
    assert search.verified(1437, 0.0) is None
    assert search.candidate == 1438


def test_a_new_search_replaces_the_running_one() -> None:
    search = MtuSearch()
    search.begin(1438, 0.0)
    assert search.begin(1338, 0.0) == 1338
    assert search.verified(1438, 0.0) is None


@given(st.integers(68, 65473), st.integers(552, 65473))
def test_the_result_is_what_the_path_carries(ceiling: int, passes: int) -> None:
    search = MtuSearch()
    tested = run(search, ceiling, passes)
    lengths = {mtu_test_length(candidate) for candidate in tested}
    assert not lengths & {22, 60001}
    assert all(FLOOR < candidate <= ceiling for candidate in tested)
    assert search.result is not None
    # One candidate cannot be tested, its length means something else: the byte below it is the answer then.
    assert search.result in (min(ceiling, passes), min(ceiling, passes) - (min(ceiling, passes) == 60001 - 14))
    assert len(tested) <= (17 + 1) * ATTEMPTS
