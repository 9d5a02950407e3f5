"""The pure parts of noisy paths and forged errors."""

import random
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.testing.lab import LabError
from plait.testing.lab.checksum import checksum
from plait.testing.lab.forgery import too_big
from plait.testing.lab.noise import MAX_DELAY, Noise, Rates

SHARES = st.floats(0, 1)


def passed(noise: Noise, count: int) -> list[int]:
    """Numbers of datagrams in the order in which they are passed on."""
    found = [datagram for number in range(count) for datagram in noise.take(number.to_bytes(4, "big"))]
    return [int.from_bytes(datagram, "big") for datagram in found + noise.rest()]


def noise(loss: float = 0, reorder: float = 0, duplicate: float = 0, seed: int = 1) -> Noise:
    return Noise(Rates(loss, reorder, duplicate), random.Random(seed))


def test_without_rates_all_pass_in_order() -> None:
    quiet = noise()
    assert passed(quiet, 100) == list(range(100))
    assert (quiet.counts.seen, quiet.counts.lost, quiet.counts.reordered, quiet.counts.duplicated) == (100, 0, 0, 0)


def test_the_seed_decides() -> None:
    assert passed(noise(0.1, 0.1, 0.1), 500) == passed(noise(0.1, 0.1, 0.1), 500)
    assert passed(noise(0.1, 0.1, 0.1), 500) != passed(noise(0.1, 0.1, 0.1, seed=2), 500)


def test_certainties() -> None:
    assert passed(noise(loss=1), 50) == []
    assert sorted(passed(noise(duplicate=1), 50)) == sorted([*range(50)] * 2)
    late = noise(reorder=1)
    assert sorted(passed(late, 50)) == list(range(50))
    assert late.counts.reordered == 50


def test_rates_are_kept() -> None:
    made = noise(0.05, 0.04, 0.03)
    passed(made, 10_000)
    counts = made.counts
    assert 400 < counts.lost < 600
    assert 300 < counts.reordered < 480
    assert 210 < counts.duplicated < 380


@given(SHARES, SHARES, SHARES, st.integers(0, 100), st.integers(0, 1000))
def test_counts_account_for_all_and_nothing_waits_long(
    loss: float, reorder: float, duplicate: float, count: int, seed: int
) -> None:
    made = noise(loss, reorder, duplicate, seed)
    numbers: list[int] = []
    for number in range(count):
        came = [int.from_bytes(each, "big") for each in made.take(number.to_bytes(4, "big"))]
        assert all(number - each <= MAX_DELAY for each in came)
        numbers += came
    numbers += [int.from_bytes(each, "big") for each in made.rest()]
    assert not made.is_holding
    assert len(set(numbers)) == count - made.counts.lost
    assert len(numbers) == len(set(numbers)) + made.counts.duplicated


@pytest.mark.parametrize("rates", [{"loss": 1.1}, {"reorder": -0.1}, {"duplicate": float("nan")}])
def test_impossible_rates_are_refused(rates: dict[str, float]) -> None:
    with pytest.raises(LabError, match=f"{next(iter(rates))} is a share"):
        Rates(**rates)


def test_a_forged_error_quotes_the_flow_and_sums_up() -> None:
    message = too_big(("10.99.0.1", 6783), ("10.99.0.2", 6784), 600)
    assert message[:2] == b"\x03\x04"
    assert int.from_bytes(message[6:8], "big") == 600
    assert (checksum(message), checksum(message[8:28])) == (0, 0)
    assert [socket.inet_ntoa(message[at : at + 4]) for at in (20, 24)] == ["10.99.0.1", "10.99.0.2"]
    assert [int.from_bytes(message[at : at + 2], "big") for at in (28, 30)] == [6783, 6784]
