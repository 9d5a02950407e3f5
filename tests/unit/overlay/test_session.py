import errno
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
from plait.overlay.sleeve import session as s
from plait.overlay.sleeve.session import SleeveSession

VECTORS = "sleeve/forwarder_loopback.json"
UID = 0x0102030405060708
PEER = ("192.0.2.2", 6783)
ESTABLISHED = s.SendControl(1)

golden.expect_entered("SleeveSession.control_received")


def dialled(*, is_encrypted: bool = False) -> SleeveSession:
    return SleeveSession(connection_uid=UID, is_encrypted=is_encrypted, remote=PEER)


def established(*, at: float = 0.0, is_encrypted: bool = False) -> SleeveSession:
    session = dialled(is_encrypted=is_encrypted)
    session.confirm(at)
    session.heartbeat_received(PEER, UID, at)
    session.control_received(1, b"", at)
    return session


def with_mtu(kernel_mtu: int, *, is_encrypted: bool = False) -> SleeveSession:
    session = established(is_encrypted=is_encrypted)
    session.path_mtu_known(kernel_mtu, 0.0)
    overhead = 86 if is_encrypted else 62
    session.control_received(3, (kernel_mtu - overhead).to_bytes(2, "big"), 0.001)
    return session


def test_confirm_tells_the_path_and_sends_a_heartbeat() -> None:
    session = dialled()
    assert session.state == "waiting for the mesh connection"
    assert session.next_deadline() is None
    assert session.confirm(10.0) == [s.SetPath(PEER, 65535, 65507, False), s.SendHeartbeat(), s.QueryPathMtu()]
    assert session.next_deadline() == 10.5
    assert session.confirm(11.0) == []


def test_the_accepting_side_waits_for_the_first_heartbeat() -> None:
    session = SleeveSession(connection_uid=UID, is_encrypted=False, remote=None)
    assert session.confirm(0.0) == [s.SetPath(None, 65535, 65507, False)]
    assert session.next_deadline() == 60.0
    assert session.state == "waiting for the peer's first UDP heartbeat"
    answer = session.heartbeat_received(PEER, UID, 1.0)
    assert answer == [s.SetPath(PEER, 65535, 65507, False), s.SendHeartbeat(), s.QueryPathMtu(), ESTABLISHED]
    assert session.last_heartbeat == 1.0


def test_fast_heartbeats_until_the_peer_hears_one_then_slow_ones() -> None:
    session = dialled()
    session.confirm(0.0)
    assert session.handle_timer(0.49) == []
    assert session.handle_timer(0.5) == [s.SendHeartbeat()]
    assert session.handle_timer(1.0) == [s.SendHeartbeat()]
    assert session.state == "sending UDP heartbeats, the peer has not heard one yet"
    assert session.control_received(1, b"", 1.1) == [
        s.Established(),
        s.SendFragmentationTest(),
        s.QueryPathMtu(),
    ]
    assert session.is_established
    assert session.established_since == 1.1
    session.path_mtu_known(None, 1.1)
    assert session.handle_timer(11.0) == []
    assert session.handle_timer(11.1) == [s.SendHeartbeat()]
    assert session.next_deadline() == 21.1


def test_a_first_heartbeat_that_is_not_heard_can_be_repeated_sooner() -> None:
    session = SleeveSession(connection_uid=UID, is_encrypted=False, remote=PEER, first_repeat=0.1)
    session.confirm(0.0)
    sent = []
    for _ in range(6):
        deadline = session.next_deadline()
        assert deadline is not None
        assert session.handle_timer(deadline) == [s.SendHeartbeat()]
        sent.append(round(deadline, 3))
    assert sent == [0.1, 0.3, 0.7, 1.2, 1.7, 2.2]


def test_the_first_heartbeat_of_the_peer_is_acknowledged_once() -> None:
    session = dialled()
    session.confirm(0.0)
    assert session.heartbeat_received(PEER, UID + 1, 0.1) == []
    assert session.last_heartbeat is None
    assert session.heartbeat_received(PEER, UID, 0.2) == [ESTABLISHED]
    assert session.heartbeat_received(PEER, UID, 0.7) == []


