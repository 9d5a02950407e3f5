"""What acknowledgements say of a path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.overlay.quality import ENOUGH_DATAGRAMS, MAX_SAMPLES, PROBES_REMEMBERED, WINDOW, PathQuality
from plait.overlay.sleeve.ipc import ProbeAcknowledged


def acked(
    sent: int = 0, received: int = 0, rtt: float = 0.01, tx_bytes: int = 0, rx_bytes: int = 0
) -> ProbeAcknowledged:
    return ProbeAcknowledged(2, 70, rtt, sent, received, tx_bytes, rx_bytes)


def test_nothing_is_known_before_an_acknowledgement() -> None:
    quality = PathQuality()
    assert (quality.rtt, quality.loss, quality.tx_rate, quality.rx_rate) == (None, None, None, None)
    assert not quality.is_losing
    quality.acknowledged(acked(), 1.0)
    assert (quality.tx_rate, quality.rx_rate) == (None, None)
    assert quality.rtt == 0.01


def test_the_round_trip_time_is_smoothed_as_tcps() -> None:
    quality = PathQuality()
    quality.acknowledged(acked(rtt=0.1), 0.0)
    assert (quality.rtt, quality.jitter) == (0.1, None)
    quality.acknowledged(acked(rtt=0.3), 1.0)
    assert quality.rtt == pytest.approx(7 / 8 * 0.1 + 1 / 8 * 0.3)
    assert quality.jitter == pytest.approx(0.2 / 16)
    for second in range(2, 100):
        quality.acknowledged(acked(rtt=0.02), second)
    assert quality.rtt == pytest.approx(0.02, rel=0.01)
    assert quality.jitter == pytest.approx(0.0, abs=0.001)


def test_loss_is_that_of_data_where_there_is_enough_of_it() -> None:
    quality = PathQuality()
    for second in range(5):
        quality.asked()
        quality.acknowledged(acked(sent=1000 * second, received=950 * second), second)
    assert quality.loss == pytest.approx(0.05)


def test_with_little_data_probes_are_counted() -> None:
    quality = PathQuality()
    for number in range(10):
        quality.asked()
        if number % 5:
            quality.acknowledged(acked(sent=number, received=0), number)
    quality.asked()
    assert quality.loss == pytest.approx(0.2)
    for number in range(PROBES_REMEMBERED + 1):
        quality.asked()
        quality.acknowledged(acked(), 10.0 + number)
    assert quality.loss == 0.0


def test_probes_nobody_waits_for_are_no_measure_of_loss() -> None:
    """Those of a search of the path's MTU are larger than the path on purpose."""
    quality = PathQuality()
    quality.acknowledged(acked(), 0.0)
    quality.acknowledged(acked(), 0.1)
    assert quality.loss is None


def test_loss_is_between_nothing_and_all() -> None:
    """What was in flight at the first acknowledgement and has arrived at the last makes more than was sent."""
    quality = PathQuality()
    quality.acknowledged(acked(sent=1000, received=0), 0.0)
    quality.acknowledged(acked(sent=1200, received=1200), 1.0)
    assert quality.loss == 0.0


def test_the_window_moves_on() -> None:
    quality = PathQuality()
    quality.acknowledged(acked(), 0.0)
    quality.acknowledged(acked(sent=1000, received=0, tx_bytes=1000), 1.0)
    assert quality.loss == 1.0
    for second in range(2, 14):
        count = 1000 * second
        quality.acknowledged(acked(sent=count, received=count - 1000, tx_bytes=500 * count), second)
    assert quality.loss == 0.0
    assert quality.tx_rate == pytest.approx(500_000.0)


def test_rates_are_bytes_a_second_in_both_directions() -> None:
    quality = PathQuality()
    quality.acknowledged(acked(tx_bytes=1000, rx_bytes=50), 10.0)
    quality.acknowledged(acked(tx_bytes=1000, rx_bytes=50), 10.0)
    assert (quality.tx_rate, quality.rx_rate) == (None, None)  # no time has passed
    quality.acknowledged(acked(tx_bytes=5000, rx_bytes=150), 12.0)
    assert (quality.tx_rate, quality.rx_rate) == (2000.0, 50.0)
    for second in range(13, 40):
        quality.acknowledged(acked(tx_bytes=5000, rx_bytes=150), second)
    assert (quality.tx_rate, quality.rx_rate) == (0.0, 0.0)


@pytest.mark.parametrize("restarted", ["ours", "theirs"])
def test_counts_of_a_pump_that_began_anew_are_not_compared(restarted: str) -> None:
    quality = PathQuality()
    quality.acknowledged(acked(sent=0, received=0), 0.0)
    quality.acknowledged(acked(sent=1000, received=1000, tx_bytes=10**9), 1.0)
    again = acked(sent=10, received=1010) if restarted == "ours" else acked(sent=1010, received=5)
    quality.acknowledged(again, 2.0)
    assert quality.loss is None
    assert quality.tx_rate is None
    assert not quality.is_losing


def test_data_that_vanishes_while_probes_pass_is_noticed() -> None:
    quality = PathQuality()
    quality.acknowledged(acked(sent=5), 0.0)
    assert not quality.is_losing, "before the first acknowledgement everything may have happened"
    for sent, received, is_losing in ((5, 0, False), (6, 0, True), (6, 0, False), (100, 94, False), (200, 193, True)):
        quality.acknowledged(acked(sent=sent, received=received), 1.0)
        assert quality.is_losing is is_losing
    quality.acknowledged(acked(sent=300, received=300), 2.0)  # what was late has come
    assert not quality.is_losing


@given(
    st.lists(
        st.tuples(
            st.floats(0, 100),
            *(st.integers(0, 2**64 - 1) for _ in range(4)),
            st.floats(0, 1e9, allow_nan=False),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_whatever_a_peer_counts_makes_sense(
    steps: list[tuple[float, int, int, int, int, float, bool]],
) -> None:
    quality, now = PathQuality(), 0.0
    for passed, sent, received, tx_bytes, rx_bytes, rtt, asks in steps:
        now += passed
        if asks:
            quality.asked()
        quality.acknowledged(acked(sent, received, rtt, tx_bytes, rx_bytes), now)
        assert quality.loss is None or 0.0 <= quality.loss <= 1.0
        for rate in (quality.tx_rate, quality.rx_rate):
            assert rate is None or rate >= 0.0
        assert quality.rtt is not None
        assert quality.rtt >= 0


def test_memory_has_a_bound() -> None:
    quality = PathQuality()
    for number in range(3 * MAX_SAMPLES):
        quality.asked()
        quality.acknowledged(acked(sent=number, received=number), number * WINDOW / MAX_SAMPLES / 10)
        quality.asked()
    assert len(quality._samples) <= MAX_SAMPLES
    assert len(quality._probes) <= PROBES_REMEMBERED
    assert quality.loss == 0.0
    assert ENOUGH_DATAGRAMS < MAX_SAMPLES  # so the last assertion was about data
