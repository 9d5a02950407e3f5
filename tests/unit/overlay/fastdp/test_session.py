"""A fastdp session by itself, step by step."""

import errno
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
from plait.overlay.fastdp import actions as a
from plait.overlay.fastdp import wire
from plait.overlay.fastdp.echoes import ECHOES_PER_SECOND, MAX_OUTSTANDING, Echoes, Traffic
from plait.overlay.fastdp.session import CONTROL_ACK, ENCRYPTED, MOVE_INTERVAL, FastdpSession
from plait.overlay.fastdp.wire import Extension, Heartbeat, Kind
from plait.overlay.pmtu import BASE, LADDER
from plait.overlay.quality import SUSPICION_INTERVAL
from plait.overlay.sleeve.actions import Established, Failed, QueryInterfaceMtu, SendControl
from plait.overlay.sleeve.session import PASSING_ERRNOS

golden.expect_entered("FastdpSession.heartbeat_received")

UID = 0x1122334455667788
PEER, ELSEWHERE = "192.0.2.2", "203.0.113.7"
BOTH = pytest.mark.parametrize("is_plait", [False, True], ids=["weave", "plait"])


def new(
    *, is_plait: bool = True, is_encrypted: bool = False, ip: str = PEER, local_mtu: int = 1450, interval: float = 1.0
) -> FastdpSession:
    return FastdpSession(
        connection_uid=UID,
        is_encrypted=is_encrypted,
        remote_ip=ip,
        is_plait=is_plait,
        heartbeat_interval=interval if is_plait else 10.0,
        local_mtu=local_mtu,
    )


def probes(actions: list[a.Action]) -> list[Heartbeat]:
    """The heartbeats that want an echo."""
    return [each for each in heartbeats(actions) if each.extension is None or each.extension.kind is Kind.PROBE]


def echoes(actions: list[a.Action]) -> list[Extension]:
    found = [each.extension for each in heartbeats(actions)]
    return [each for each in found if each is not None and each.kind is Kind.ECHO]


def heartbeats(actions: list[a.Action]) -> list[Heartbeat]:
    found = []
    for action in actions:
        if isinstance(action, a.SendFrame):
            heartbeat = wire.parse_heartbeat(action.frame, len(action.frame))
            assert heartbeat is not None
            found.append(heartbeat)
    return found


def sizes(actions: list[a.Action]) -> list[int]:
    """Outer IP packets with probes."""
    return [each.length + 36 for each in probes(actions)]


def of_length(length: int, actions: list[a.Action]) -> list[a.Action]:
    return [action for action in actions if isinstance(action, a.SendFrame) and len(action.frame) == length]


def echo_of(probe: Heartbeat, *, received: int = wire.UNKNOWN) -> Heartbeat:
    assert probe.extension is not None
    extension = Extension(Kind.ECHO, 0, probe.extension.sequence, probe.length, wire.UNKNOWN, received)
    return Heartbeat(UID, 60, extension)


def answer(session: FastdpSession, actions: list[a.Action], now: float, *, received: int = 0) -> list[a.Action]:
    """Echo every heartbeat of these actions."""
    done: list[a.Action] = []
    for probe in probes(actions):
        done += session.heartbeat_received(session.remote_ip, echo_of(probe, received=received), now)
    return done


def theirs(sequence: int = 1, length: int = 60) -> Heartbeat:
    return Heartbeat(UID, length, Extension(Kind.PROBE, sequence))


def established(*, local_mtu: int = 1450) -> FastdpSession:
    """The search is over, everything of 1500 passes."""
    session = new(local_mtu=local_mtu)
    actions = session.confirm(0.0)
    answer(session, actions, 0.001)
    answer(session, session.interface_mtu_known(1500, 0.002), 0.003)
    assert session.is_established
    return session


def run(session: FastdpSession, start: float, end: float, *, deaf: bool = False) -> list[tuple[float, a.Action]]:
    """Let time go by; the peer answers unless `deaf`."""
    log = []
    now = start
    while (due := session.next_deadline()) is not None and due < end:
        now = max(due, now)
        actions = session.handle_timer(now)
        if not deaf:
            actions = actions + answer(session, actions, now)
        log += [(now, action) for action in actions]
    return log


