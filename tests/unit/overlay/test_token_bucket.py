from hypothesis import given
from hypothesis import strategies as st

from plait.overlay.sleeve.token_bucket import TokenBucket


def test_a_burst_passes_then_the_rate() -> None:
    bucket = TokenBucket(rate=2.0, burst=3.0)
    assert [bucket.take(10.0) for _ in range(5)] == [True, True, True, False, False]
    assert [bucket.take(10.5), bucket.take(10.5)] == [True, False]
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_a_clock_that_steps_back_gives_nothing_away() -> None:
    bucket = TokenBucket(rate=1.0, burst=1.0)
    assert bucket.take(5.0)
    assert not bucket.take(4.0)
    assert not bucket.take(4.5)


@given(st.lists(st.floats(0.0, 1.0), max_size=200))
def test_never_more_than_burst_and_rate(steps: list[float]) -> None:
    bucket, now, passed = TokenBucket(rate=3.0, burst=5.0), 0.0, 0
    for step in steps:
        now += step
        passed += bucket.take(now)
    assert passed <= 5.0 + 3.0 * now + 1e-6