def test_a_moved_peer_is_followed_and_its_path_looked_at() -> None:
    session = with_mtu(1500)
    moved = ("192.0.2.254", 40079)
    assert session.heartbeat_received(moved, UID, 5.0) == [s.SetPath(moved, 1438, 1472, False), s.QueryPathMtu()]
    assert session.remote == moved
    assert session.path_mtu_known(1400, 5.0) == [s.SetPath(moved, 1338, 1372, False), s.SendMtuTest(1352)]


def test_special_frames_of_the_real_forwarder() -> None:
    session = SleeveSession(connection_uid=UID, is_encrypted=False, remote=PEER)
    session.confirm(0.0)
    for case in golden.cases(VECTORS, "special_frames"):
        sent = [action for action in receive(session, case) if isinstance(action, s.SendControl)]
        expected = [
            s.SendControl(message["tag"], bytes.fromhex(message["payload_hex"]))
            for message in case["control_messages_sent"]
        ]
        assert sent == expected, case["special_frame"]


def receive(session: SleeveSession, case: dict[str, Any]) -> list[s.Action]:
    what = case["special_frame"]
    if case["len"] == 22:
        return session.heartbeat_received(PEER, UID + ("other" in what), 1.0)
    if case["len"] == 60001:
        return session.fragmentation_test_received("non-zero" not in what)
    return session.mtu_test_received(case["len"], 1.0)


def test_the_timeline_of_the_real_forwarder() -> None:
    """As on loopback, where the kernel takes everything: but without the 60000-byte datagram."""
    session = dialled()
    sent = [(0, action) for action in session.confirm(0.0)]
    for at in (500, 1000):
        sent += [(at, action) for action in session.handle_timer(at / 1000)]
    sent += [(1200, action) for action in session.control_received(1, b"", 1.2)]
    lengths = {s.SendHeartbeat(): 42, s.SendFragmentationTest(): 60021}
    timeline = [(at, lengths[action]) for at, action in sent if action in lengths]
    datagrams = golden.document(VECTORS)["datagrams"]
    assert timeline == [(datagram["t_ms_rounded_50"], datagram["len"]) for datagram in datagrams[:4]]
    assert datagrams[4]["len"] == 60020


def test_stack_frag_follows_the_tests() -> None:
    session = with_mtu(1500)
    assert session.control_received(2, b"", 1.0) == [s.SetPath(PEER, 1438, 1472, True)]
    for at in range(10, 300, 10):
        session.handle_timer(float(at))
        session.heartbeat_received(PEER, UID, float(at))
    actions = session.handle_timer(300.0)
    assert s.SendFragmentationTest() in actions
    assert s.SetPath(PEER, 1438, 1472, False) in actions
    assert session.fragments_arrive  # the test that just began has not ended
    assert session.control_received(2, b"", 300.1) == [s.SetPath(PEER, 1438, 1472, True)]


def test_fragments_that_do_not_arrive_are_known_when_the_next_test_begins() -> None:
    session = with_mtu(1500)
    assert session.fragments_arrive is None
    for at in range(10, 310, 10):
        session.handle_timer(float(at))
        session.heartbeat_received(PEER, UID, float(at))
    assert session.fragments_arrive is False
    session.control_received(2, b"", 300.1)
    assert session.fragments_arrive


def test_mtu_search_starts_from_the_kernels_value() -> None:
    session = established()
    assert session.mtu_source == "not known yet"
    assert session.path_mtu_known(1500, 0.0) == [s.SetPath(PEER, 1438, 1472, False), s.SendMtuTest(1452)]
    assert session.mtu_source == "what the kernel says of the path"
    assert session.next_deadline() == 0.01
    assert session.handle_timer(0.01) == [s.SendMtuTest(1452)]
    assert session.control_received(3, b"\x05\x9d", 0.02) == []
    assert session.control_received(3, b"\x05\x9e", 0.02) == []
    assert (session.mtu, session.mtu_source) == (1438, "acknowledged by the peer")
    assert session.next_deadline() == 10.0