# Beginning and end


@BOTH
def test_confirm_tells_the_path_sends_and_asks(is_plait: bool) -> None:
    session = new(is_plait=is_plait)
    assert session.state == "waiting for the mesh connection"
    assert session.next_deadline() is None
    assert session.handle_timer(5.0) == []
    path, heartbeat, query = session.confirm(10.0)
    mtu = BASE - 50 if is_plait else 1450
    assert path == a.SetPath(PEER, mtu, mtu + 50)
    assert isinstance(heartbeat, a.SendFrame)
    assert len(heartbeat.frame) == (60 if is_plait else 1464)
    assert query == QueryInterfaceMtu()
    assert session.state == "sending UDP heartbeats, the peer has not answered one yet"
    assert session.confirm(11.0) == []


@BOTH
def test_nothing_happens_before_the_mesh_connection_stays(is_plait: bool) -> None:
    session = new(is_plait=is_plait)
    assert session.heartbeat_received(ELSEWHERE, theirs(), 0.0) == []
    assert session.control_received(CONTROL_ACK, b"", 0.0) == []
    assert session.interface_mtu_known(1500, 0.0) == []
    assert session.packet_too_big() == []
    assert session.send_failed(errno.EINVAL) == []
    assert (session.remote_ip, session.failure, session.ignored_controls) == (PEER, None, 0)


@BOTH
def test_an_encrypted_connection_is_left_to_sleeve_at_once(is_plait: bool) -> None:
    session = new(is_plait=is_plait, is_encrypted=True)
    assert session.confirm(0.0) == [Failed(ENCRYPTED)]
    assert "in the clear" in ENCRYPTED
    assert "sleeve carries" in ENCRYPTED
    assert session.state == f"failed: {ENCRYPTED}"
    assert session.heartbeat_received(PEER, theirs(), 1.0) == []
    assert session.next_deadline() is None


@pytest.mark.parametrize("is_confirmed", [False, True])
def test_a_kernel_that_cannot_ends_it(is_confirmed: bool) -> None:
    session = new()
    if is_confirmed:
        session.confirm(0.0)
    assert session.unavailable("this kernel has no VXLAN") == [Failed("this kernel has no VXLAN")]
    assert session.state == "failed: this kernel has no VXLAN"
    assert session.unavailable("again") == []
    assert session.confirm(1.0) == []
    assert session.next_deadline() is None


def test_stop_is_no_failure() -> None:
    session = established()
    session.stop()
    assert (session.state, session.failure, session.is_established) == ("stopped", None, False)
    assert session.handle_timer(100.0) == []
    assert session.heartbeat_received(ELSEWHERE, theirs(), 100.0) == []
    assert session.unavailable("gone") == []


# Between plait nodes


def test_only_an_echo_of_ours_establishes() -> None:
    session = new()
    (first,) = probes(session.confirm(0.0))
    assert session.heartbeat_received(PEER, Heartbeat(UID, 60), 0.1) == []
    assert session.control_received(CONTROL_ACK, b"", 0.1) == []
    session.heartbeat_received(PEER, theirs(), 0.1)
    for wrong in (
        echo_of(first)._replace(uid=UID + 1),
        echo_of(first._replace(extension=Extension(Kind.PROBE, 77))),
        echo_of(first._replace(length=61)),
    ):
        assert session.heartbeat_received(PEER, wrong, 0.1) == []
    assert not session.is_established
    assert session.heartbeat_received(PEER, echo_of(first), 0.2) == [Established()]
    assert (session.established_since, session.state) == (0.2, "established")
    assert session.heartbeat_received(PEER, echo_of(first), 0.2) == [], "the same echo again"
    assert session.ignored_heartbeats == 5
    assert session.ignored_controls == 1


