"""Two fastdp sessions over a simulated path, in virtual time."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.overlay.fastdp import actions as a
from plait.overlay.fastdp.health import HOLD_FIRST, HOLD_MOST
from plait.overlay.pmtu import IDLE_VERIFY_INTERVAL, RESOLUTION
from plait.overlay.sleeve.actions import Established, SendControl
from unit.overlay.fastdp.paths import ADDRESSES, Direction, World

FALL = 4.5
"""Seconds in which frames must go another way; there were none before."""

BUSY_FALL = 3.0
"""The same where there were."""

RETURN = 10.0
"""Seconds in which frames must come back from a first fall."""

UNHEARD = "the peer does not hear us"
SILENT = "nothing comes from the peer"


def ways(**settings: object) -> tuple[Direction, Direction]:
    return Direction(**settings), Direction(**settings)  # type: ignore[arg-type]


def running(out: tuple[Direction, Direction] | None = None, *, seed: int = 0, local_mtu: int = 65535) -> World:
    """Established, the search is over, and some time went by."""
    world = World(out, seed=seed, local_mtu=local_mtu)
    world.confirm()
    world.run_until(20.0)
    assert all(session.is_established for session in world.sessions)
    return world


def fell(world: World, number: int, since: float) -> float:
    """How long a side took to fall."""
    return min(now for now in world.sides[number].did(a.Unhealthy) if now >= since) - since


def returned(world: World, number: int, since: float) -> float:
    return min(now for now in world.sides[number].did(a.Healthy) if now >= since) - since


# Between plait nodes


def test_both_are_established_and_use_the_whole_path_within_a_few_round_trips() -> None:
    world = World()
    world.confirm()
    world.run_until(0.02)
    assert [session.path_mtu for session in world.sessions] == [1500, 1500]
    assert [session.mtu for session in world.sessions] == [1450, 1450]
    assert [len(side.did(Established)) for side in world.sides] == [1, 1]
    assert world.sides[0].log[-1][1] == a.SetPath(ADDRESSES[1], 1450, 1500)
    world.run_until(100.0)
    assert all(session.state == "established" for session in world.sessions)
    assert all(not side.did(a.Unhealthy, a.Healthy, SendControl) for side in world.sides)
    # A heartbeat and an echo each two and a half seconds, as no frames are carried; a verification each half minute.
    assert all(75 <= len(side.frames) <= 130 for side in world.sides)
    assert all(session.quality.rtt == pytest.approx(0.004) for session in world.sessions)
    assert all(session.quality.loss == 0.0 for session in world.sessions)


def test_a_late_peer_costs_nothing() -> None:
    world = World()
    world.feed(0, lambda session: session.confirm(world.now))
    world.run_until(0.4)
    world.feed(1, lambda session: session.confirm(world.now))
    world.run_until(1.0)
    assert all(session.is_established and session.path_mtu == 1500 for session in world.sessions)


@pytest.mark.parametrize("cut_at", [20.0, 20.1, 20.3, 20.5, 20.7, 20.9, 20.999])
@pytest.mark.parametrize("number", [0, 1])
def test_a_cut_of_one_direction_is_noticed_by_both_and_each_knows_which_is_dead(cut_at: float, number: int) -> None:
    world = running()
    world.run_until(cut_at)
    world.cut(number)
    world.run_for(FALL)
    for side in (0, 1):
        assert fell(world, side, cut_at) < FALL
        (reason,) = world.sides[side].reasons()
        assert reason.startswith(UNHEARD if side == number else SILENT)
    assert f"from this host to {ADDRESSES[1 - number]}" in world.sides[number].reasons()[0]
    assert f"from {ADDRESSES[number]} to this host" in world.sides[1 - number].reasons()[0]
    healed = world.now + 30.0
    world.run_until(healed)
    world.cut(number, heal=True)
    world.run_for(RETURN)
    for side in (0, 1):
        assert 0.5 < returned(world, side, healed) < RETURN / 2
        assert world.sides[side].health() == [False, True]
        assert world.sessions[side].state == "established"
        assert len(world.sides[side].reasons()) == 1


@pytest.mark.parametrize("cut_at", [20.0, 20.2, 20.4, 20.6, 20.8, 20.99])
def test_where_frames_pass_a_cut_is_noticed_sooner(cut_at: float) -> None:
    world = running()
    while world.now < cut_at + 5.0:
        world.data(0, 1, 100)
        world.run_for(0.1)
    cut = world.now
    world.cut(0, 1)
    while world.now < cut + BUSY_FALL:
        world.data(0, 1, 100)
        world.run_for(0.1)
    assert all(fell(world, side, cut) < BUSY_FALL for side in (0, 1))


@pytest.mark.parametrize("cut_at", [20.0, 20.2, 20.4, 20.6, 20.8, 20.99])
def test_a_cut_of_both_directions_is_silence(cut_at: float) -> None:
    world = running()
    world.run_until(cut_at)
    world.cut(0, 1)
    world.run_for(FALL)
    assert all(fell(world, side, cut_at) < FALL for side in (0, 1))
    assert all(side.reasons()[0].startswith(SILENT) for side in world.sides)
    world.run_for(100.0)
    assert [len(side.reasons()) for side in world.sides] == [1, 1]
    healed = world.now
    world.cut(0, 1, heal=True)
    world.run_for(RETURN)
    assert all(returned(world, side, healed) < RETURN / 2 for side in (0, 1))


def test_the_reason_changes_with_what_is_dead() -> None:
    world = running()
    world.cut(0, 1)
    world.run_for(5.0)
    world.cut(1, heal=True)
    world.run_for(5.0)
    assert [reason[:20] for reason in world.sides[0].reasons()] == [SILENT[:20], UNHEARD[:20]]
    assert [reason[:20] for reason in world.sides[1].reasons()] == [SILENT[:20]]
    assert world.sessions[0].state.startswith(f"on hold: {UNHEARD}")


def test_a_path_that_never_worked_says_so_and_comes_when_it_works() -> None:
    world = World()
    world.cut(0)
    world.confirm()
    world.run_until(30.0)
    assert not any(session.is_established for session in world.sessions)
    assert [side.reasons()[-1][:20] for side in world.sides] == [UNHEARD[:20], SILENT[:20]]
    world.cut(0, heal=True)
    world.run_for(RETURN)
    for side in world.sides:
        assert side.did(Established)[0] <= side.did(a.Healthy)[0] < 30.0 + RETURN / 2
        assert side.session.path_mtu == 1500


def test_an_outage_too_short_to_matter_changes_nothing() -> None:
    world = running()
    world.cut(0, 1)
    world.run_for(1.4)
    world.cut(0, 1, heal=True)
    world.run_for(20.0)
    assert all(side.health() == [] for side in world.sides)


@pytest.mark.parametrize("loss", [0.05, 0.1])
def test_chance_loss_makes_nobody_fall(loss: float) -> None:
    falls = 0
    for seed in range(5):
        world = running(ways(loss=loss), seed=seed)
        world.run_for(200.0)
        falls += sum(side.health().count(False) for side in world.sides)
        for session in world.sessions:
            assert 1500 - RESOLUTION < session.path_mtu <= 1500
    assert falls == 0


def test_a_slow_path_is_not_asked_in_a_hurry() -> None:
    world = running(ways(delay=0.3))
    before = [len(side.frames) for side in world.sides]
    world.run_for(100.0)
    assert all(side.health() == [] for side in world.sides)
    assert all(len(side.frames) - count <= 230 for side, count in zip(world.sides, before, strict=True))
    assert all(session.quality.loss == 0.0 for session in world.sessions)


def test_a_path_that_flaps_is_used_ever_less_and_forgiven_after_a_while() -> None:
    world = running()
    holds = []
    for _ in range(10):
        world.cut(0)
        world.run_for(FALL)
        healed = world.now
        world.cut(0, heal=True)
        world.run_for(HOLD_MOST + RETURN)
        holds.append(returned(world, 0, healed))
    first = holds[0]
    assert first < RETURN / 2
    assert all(after >= before - 1.0 for before, after in pairwise(holds))
    assert HOLD_MOST <= holds[-1] < HOLD_MOST + RETURN
    reasons = world.sides[0].reasons()
    assert "repeatedly" not in reasons[0]
    assert reasons[1].endswith("; it failed repeatedly, so it is used again only after answers for 2 s")
    assert reasons[-1].endswith("for 60 s")
    world.run_for(200.0)
    world.cut(0)
    world.run_for(FALL)
    healed = world.now
    world.cut(0, heal=True)
    world.run_for(RETURN)
    assert returned(world, 0, healed) < RETURN / 2
    assert "repeatedly" not in world.sides[0].reasons()[-1]


def test_flapping_while_on_hold_does_not_bring_it_back() -> None:
    world = running()
    for _ in range(30):
        world.cut(1)
        world.run_for(FALL)
        world.cut(1, heal=True)
        world.run_for(HOLD_FIRST * 0.9)
    assert all(side.health() == [False] for side in world.sides)


# The path's MTU


@settings(max_examples=40)
@given(
    st.integers(576, 9000),
    st.integers(576, 9000),
    st.sampled_from([1500, 9000, 65536]),
    st.floats(0.0005, 0.3),
    st.sampled_from([1376, 1450, 8950, 65535]),
)
def test_the_mtu_of_each_direction_is_found_and_no_more(
    there: int, back: int, interface: int, delay: float, local_mtu: int
) -> None:
    mtus = [min(there, interface), min(back, interface)]
    out = [Direction(interface_mtu=interface, path_mtu=mtu, delay=delay) for mtu in mtus]
    world = World((out[0], out[1]), local_mtu=local_mtu)
    world.confirm()
    world.run_until(25.0)
    for side, mtu in zip(world.sides, mtus, strict=True):
        most = min(mtu, local_mtu + 50)
        assert side.session.is_established
        assert most - RESOLUTION < side.session.path_mtu <= most
        assert side.session.mtu == side.session.path_mtu - 50
        assert all(size <= min(interface, local_mtu + 50) for _, size in side.frames)
        assert side.health() == []


def test_a_path_that_becomes_narrower_in_silence_is_found_by_the_frames_that_vanish() -> None:
    world = running()
    for way in (side.out for side in world.sides):
        way.path_mtu = 1400
    for tenth in range(40):
        world.run_until(20.0 + tenth / 10)
        world.data(0, 50, world.sessions[0].path_mtu)
    assert 1400 - RESOLUTION < world.sessions[0].path_mtu <= 1400
    assert world.sessions[0].path.black_holes == 1
    assert world.sessions[1].path_mtu == 1500, "nobody sent anything the other way"
    world.run_for(IDLE_VERIFY_INTERVAL)
    assert world.sessions[1].path_mtu <= 1400, "the next verification tells"
    assert all(side.health() == [] for side in world.sides)


def test_a_path_that_comes_back_narrower_is_known_before_frames_use_it() -> None:
    world = running()
    world.cut(0, 1)
    world.run_for(95.0)
    for way in (side.out for side in world.sides):
        way.path_mtu = 1400
    healed = world.now
    world.cut(0, 1, heal=True)
    world.run_for(RETURN)
    for side in world.sides:
        narrower = next(
            now
            for now, action in side.log
            if now > healed and isinstance(action, a.SetPath) and action.path_mtu <= 1400
        )
        assert narrower <= min(now for now in side.did(a.Healthy) if now > healed)


def test_loss_is_counted_in_frames_of_containers_where_there_are_enough() -> None:
    world = running((Direction(loss=0.2), Direction()), seed=1)
    for tenth in range(100):
        world.run_until(20.0 + tenth / 10)
        world.data(0, 50, 1500)
    assert world.sessions[0].quality.loss == pytest.approx(0.2, abs=0.05)
    assert world.sessions[0].quality.tx_rate == pytest.approx(500_000, rel=0.2)
    assert world.sessions[1].quality.loss is not None


def test_a_peer_without_counters_only_costs_knowledge() -> None:
    world = World()
    world.sides[1].counts = False
    world.confirm()
    world.run_until(20.0)
    for tenth in range(50):
        world.run_until(20.0 + tenth / 10)
        world.data(0, 50, 1500)
    assert world.sessions[0].quality.loss == 0.0
    assert not world.sessions[0].quality.is_losing
    assert world.sessions[0].path_mtu == 1500


def test_a_jumbo_network_that_is_switched_on_is_used() -> None:
    world = running()
    for number, side in enumerate(world.sides):
        side.out.interface_mtu = side.out.path_mtu = 9000
        world.feed(number, lambda session: session.interface_mtu_known(9000, world.now))
    world.run_for(3.0)
    assert [session.mtu for session in world.sessions] == [8950, 8950]


def test_an_interface_that_shrinks_is_noticed_by_the_kernels_refusal() -> None:
    world = running()
    world.sides[0].out.interface_mtu = world.sides[0].out.path_mtu = 1280
    world.feed(0, lambda session: session.packet_too_big())
    world.run_for(0.01)
    assert world.sessions[0].path_mtu == 1280
    world.run_for(100.0)
    assert world.sides[0].health() == []


def test_a_peer_that_moves_is_followed() -> None:
    world = running()
    world.sides[0].address = "203.0.113.9"
    world.sides[1].out.path_mtu = 1300
    world.run_for(15.0)
    assert world.sessions[1].remote_ip == "203.0.113.9"
    assert 1300 - RESOLUTION < world.sessions[1].path_mtu <= 1300
    assert all(session.is_established for session in world.sessions)
    world.run_for(20.0)
    assert all(session.state == "established" for session in world.sessions)


# Towards Weave


def test_both_sides_by_weaves_rule() -> None:
    world = World(is_plait=False, local_mtu=1376, interval=10.0)
    world.confirm()
    world.run_until(100.0)
    for side in world.sides:
        assert side.session.is_established
        assert side.session.mtu == 1376
        assert side.did(SendControl) == [0.002]
        assert [size for _, size in side.frames] == [1426] * 10
    world.cut(0)
    world.run_until(300.0)
    assert world.sides[0].health() == [], "Weave's rule sees only what arrives"
    assert world.sides[1].did(a.Unhealthy) == [pytest.approx(150.0, abs=1.0)]
    world.cut(0, heal=True)
    world.run_until(311.0)
    assert world.sides[1].health() == [False, True]


def test_a_path_too_narrow_for_weaves_heartbeats_is_never_established() -> None:
    world = World(ways(path_mtu=1400), is_plait=False, local_mtu=1376, interval=10.0)
    world.confirm()
    world.run_until(200.0)
    for side in world.sides:
        assert not side.session.is_established
        assert side.reasons() == [
            f"{SILENT} for 60 s; let UDP port 6784 from {side.session.remote_ip} to this host through"
        ]
    gaps = [
        after[0] - before[0] for before, after in zip(world.sides[0].frames, world.sides[0].frames[1:], strict=False)
    ]
    assert gaps[:100] == pytest.approx([0.5] * 100)
    assert gaps[-5:] == pytest.approx([10.0] * 5)