def test_the_kernels_value_counts_before_the_first_frame_but_is_not_tested_yet() -> None:
    session = dialled()
    session.confirm(0.0)
    assert session.path_mtu_known(1500, 0.0) == [s.SetPath(PEER, 1438, 1472, False)]
    assert session.control_received(1, b"", 0.1)[-1] == s.QueryPathMtu()
    assert session.path_mtu_known(1500, 0.1) == [s.SendMtuTest(1452)]


def test_a_kernel_that_cannot_tell_is_asked_again() -> None:
    session = established()
    assert session.path_mtu_known(None, 0.0) == []
    session.handle_timer(29.0)
    assert session.handle_timer(30.0) == [s.QueryPathMtu()]


def test_encryption_costs_24_bytes_more() -> None:
    session = established(is_encrypted=True)
    assert session.path_mtu_known(1500, 0.0) == [s.SetPath(PEER, 1414, 1472, False), s.SendMtuTest(1428)]


def test_no_test_exceeds_a_udp_datagram_on_loopback() -> None:
    session = established()
    assert session.path_mtu_known(65536, 0.0) == [s.SetPath(PEER, 65473, 65507, False), s.SendMtuTest(65487)]


def test_a_tiny_kernel_value_is_used_without_a_test() -> None:
    session = established()
    assert session.path_mtu_known(576, 0.0) == [s.SetPath(PEER, 514, 548, False)]
    assert (session.mtu, session.mtu_source) == (514, "assumed without a test")
    assert established().path_mtu_known(0, 0.0) == [s.SetPath(PEER, 68, 102, False)]


def test_a_refused_datagram_asks_the_kernel_and_restarts_below() -> None:
    session = established()
    session.path_mtu_known(1500, 0.0)
    assert session.packet_too_big(0.01) == [s.QueryPathMtu()]
    assert session.packet_too_big(0.011) == []
    assert session.path_mtu_known(1400, 0.012) == [s.SetPath(PEER, 1338, 1372, False), s.SendMtuTest(1352)]
    assert session.control_received(3, (1438).to_bytes(2, "big"), 0.013) == []
    session.control_received(3, (1338).to_bytes(2, "big"), 0.014)
    assert session.mtu == 1338


def test_a_value_not_below_the_candidate_changes_nothing() -> None:
    session = established()
    session.path_mtu_known(1500, 0.0)
    session.packet_too_big(0.01)
    assert session.path_mtu_known(1500, 0.01) == []
    assert session.path_mtu_known(9000, 0.01) == []


def test_a_smaller_path_counts_for_frames_even_during_a_search_below_it() -> None:
    session = established()
    session.path_mtu_known(1500, 0.0)
    sent: list[s.Action] = []
    while s.SendMtuTest(995 + 14) not in sent:
        deadline = session.next_deadline()
        assert deadline is not None
        sent += session.handle_timer(deadline)
    session.packet_too_big(2.56)
    assert session.path_mtu_known(1400, 2.56) == [s.SetPath(PEER, 1338, 1372, False)]
    assert session.control_received(3, (995).to_bytes(2, "big"), 2.56) == [s.SendMtuTest(1216 + 14)]


def test_a_refusal_without_a_smaller_path_does_not_restart_the_search() -> None:
    session = with_mtu(1500)
    assert session.packet_too_big(5.0) == [s.QueryPathMtu()]
    assert session.path_mtu_known(1500, 5.0) == []


def test_an_unanswered_question_is_asked_again_later() -> None:
    session = established()
    assert session.packet_too_big(0.5) == []
    assert session.packet_too_big(1.5) == [s.QueryPathMtu()]


def test_an_answer_nobody_asked_for_is_ignored() -> None:
    assert with_mtu(1500).path_mtu_known(1200, 1.0) == []


def test_a_grown_path_is_found_at_the_next_look_and_used_when_acknowledged() -> None:
    session = with_mtu(1400)
    for at in range(10, 600, 10):
        session.heartbeat_received(PEER, UID, float(at))
        session.handle_timer(float(at))
    assert s.QueryPathMtu() not in session.handle_timer(600.0)
    assert s.QueryPathMtu() in session.handle_timer(600.001)
    assert session.path_mtu_known(1500, 600.001) == [s.SendMtuTest(1452)]
    assert session.mtu == 1338
    assert session.control_received(3, (1438).to_bytes(2, "big"), 600.002) == [s.SetPath(PEER, 1438, 1472, False)]


