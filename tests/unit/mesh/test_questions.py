"""Questions between nodes: both ends are real."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.mesh.gossip import GossipRefused
from plait.mesh.name import PeerName
from plait.mesh.questions import MAX_BODY_BYTES, MAX_WAITING, MAX_WAITING_OF_PEER, Questions

A, B, C = PeerName(1), PeerName(2), PeerName(3)


class End:
    """One node's channel, and what it heard."""

    def __init__(self) -> None:
        self.asked: list[tuple[PeerName, int, str, bytes]] = []
        self.answered: list[tuple[int, bytes]] = []
        self.channel = Questions(lambda *heard: self.asked.append(heard), lambda *heard: self.answered.append(heard))


def test_a_question_and_its_answer() -> None:
    one, other = End(), End()
    payload = one.channel.ask(7, B, "doctor", b"how?")
    assert payload is not None
    other.channel.receive_unicast(A, payload, 0.0)
    assert other.asked == [(A, 7, "doctor", b"how?")]
    answer = other.channel.answer(A, 7, "doctor", b"so")
    for source in (C, B, B):  # of another peer, right, once more
        one.channel.receive_unicast(source, answer, 0.0)
    assert one.answered == [(7, b"so")]


def test_what_is_given_up_gets_no_answer() -> None:
    one = End()
    one.channel.ask(7, B, "doctor", b"")
    one.channel.give_up(7)
    one.channel.receive_unicast(B, End().channel.answer(A, 7, "doctor", b"late"), 0.0)
    assert one.answered == []


def test_both_tables_are_bounded() -> None:
    one, other = End(), End()
    payloads = [one.channel.ask(number, B, "doctor", b"") for number in range(MAX_WAITING + 1)]
    assert payloads.count(None) == 1
    for payload in filter(None, payloads):
        other.channel.receive_unicast(A, payload, 0.0)
    assert len(other.asked) == MAX_WAITING_OF_PEER
    other.channel.refuse(A)
    other.channel.receive_unicast(A, payloads[0] or b"", 0.0)
    assert len(other.asked) == MAX_WAITING_OF_PEER + 1


def test_an_answer_is_cut_to_what_is_taken() -> None:
    one = End()
    one.channel.ask(7, B, "doctor", b"")
    one.channel.receive_unicast(B, End().channel.answer(A, 7, "doctor", bytes(2 * MAX_BODY_BYTES)), 0.0)
    assert [len(body) for _, body in one.answered] == [MAX_BODY_BYTES]


@given(st.binary(max_size=100))
def test_any_payload_is_taken(payload: bytes) -> None:
    End().channel.receive_unicast(A, payload, 0.0)


@pytest.mark.parametrize(
    "tell",
    [lambda end: end.channel.receive(b"", 0.0), lambda end: end.channel.receive_broadcast(A, b"", 0.0)],
)
def test_questions_are_for_one_peer(tell: Callable[[End], None]) -> None:
    with pytest.raises(GossipRefused):
        tell(End())
    assert End().channel.everything() is None


def test_a_topic_without_end_is_dropped() -> None:
    end = End()
    end.channel.receive_unicast(A, msgspec.msgpack.encode([1, False, "x" * 65, b""]), 0.0)
    assert end.asked == []