def test_heartbeats_are_echoed_at_once_and_small() -> None:
    session = established()
    session.traffic_counted(Traffic(11, 22, 0, 0))
    (echo,) = heartbeats(session.heartbeat_received(PEER, theirs(7, 1464), 1.0))
    assert echo == Heartbeat(UID, 60, Extension(Kind.ECHO, 0, 7, 1464, 11, 22))
    assert session.last_heartbeat == 1.0


def test_an_echo_too_late_to_say_anything_counts_for_nothing() -> None:
    session = new()
    (first, *_) = probes(session.confirm(0.0))
    assert session.heartbeat_received(PEER, echo_of(first), 2.5) == []
    assert not session.is_established


def test_heartbeats_are_repeated_ever_slower_until_one_is_echoed() -> None:
    session = new()
    session.confirm(0.0)
    times = [now for now, action in run(session, 0.0, 2.4, deaf=True) if isinstance(action, a.SendFrame)]
    assert times[:6] == pytest.approx([0.01, 0.03, 0.07, 0.15, 0.31, 0.63])
    assert [after - before for before, after in pairwise(times[6:])] == pytest.approx([0.5] * 2)


def test_a_missed_heartbeat_makes_it_ask_quicker_and_then_fall() -> None:
    session = established()
    log = run(session, 0.003, 10.0)
    assert [now for now, action in log if isinstance(action, a.SendFrame)] == pytest.approx(range(1, 10), abs=0.01)
    last = session.last_acknowledged
    assert last is not None
    log = run(session, last, last + 5.8, deaf=True)
    sent = [now - last for now, action in log if isinstance(action, a.SendFrame)]
    fell = [now - last for now, action in log if isinstance(action, a.Unhealthy)]
    assert sent == pytest.approx([1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 3.5, 4.5, 5.5])
    assert fell == pytest.approx([2.5])
    assert session.is_established, "it may come back"


def test_the_echo_of_a_probe_is_none_of_the_heartbeat() -> None:
    session = established(local_mtu=9000)
    session.handle_timer(1.01)
    probe = max(probes(session.interface_mtu_known(9000, 1.02)), key=lambda each: each.length)
    assert session.heartbeat_received(PEER, echo_of(probe), 1.03) == [a.SetPath(PEER, 8950, 9000)]
    assert len(of_length(60, session.handle_timer(1.26))) == 1, "asked again"


def test_the_reason_tells_which_direction_is_dead_and_what_to_do() -> None:
    session = established()
    session.heartbeat_received(PEER, theirs(1), 0.9)
    session.send_failed(errno.EPERM)
    found = [action for _, action in run(session, 0.9, 4.5, deaf=True) if isinstance(action, a.Unhealthy)]
    assert found == [
        a.Unhealthy(
            "nothing comes from the peer for 2.5 s; the kernel refused to send: Operation not permitted; "
            "let UDP port 6784 from 192.0.2.2 to this host through"
        )
    ]
    session.heartbeat_received(PEER, theirs(99), 5.0)
    found = [action for _, action in run(session, 5.0, 6.2, deaf=True) if isinstance(action, a.Unhealthy)]
    assert found == [
        a.Unhealthy(
            "the peer does not hear us: its heartbeats arrive, but it answered none of ours for 2.5 s; the kernel "
            "refused to send: Operation not permitted; let UDP port 6784 from this host to 192.0.2.2 through"
        )
    ]
    assert session.state == f"on hold: {found[0].reason}"


def test_three_echoes_in_a_row_bring_it_back_and_none_less() -> None:
    session = established()
    run(session, 0.003, 10.0, deaf=True)
    assert session.illness is not None
    # Every third heartbeat is lost: it asks, but frames do not come back.
    now, sent, healthy = 10.0, 0, []
    while sent < 60:
        due = session.next_deadline()
        assert due is not None
        now = max(now, due)
        small = of_length(60, session.handle_timer(now))
        sent += len(small)
        if sent % 3:
            healthy += [each for each in answer(session, small, now + 0.001) if isinstance(each, a.Healthy)]
    assert healthy == []
    log = run(session, now, now + 5.0)
    back = [at for at, action in log if isinstance(action, a.Healthy)]
    assert len(back) == 1
    assert back[0] - now < 2.0
    assert session.state == "established"