def test_silence_ends_the_session() -> None:
    session = established()
    session.send_failed(errno.ENETUNREACH, 20.0)
    session.heartbeat_received(PEER, UID, 30.0)
    session.handle_timer(89.9)
    assert session.is_established
    actions = session.handle_timer(90.0)
    assert [type(action) for action in actions] == [s.Failed]
    assert session.failure is not None
    assert "192.0.2.2:6783 for 60 s" in session.failure
    assert "Network is unreachable" in session.failure
    assert session.state.startswith("failed: no UDP heartbeat")
    assert not session.is_established
    assert session.next_deadline() is None


def test_the_silence_of_a_peer_with_quicker_heartbeats_is_shorter_and_named_so() -> None:
    session = SleeveSession(connection_uid=UID, is_encrypted=False, remote=PEER, heartbeat_interval=1.0)
    session.confirm(0.0)
    session.heartbeat_received(PEER, UID, 1.0)
    assert [type(action) for action in session.handle_timer(7.0)] == [s.Failed]
    assert session.failure is not None
    assert "192.0.2.2:6783 for 6 s" in session.failure


@pytest.mark.parametrize(
    "number", [errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EPERM, errno.ENOBUFS, errno.ENETDOWN]
)
def test_passing_refusals_are_kept_for_the_report(number: int) -> None:
    session = established()
    assert session.send_failed(number, 1.0) == []
    assert session.last_send_error
    assert session.is_established


def test_a_refusal_that_no_waiting_heals_ends_the_session() -> None:
    session = established()
    actions = session.send_failed(errno.EINVAL, 1.0)
    assert [type(action) for action in actions] == [s.Failed]
    assert "Invalid argument" in session.state


def test_emsgsize_is_packet_too_big() -> None:
    assert with_mtu(1500).send_failed(errno.EMSGSIZE, 5.0) == [s.QueryPathMtu()]


@pytest.mark.parametrize("end", ["stop", "fail"])
def test_after_the_end_nothing_happens(end: str) -> None:
    session = established()
    if end == "stop":
        session.stop()
        assert session.state == "stopped"
    else:
        session.handle_timer(60.0)
    assert not session.is_established
    assert session.confirm(61.0) == []
    assert session.heartbeat_received(PEER, UID, 61.0) == []
    assert session.mtu_test_received(1452, 61.0) == []
    assert session.fragmentation_test_received(True) == []
    assert session.control_received(1, b"", 61.0) == []
    assert session.path_mtu_known(1500, 61.0) == []
    assert session.packet_too_big(61.0) == []
    assert session.send_failed(errno.EINVAL, 61.0) == []
    assert session.handle_timer(61.0) == []
    assert session.next_deadline() is None


def test_a_test_too_short_for_a_frame_has_no_answer() -> None:
    assert established().mtu_test_received(13, 1.0) == []


def test_a_flood_of_mtu_tests_is_answered_at_a_bounded_rate() -> None:
    session = established()
    answers = [session.mtu_test_received(1000, 1.0) for _ in range(1000)]
    assert sum(map(len, answers)) == s.ANSWERS_PER_SECOND
    assert session.mtu_test_received(1000, 2.0) != []


@pytest.mark.parametrize(("tag", "payload"), [(0, b""), (4, b""), (255, b"xx"), (3, b""), (3, b"\x05"), (1, b"")])
def test_controls_without_meaning_are_counted_and_ignored(tag: int, payload: bytes) -> None:
    session = with_mtu(1500)
    assert session.control_received(tag, payload, 1.0) == []
    assert session.ignored_controls == 1


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=8), st.floats(0.0, 0.1)), max_size=30))
def test_any_control_messages_are_survived(messages: list[tuple[int, bytes, float]]) -> None:
    session, now = dialled(), 0.0
    session.confirm(now)
    for tag, payload, pause in messages:
        now += pause
        session.handle_timer(now)
        for action in session.control_received(tag, payload, now):
            if isinstance(action, s.QueryPathMtu):
                session.path_mtu_known(1500, now)
        golden.entered("SleeveSession.control_received")
    assert 552 <= session.mtu <= 65535
