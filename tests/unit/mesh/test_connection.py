"""Connections as bytes: two ends in memory, with their clocks."""

import pytest

from plait.errors import PlaitError
from plait.mesh import messages
from plait.mesh.connection import (
    HANDSHAKE_TIMEOUT,
    HEADER_TIMEOUT,
    HEARTBEAT_INTERVAL,
    READ_TIMEOUT,
    Connection,
    ConnectionTimeout,
)
from plait.mesh.features import LocalFeatures
from plait.mesh.framing import FramingError
from plait.mesh.handshake import Handshake, HandshakeError, WrongPassword
from plait.mesh.name import PeerName

HEARTBEAT = messages.encode(messages.Heartbeat())


def end(number: int, password: bytes | None = None, now: float = 0.0) -> Connection:
    """End 1 dials, end 2 accepts."""
    features = LocalFeatures(PeerName(number), f"n{number}", number, number, None, False, ("sleeve",))
    key = bytes([number]) * 32
    handshake = Handshake(features=features, password=password, private_key=key, is_initiator=number == 1)
    return Connection(handshake, now)


def exchange(one: Connection, other: Connection, now: float = 0.0) -> None:
    """Carry bytes until both are silent."""
    while data := (one.data_to_send(), other.data_to_send()):
        if data == (b"", b""):
            return
        for target, piece in ((other, data[0]), (one, data[1])):
            if piece:
                target.receive(piece, now)


def pair(password: bytes | None = None) -> tuple[Connection, Connection]:
    one, other = end(1, password), end(2, password)
    exchange(one, other)
    return one, other


@pytest.mark.parametrize("password", [None, b"secret"], ids=["plain", "sealed"])
def test_messages_arrive_whole_and_in_order(password: bytes | None) -> None:
    one, other = pair(password)
    assert one.result is not None
    assert other.result is not None
    assert one.result.connection_uid == other.result.connection_uid
    assert one.result.features.nickname == "n2"
    for message in (b"first", b"x" * 70_000, b""):
        one.send(message)
    data = one.data_to_send()
    assert one.data_to_send() == b""
    assert (password is None) == (b"first" in data)
    taken = []
    for start in range(0, len(data), 1000):
        other.receive(data[start : start + 1000], 1.0)
        while (came := other.next_message()) is not None:
            taken.append(came)
    assert taken == [b"first", b"x" * 70_000, b""]


def test_messages_may_come_with_the_end_of_the_handshake() -> None:
    one, other = end(1), end(2)
    other.receive(one.data_to_send(), 0.0)
    one.receive(other.data_to_send(), 0.0)
    assert one.result is not None
    one.send(b"early")
    other.receive(one.data_to_send(), 0.0)
    assert other.next_message() == b"early"


def test_nothing_can_be_sent_before_the_handshake_is_over() -> None:
    one = end(1)
    with pytest.raises(PlaitError, match="before the handshake ended"):
        one.send(b"x")
    assert one.next_message() is None


def test_a_silent_stranger_is_given_up_soon_and_a_slow_one_later() -> None:
    silent, slow = end(2), end(2)
    slow.receive(b"weave\x02\x02", 9.0)
    assert silent.next_deadline() == HEADER_TIMEOUT
    silent.handle_timer(HEADER_TIMEOUT - 0.1)
    with pytest.raises(ConnectionTimeout, match="no Weave or plait peer"):
        silent.handle_timer(HEADER_TIMEOUT)
    assert slow.next_deadline() == HANDSHAKE_TIMEOUT
    slow.handle_timer(HANDSHAKE_TIMEOUT - 0.1)
    with pytest.raises(ConnectionTimeout):
        slow.handle_timer(HANDSHAKE_TIMEOUT)


def test_dripping_bytes_do_not_prolong_the_handshake() -> None:
    stranger = end(2)
    for second, byte in enumerate(b"weave\x02\x02\x00"):
        stranger.receive(bytes([byte]), float(second))
    assert stranger.next_deadline() == HANDSHAKE_TIMEOUT


def test_heartbeats_go_out_every_interval_once_the_connection_is_in_the_mesh() -> None:
    one, other = pair()
    assert one.next_deadline() == READ_TIMEOUT
    one.start_heartbeats(5.0)
    for number in (1, 2):
        due = 5.0 + number * HEARTBEAT_INTERVAL
        assert one.next_deadline() == due
        one.handle_timer(due)
        other.receive(one.data_to_send(), due)
        assert other.next_message() == HEARTBEAT
        other.send(HEARTBEAT)
        one.receive(other.data_to_send(), due)


def test_silence_in_the_mesh_ends_the_connection() -> None:
    one, other = pair()
    other.send(b"last words")
    one.receive(other.data_to_send(), 100.0)
    one.handle_timer(100.0 + READ_TIMEOUT - 0.1)
    with pytest.raises(ConnectionTimeout, match="nothing was heard for 60 s"):
        one.handle_timer(100.0 + READ_TIMEOUT)


def test_both_ends_learn_that_the_passwords_differ_however_the_bytes_are_cut() -> None:
    """Who hears all at once refuses before it has written its part: that must still be written."""
    one, other = end(1, b"one"), end(2, b"other")
    hello, answer = one.data_to_send(), other.data_to_send()
    other.receive(hello, 0.0)
    with pytest.raises(WrongPassword, match="WEAVE_PASSWORD"):
        one.receive(answer + other.data_to_send(), 0.0)
    with pytest.raises(WrongPassword, match="WEAVE_PASSWORD"):
        other.receive(one.data_to_send(), 0.0)


def test_a_close_in_the_middle_of_the_handshake_is_explained() -> None:
    one = end(1, b"secret")
    assert not one.has_heard
    one.receive(b"weave\x02\x02", 0.0)
    assert one.has_heard
    assert isinstance(one.ended(), HandshakeError)
    assert "password" in str(one.ended())


def test_a_damaged_frame_ends_a_sealed_connection() -> None:
    one, other = pair(b"secret")
    one.send(b"hello")
    data = bytearray(one.data_to_send())
    data[-1] ^= 1
    other.receive(bytes(data), 1.0)
    with pytest.raises(FramingError):
        other.next_message()