def test_a_busy_host_is_no_dead_path() -> None:
    session = established()
    run(session, 0.003, 5.5)
    actions = session.handle_timer(30.0)
    assert a.Unhealthy not in map(type, actions)
    assert a.Unhealthy not in map(type, answer(session, actions, 30.001))
    quiet = run(session, 30.001, 40.0)
    assert a.Unhealthy not in {type(action) for _, action in quiet}
    actions = session.handle_timer(60.0)
    log = run(session, 60.0, 63.0, deaf=True)
    assert [now for now, action in log if isinstance(action, a.Unhealthy)] == pytest.approx([61.0])


def test_a_slower_interval_needs_more_patience() -> None:
    session = new(interval=10.0)
    answer(session, session.confirm(0.0), 0.0)
    log = run(session, 0.0, 40.0, deaf=True)
    assert [now for now, action in log if isinstance(action, a.Unhealthy)] == [25.0]


# The path's MTU


def test_the_search_begins_when_both_the_path_works_and_the_interface_is_known() -> None:
    session = new()
    actions = session.confirm(0.0)
    assert session.interface_mtu_known(1500, 0.01) == []
    asked = sizes(answer(session, actions, 0.02))
    assert asked == sorted({size for size in LADDER if size < 1500} | {1500, BASE}, reverse=True)


def test_what_is_echoed_is_used_at_once() -> None:
    session = new()
    answer(session, session.confirm(0.0), 0.001)
    by_size = {each.length + 36: each for each in probes(session.interface_mtu_known(1500, 0.002))}
    assert session.heartbeat_received(PEER, echo_of(by_size[1400]), 0.003) == [a.SetPath(PEER, 1350, 1400)]
    assert session.heartbeat_received(PEER, echo_of(by_size[1500]), 0.003) == [a.SetPath(PEER, 1450, 1500)]
    assert session.heartbeat_received(PEER, echo_of(by_size[1280]), 0.003) == []
    assert (session.mtu, session.path_mtu, session.mtu_source) == (1450, 1500, "acknowledged by the peer")


def test_an_ipv6_path_costs_more() -> None:
    session = new(ip="2001:db8::2", local_mtu=9000)
    actions = session.confirm(0.0)
    answer(session, actions, 0.001)
    answer(session, session.interface_mtu_known(1500, 0.002), 0.003)
    assert (session.mtu, session.path_mtu) == (1430, 1500)


@BOTH
@pytest.mark.parametrize(("ip", "other"), [(PEER, "2001:db8::2"), ("2001:db8::2", PEER)])
def test_a_neighbour_never_moves_to_the_other_version_of_ip(ip: str, other: str, is_plait: bool) -> None:
    session = new(ip=ip, is_plait=is_plait)
    session.confirm(0.0)
    heartbeat = theirs() if is_plait else Heartbeat(UID, 1390)
    assert session.heartbeat_received(other, heartbeat, 0.1) == []
    assert (session.remote_ip, session.ignored_heartbeats) == (ip, 1)
    assert session.heartbeat_received(ip, heartbeat, 0.2) != []


def test_nothing_larger_than_the_datapath_may_send_is_probed() -> None:
    session = established(local_mtu=1376)
    assert (session.mtu, session.path_mtu) == (1376, 1426)


def test_an_interface_with_less_counts_at_once_and_with_more_is_searched() -> None:
    session = established(local_mtu=9000)
    assert session.path_mtu == 1500
    assert a.SetPath(PEER, 1250, 1300) in session.interface_mtu_known(1300, 1.0)
    assert session.interface_mtu_known(1300, 6.0) == []
    assert session.interface_mtu_known(None, 6.0) == []
    assert max(sizes(session.interface_mtu_known(9000, 7.0))) == 9000


