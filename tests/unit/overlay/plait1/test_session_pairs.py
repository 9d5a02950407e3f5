"""Two plait1 sessions over a simulated path."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.overlay.pmtu import IDLE_VERIFY_INTERVAL, RESOLUTION
from plait.overlay.sleeve import actions as a
from plait.overlay.sleeve.plait1.session import CONTROL_GENERATION, Plait1Session
from unit.overlay.plait1.paths import ADDRESSES, Direction, World

BOTH = pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "encrypted"])


def sessions(world: World) -> list[Plait1Session]:
    return [side.session for side in world.sides]


def ways(**settings: object) -> tuple[Direction, Direction]:
    return Direction(**settings), Direction(**settings)  # type: ignore[arg-type]


@BOTH
def test_both_sides_are_established_within_two_round_trips_and_use_the_whole_path(is_encrypted: bool) -> None:
    world = World(is_encrypted=is_encrypted)
    world.confirm()
    world.run_until(0.0085)
    assert all(session.is_established for session in sessions(world))
    assert sessions(world)[1].remote == ADDRESSES[0]
    world.run_until(0.02)
    assert [session.path_mtu for session in sessions(world)] == [1500, 1500]
    assert [session.mtu for session in sessions(world)] == [1500 - (104 if is_encrypted else 72)] * 2
    world.run_until(100.0)
    assert all(session.is_established and session.failure is None for session in sessions(world))
    # One heartbeat each two seconds while nothing is carried, a verification each half minute.
    assert all(45 <= len(side.probes()) <= 75 for side in world.sides)
    assert all(session.quality.rtt == pytest.approx(0.004) for session in sessions(world))


def test_what_carries_frames_is_probed_each_second() -> None:
    world = World()
    world.confirm()
    world.run_until(10.0)
    before = len(world.sides[0].probes())
    for tenth in range(400):
        world.run_until(10.0 + tenth / 10)
        world.data(0, 1, 1000)
    assert 38 <= len(world.sides[0].probes()) - before <= 50


def test_what_stands_by_is_probed_seldom_and_has_to_answer_soon_when_it_is_needed() -> None:
    world = World()
    world.confirm()
    world.run_until(10.0)
    for session in sessions(world):
        session.set_standby(True, world.now)
    before = [len(side.probes()) for side in world.sides]
    world.run_until(210.0)
    assert all(len(side.probes()) - old <= 30 for side, old in zip(world.sides, before, strict=True))
    assert all(session.is_established for session in sessions(world))
    for side in world.sides:
        side.out.loss = 1.0
    resumed = world.now
    for session in sessions(world):
        session.set_standby(False, world.now)
        assert session.proven_at == resumed
    world.run_until(resumed + 3.0)
    assert all(world.now - resumed > session.patience for session in sessions(world)), "known before it is given up"
    world.run_until(resumed + 4.0)
    assert all("no UDP probe was answered" in (session.failure or "") for session in sessions(world))


@pytest.mark.parametrize("loss", [0.1, 0.3])
def test_probes_that_are_lost_only_take_time(loss: float) -> None:
    for seed in range(10):
        world = World(ways(loss=loss), seed=seed)
        world.confirm()
        world.run_until(15.0)
        assert all(session.is_established for session in sessions(world)), f"seed {seed}"
        assert all(1500 - RESOLUTION < session.path_mtu <= 1500 for session in sessions(world)), f"seed {seed}"


@settings(max_examples=60)
@given(
    st.integers(576, 9000),
    st.integers(576, 9000),
    st.sampled_from([1500, 9000, 65536]),
    st.floats(0.0005, 0.3),
    st.integers(0, 3),
)
def test_the_mtu_of_each_direction_is_found_and_no_more(
    there: int, back: int, interface: int, delay: float, seed: int
) -> None:
    mtus = [min(there, interface), min(back, interface)]
    out = [Direction(interface_mtu=interface, path_mtu=mtu, delay=delay) for mtu in mtus]
    world = World((out[0], out[1]), seed=seed)
    world.confirm()
    world.run_until(25.0)
    for side, mtu in zip(world.sides, mtus, strict=True):
        assert side.session.is_established
        assert mtu - RESOLUTION < side.session.path_mtu <= mtu
        assert all(size <= interface for _, size in side.probes())


def test_a_path_that_becomes_narrower_in_silence_is_found_by_the_data_that_vanishes() -> None:
    world = World()
    world.confirm()
    world.run_until(5.0)
    for way in (side.out for side in world.sides):
        way.path_mtu = 1400
    for tenth in range(30):
        world.run_until(5.0 + tenth / 10)
        world.data(0, 50, world.sides[0].max_payload + 28)
    assert 1400 - RESOLUTION < sessions(world)[0].path_mtu <= 1400
    assert sessions(world)[0].path.black_holes == 1
    # Nobody sent anything the other way, so nobody noticed; the next verification does.
    assert sessions(world)[1].path_mtu == 1500
    world.run_until(10.0 + IDLE_VERIFY_INTERVAL)
    assert sessions(world)[1].path_mtu <= 1400
    assert all(session.is_established for session in sessions(world))


def test_loss_of_small_datagrams_too_is_no_black_hole() -> None:
    world = World(ways(loss=0.4), seed=2)
    world.confirm()
    world.run_until(10.0)
    for tenth in range(100):
        world.run_until(10.0 + tenth / 10)
        world.data(0, 50, 1500)
    session = sessions(world)[0]
    assert session.path_mtu > 1500 - RESOLUTION
    assert session.path.black_holes == 0
    assert session.quality.loss == pytest.approx(0.4, abs=0.1)


def test_a_routers_word_makes_it_quicker_and_a_lie_costs_nothing() -> None:
    honest = World((Direction(path_mtu=1400, icmp=1400), Direction()))
    honest.confirm()
    honest.run_until(1.0)
    assert sessions(honest)[0].path_mtu == 1400
    liar = World((Direction(), Direction()))
    liar.confirm()
    liar.run_until(5.0)
    liar.feed(0, lambda session: session.mtu_hint(1300, liar.now))
    liar.run_until(8.0)
    assert sessions(liar)[0].path_mtu == 1500


def test_a_jumbo_network_that_is_switched_on_is_used() -> None:
    world = World()
    world.confirm()
    world.run_until(2.0)
    for number, side in enumerate(world.sides):
        side.out.interface_mtu = side.out.path_mtu = 9000
        world.feed(number, lambda session: session.interface_mtu_known(9000, world.now))
    world.run_until(4.0)
    assert [session.path_mtu for session in sessions(world)] == [9000, 9000]


def test_an_interface_that_shrinks_is_noticed_by_the_kernels_refusal() -> None:
    world = World()
    world.confirm()
    world.run_until(2.0)
    world.sides[0].out.interface_mtu = world.sides[0].out.path_mtu = 1280
    world.feed(0, lambda session: session.packet_too_big())
    world.run_until(2.01)
    assert sessions(world)[0].path_mtu == 1280
    world.run_until(10.0)
    assert sessions(world)[0].is_established


@BOTH
def test_a_side_that_moves_is_followed(is_encrypted: bool) -> None:
    world = World(is_encrypted=is_encrypted)
    world.confirm()
    world.run_until(5.0)
    new = ("203.0.113.9", 40001)
    world.sides[0].out.path_mtu = world.sides[1].out.path_mtu = 1300
    world.move(0, new)
    world.run_until(12.0)
    assert sessions(world)[1].remote == new
    assert all(session.is_established for session in sessions(world))
    world.run_until(20.0 + IDLE_VERIFY_INTERVAL)  # the side that moved does not know it: verification tells
    assert all(1300 - RESOLUTION < session.path_mtu <= 1300 for session in sessions(world))


def test_a_path_that_is_cut_ends_both_sides_and_one_that_heals_in_time_does_not() -> None:
    for outage, ends in ((4.0, False), (8.0, True)):
        world = World()
        world.confirm()
        world.run_until(5.0)
        for side in world.sides:
            side.out.loss = 1.0
        world.run_until(5.0 + outage)
        for side in world.sides:
            side.out.loss = 0.0
        world.run_until(20.0)
        assert [session.failure is not None for session in sessions(world)] == [ends, ends]
        assert [session.path_mtu for session in sessions(world)] == [1500, 1500]
        if ends:
            assert "no UDP probe was answered" in (sessions(world)[0].failure or "")


def test_one_way_silence_establishes_nobody() -> None:
    world = World((Direction(), Direction(loss=1.0)))
    world.confirm()
    world.run_until(65.0)
    assert not any(side.did(a.Established) for side in world.sides)
    assert all(session.failure for session in sessions(world))


def test_the_death_of_a_pump_is_told_over_the_mesh_and_the_session_goes_on() -> None:
    world = World(is_encrypted=True)
    world.confirm()
    world.run_until(5.0)
    for generation in (1, 2, 3):
        world.sides[0].outstanding.clear()
        world.feed(0, lambda session: session.pump_died(world.now))
        assert a.SendControl(CONTROL_GENERATION, generation.to_bytes(4, "big")) in world.sides[0].actions
        world.run_until(5.0 + 3 * generation)
        assert world.sides[1].actions.count(a.SetGeneration(generation)) == 1
    world.feed(1, lambda session: session.pump_died(world.now))
    world.run_until(20.0)
    assert sessions(world)[0].their_generation == 1
    world.feed(0, lambda session: session.pump_died(world.now))
    assert world.sides[0].actions.count(a.SetGeneration(1)) == 2, "a new pump seals with the neighbour's generation"
    assert all(session.is_established for session in sessions(world))
