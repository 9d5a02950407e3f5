"""The replay window against a model that remembers everything."""

from hypothesis import given
from hypothesis import strategies as st

from plait.overlay.sleeve.plait1.replay import TOO_OLD, WINDOW, ReplayWindow


def test_nothing_came_yet() -> None:
    window = ReplayWindow()
    assert window.highest == -1
    assert [window.seen(sequence) for sequence in (0, 1, 2**64 - 1)] == [0, 0, 0]


def test_masks_add_up() -> None:
    window = ReplayWindow()
    window.add(5, 0b0101)
    window.add(5, 0b1000)
    assert window.seen(5) == 0b1101
    assert window.seen(4) == window.seen(6) == 0


def test_what_is_4096_below_the_highest_is_too_old() -> None:
    window = ReplayWindow()
    window.add(WINDOW + 10, 1)
    assert window.seen(11) == 0
    assert window.seen(10) == window.seen(0) == TOO_OLD
    window.add(11, 1)
    assert (window.highest, window.seen(11)) == (WINDOW + 10, 1)
    assert TOO_OLD.bit_count() >= 128


def test_asking_moves_nothing() -> None:
    window = ReplayWindow()
    window.seen(2**60)
    assert (window.highest, window.seen(0)) == (-1, 0)


def test_memory_has_a_bound() -> None:
    window = ReplayWindow()
    for sequence in range(5 * WINDOW):
        window.add(sequence, 1)
        assert len(window._seen) <= 2 * WINDOW
    for sequence in range(10 * WINDOW, 10**9, 10**6):
        window.add(sequence, 1)
    assert len(window._seen) <= 2 * WINDOW


@given(st.lists(st.tuples(st.integers(0, 3 * WINDOW), st.integers(1, 2**128 - 1)), max_size=60))
def test_as_a_model_that_remembers_all(added: list[tuple[int, int]]) -> None:
    window, model, highest = ReplayWindow(), dict[int, int](), -1
    for sequence, mask in added:
        expected = TOO_OLD if sequence <= highest - WINDOW else model.get(sequence, 0)
        assert window.seen(sequence) == expected
        if expected != TOO_OLD:
            window.add(sequence, mask & ~expected)
            model[sequence] = expected | mask
            highest = max(highest, sequence)
        assert window.highest == highest