def test_frames_that_vanish_make_the_mtu_suspicious() -> None:
    session = established()
    asked = []
    for second in range(1, 9):
        session.traffic_counted(Traffic(1000 * second, 0, 0, 0))
        actions = session.handle_timer(second + 0.01)
        actions += answer(session, of_length(60, actions), second + 0.011, received=0)
        verifying = of_length(1464, actions)
        asked += [second] * len(verifying)
        answer(session, verifying, second + 0.012)
    assert asked == [2, 2 + SUSPICION_INTERVAL]


def test_counters_from_before_the_connection_say_nothing_of_it() -> None:
    session = established()
    for second in range(1, 12):
        if second > 2:
            session.traffic_counted(Traffic(10**9 + second, 0, 10**12 + 1000 * second, 0))
        actions = session.handle_timer(second + 0.01)
        answer(session, actions, second + 0.011, received=10**8 + second)
        assert not session.quality.is_losing
    assert session.quality.loss == 0.0
    assert session.quality.tx_rate == pytest.approx(1000.0, rel=0.3)


def test_the_kernels_refusal_asks_for_the_interface() -> None:
    session = established()
    assert session.packet_too_big() == [QueryInterfaceMtu()]
    assert session.send_failed(errno.EMSGSIZE) == []
    assert session.failure is None


# Refusals


@pytest.mark.parametrize("number", sorted(PASSING_ERRNOS))
def test_refusals_that_heal_are_remembered_until_something_passes(number: int) -> None:
    session = established()
    assert session.send_failed(number) == []
    assert session.last_send_error
    answer(session, session.handle_timer(1.01), 1.02)
    assert session.last_send_error is None


@BOTH
def test_other_refusals_end_it(is_plait: bool) -> None:
    session = new(is_plait=is_plait)
    session.confirm(0.0)
    assert session.send_failed(errno.EINVAL) == [
        Failed(
            "the kernel refuses to send VXLAN to the peer at 192.0.2.2 (Invalid argument); "
            "check this host's network, fastdp is tried again with the next connection"
        )
    ]
    assert session.send_failed(errno.EINVAL) == []


# The peer's address


def test_a_peer_that_moves_is_another_path_to_be_searched_from_the_start() -> None:
    session = established()
    (old,) = probes(session.handle_timer(1.01))
    actions = session.heartbeat_received(ELSEWHERE, theirs(5), 1.02)
    assert actions[0] == a.SetPath(ELSEWHERE, 1450, 1500)
    assert [each for each in actions if isinstance(each, a.SetPath)][-1] == a.SetPath(ELSEWHERE, BASE - 50, BASE)
    assert QueryInterfaceMtu() in actions
    assert {1500, BASE} <= set(sizes(actions))
    assert len(echoes(actions)) == 1
    assert session.remote == (ELSEWHERE, 6784)
    assert session.heartbeat_received(PEER, echo_of(old), 1.03) == [], "an answer of the old path"


def test_what_fits_the_old_path_says_nothing_of_the_new_one() -> None:
    session = new()
    answer(session, session.confirm(0.0), 0.001)
    old = probes(session.interface_mtu_known(1500, 0.002))
    session.heartbeat_received(ELSEWHERE, theirs(), 0.003)
    for probe in old:
        assert session.heartbeat_received(PEER, echo_of(probe), 0.004) == []
    assert session.path_mtu == BASE


def test_an_old_heartbeat_does_not_bring_the_old_address_back() -> None:
    session = established()
    session.heartbeat_received(PEER, theirs(5), 1.0)
    session.heartbeat_received(ELSEWHERE, theirs(6), 2.0)
    actions = session.heartbeat_received(PEER, theirs(5), 20.0)
    assert len(actions) == len(echoes(actions)) == 1
    assert session.remote_ip == ELSEWHERE


def test_moves_are_followed_now_and_then_only() -> None:
    session = established()
    moves = 0
    for number in range(100):
        actions = session.heartbeat_received(f"203.0.113.{number}", theirs(number + 1), 10.0 + number / 100)
        moves += a.SetPath in map(type, actions)
    assert moves == 1
    session.heartbeat_received("203.0.113.200", theirs(500), 10.0 + MOVE_INTERVAL)
    assert session.remote_ip == "203.0.113.200"


