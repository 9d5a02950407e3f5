"""Health by echoes, by itself; the pairs of sessions show the rest."""

import pytest

from plait.overlay.fastdp.health import HOLD_FIRST, HOLD_MOST, EchoHealth, Illness


def fallen(*, is_proven: bool = True) -> EchoHealth:
    """Silent from second 0 on, on hold at second 3."""
    health = EchoHealth(1.0)
    health.begin(-1.0)
    if is_proven:
        health.sent(-0.1, None)
        health.echoed(0.0, is_heartbeat=True)
    for quarter in range(4, 13):
        health.judge(quarter / 4)
        health.sent(quarter / 4, None)
    assert health.illness is Illness.SILENT
    return health


def test_echoes_of_heartbeats_bring_it_back() -> None:
    health = fallen()
    for quarter in range(5):
        now = 4.0 + quarter / 4
        health.sent(now, 0.01)
        assert health.echoed(now + 0.01, is_heartbeat=True) == (quarter == 0)
        assert (health.illness is None) == (quarter == 4), "three in a row, and a second"


def test_echoes_of_probes_alone_do_not() -> None:
    health = fallen()
    for quarter in range(40):
        now = 4.0 + quarter / 4
        health.sent(now, 0.01)
        health.echoed(now + 0.01, is_heartbeat=False)
    assert health.illness is Illness.SILENT


def test_late_echoes_that_come_together_count_once() -> None:
    health = fallen()
    for quarter in range(8):
        health.sent(4.0 + quarter / 4, 0.01)
    for _ in range(8):
        health.echoed(6.0, is_heartbeat=True)
    health.sent(7.1, 0.01)
    health.echoed(7.1, is_heartbeat=True)
    assert health.illness is Illness.SILENT
    health.sent(7.35, 0.01)
    health.echoed(7.35, is_heartbeat=True)
    assert health.illness is None


def test_a_busy_host_is_not_taken_for_answers() -> None:
    health = fallen()
    health.judge(100.0)
    assert health.echoed(100.5, is_heartbeat=True), "the first after silence"
    assert health.illness is Illness.SILENT


def test_what_never_worked_needs_no_hold() -> None:
    health = fallen(is_proven=False)
    assert health.hold == 0.0
    for tenth in range(3):
        health.sent(4.0 + tenth / 10, 0.01)
        health.echoed(4.0 + tenth / 10, is_heartbeat=True)
    assert health.illness is None


def test_the_hold_doubles_with_each_fall_soon_after_a_return() -> None:
    health, now, holds = fallen(), 4.0, []
    for _ in range(9):
        holds.append(health.hold)
        while health.illness:
            health.sent(now, 0.01)
            health.echoed(now, is_heartbeat=True)
            now += 0.25
        for _ in range(20):
            health.judge(now)
            health.sent(now, 0.01)
            now += 0.25
    assert holds == [HOLD_FIRST, 2.0, 4.0, 8.0, 16.0, 32.0, HOLD_MOST, HOLD_MOST, HOLD_MOST]


@pytest.mark.parametrize(("ago", "illness"), [(1.2, Illness.DEAF), (1.3, Illness.SILENT)])
def test_the_peer_is_heard_if_something_came_lately(ago: float, illness: Illness) -> None:
    health = fallen()
    health.heard(10.0 - ago)
    health.judge(10.0)
    assert health.illness is illness