# Bounds


def test_a_flood_of_heartbeats_is_not_echoed() -> None:
    session = established()
    count = 0
    for number in range(5000):
        count += len(echoes(session.heartbeat_received(PEER, theirs(number), 1.0 + number / 10_000)))
    assert count <= 1.5 * ECHOES_PER_SECOND
    assert session.ignored_heartbeats == 5000 - count


def test_heartbeats_without_an_echo_are_forgotten() -> None:
    echo_box = Echoes(UID, 1000.0)
    frames = [echo_box.heartbeat(60, 0.0) for _ in range(MAX_OUTSTANDING + 5)]
    found = [wire.parse_heartbeat(frame, 60) for frame in frames]
    known = [
        echo_box.answered(echo, 1.0) is not None
        for each in found
        if each is not None and (echo := echo_of(each).extension) is not None
    ]
    assert known == [False] * 5 + [True] * MAX_OUTSTANDING


# Towards Weave


def weave(*, local_mtu: int = 1376) -> FastdpSession:
    session = new(is_plait=False, local_mtu=local_mtu)
    session.confirm(0.0)
    return session


def test_weave_hears_twice_a_second_until_it_acknowledges() -> None:
    session = weave()
    times = [now for now, action in run(session, 0.0, 3.1, deaf=True) if isinstance(action, a.SendFrame)]
    assert times == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
    assert session.mtu_source == "this host's, the peer has not acknowledged a heartbeat of that size yet"
    assert session.control_received(CONTROL_ACK, b"", 3.2) == [Established()]
    assert session.next_deadline() == pytest.approx(13.2)
    assert (session.is_established, session.state) == (True, "established")
    assert (session.mtu, session.path_mtu) == (1376, 1426)
    assert session.mtu_source == "this host's, the peer acknowledged a heartbeat of that size"
    assert session.control_received(CONTROL_ACK, b"", 4.0) == []
    assert session.control_received(1, bytes(64), 4.0) == [], "IPsec"
    assert session.ignored_controls == 2


def test_weaves_silence_does_not_shift_the_heartbeats() -> None:
    session = weave()
    session.control_received(CONTROL_ACK, b"", 0.2)
    session.heartbeat_received(PEER, Heartbeat(UID, 1390), 5.0)
    log = run(session, 5.0, 80.0, deaf=True)
    assert [now for now, action in log if isinstance(action, a.Unhealthy)] == [65.0]
    assert [now for now, action in log if isinstance(action, a.SendFrame)] == pytest.approx(
        [10.2, 20.2, 30.2, 40.2, 50.2, 60.2, 70.2]
    )


def test_weaves_first_heartbeat_is_acknowledged_once() -> None:
    session = weave()
    assert session.heartbeat_received(PEER, Heartbeat(UID + 1, 1390), 0.1) == []
    assert session.heartbeat_received(PEER, Heartbeat(UID, 24), 0.2) == [SendControl(CONTROL_ACK)]
    assert session.heartbeat_received(PEER, Heartbeat(UID, 1390), 0.3) == []
    assert not session.is_established
    assert (session.ignored_heartbeats, session.last_heartbeat) == (1, 0.3)


def test_weaves_heartbeats_tell_its_address() -> None:
    session = weave()
    expected = [a.SetPath(ELSEWHERE, 1376, 1426), SendControl(CONTROL_ACK)]
    assert session.heartbeat_received(ELSEWHERE, Heartbeat(UID, 1390), 0.1) == expected


def test_heartbeats_that_do_not_fit_the_interface_are_told() -> None:
    session = weave(local_mtu=1450)
    session.control_received(CONTROL_ACK, b"", 0.1)
    assert session.interface_mtu_known(1500, 0.2) == []
    assert session.packet_too_big() == [QueryInterfaceMtu()]
    reason = (
        "heartbeats of 1500 bytes do not fit the interface to 192.0.2.2, whose MTU is 1400: "
        "start with a smaller MTU for containers, or raise the interface's"
    )
    assert session.interface_mtu_known(1400, 0.3) == [a.Unhealthy(reason)]
    assert session.state == f"on hold: {reason}"
    assert session.interface_mtu_known(1400, 5.3) == []
    assert session.interface_mtu_known(1500, 5.3) == [a.Healthy()]


def test_a_datapath_of_any_mtu_gives_heartbeats_that_exist() -> None:
    assert sizes(new(is_plait=False, local_mtu=65535).confirm(0.0)) == [65535]
    assert sizes(new(is_plait=False, local_mtu=0).confirm(0.0)) == [118]


# Whatever happens

extensions = st.builds(
    Extension,
    st.sampled_from(Kind),
    st.integers(0, 2**32 - 1),
    st.integers(0, 60) | st.integers(0, 2**32 - 1),
    st.sampled_from([60, 1464, 1414]) | st.integers(0, 2**16 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
)
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("heartbeat"),
            st.tuples(st.sampled_from([PEER, ELSEWHERE, "10.0.0.1"]), st.sampled_from([UID, UID, UID, 0]), extensions),
        ),
        st.tuples(st.just("plain"), st.integers(24, 65535)),
        st.tuples(st.just("answered"), st.integers(0, 2**64 - 1)),
        st.tuples(st.just("counted"), st.integers(0, 2**64 - 1)),
        st.tuples(st.just("control"), st.integers(0, 255)),
        st.tuples(st.just("interface"), st.none() | st.integers(68, 65536)),
        st.tuples(st.just("too big"), st.none()),
        st.tuples(st.just("refused"), st.sampled_from([errno.EMSGSIZE, errno.ENETUNREACH, errno.ENOBUFS])),
        st.tuples(st.just("time"), st.floats(0, 20)),
    ),
    max_size=60,
)


@BOTH
@given(script=steps, local_mtu=st.integers(0, 70000))
def test_nothing_a_peer_says_breaks_it_or_makes_it_send_what_is_too_large(
    script: list[tuple[str, object]], local_mtu: int, is_plait: bool
) -> None:
    session = new(is_plait=is_plait, local_mtu=local_mtu)
    actions, now, interface, is_ill = session.confirm(0.0), 0.0, None, False
    for step, value in script:
        match step, value:
            case "heartbeat", (str(source), int(uid), Extension() as extension):
                golden.entered("FastdpSession.heartbeat_received")
                actions = session.heartbeat_received(source, Heartbeat(uid, 60, extension), now)
            case "plain", int(length):
                actions = session.heartbeat_received(PEER, Heartbeat(UID, length), now)
            case "answered", int(received):
                actions = answer(session, actions, now, received=received) if is_plait else []
            case "counted", int(count):
                session.traffic_counted(Traffic(count, count, count, count))
                actions = []
            case "control", int(tag):
                actions = session.control_received(tag, b"", now)
            case "interface", mtu:
                assert mtu is None or isinstance(mtu, int)
                interface = mtu or interface
                actions = session.interface_mtu_known(mtu, now)
            case "too big", _:
                actions = session.packet_too_big()
            case "refused", int(number):
                actions = session.send_failed(number)
            case "time", float(seconds):
                now += seconds
                actions = session.handle_timer(now)
        for size in sizes(actions) if is_plait else []:
            assert size <= max(min(interface or BASE, local_mtu + 50), 96)
        for extension in echoes(actions):
            assert step == "heartbeat"
            assert extension.echoed_length == 60
        for action in actions:
            match action:
                case a.SetPath(_, mtu, path_mtu):
                    assert 68 <= mtu <= max(local_mtu, 68)
                    assert path_mtu <= 65535
                case a.Healthy():
                    assert is_ill
                    is_ill = False
                case a.Unhealthy(reason):
                    assert reason
                    is_ill = True
        assert len(actions) < 40
        assert is_ill == (session.state.startswith("on hold: "))
        deadline = session.next_deadline()
        assert deadline is not None
        if step == "time":
            assert deadline > now or session.handle_timer(now) != []
