from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
from plait.mesh import crypto
from plait.mesh.framing import MAX_BODY_BYTES, FrameCodec, FrameNotAuthentic, FramingError
from unit.mesh.fuzz import damaged, pieces

golden.expect_entered("FrameCodec")

FRAMES = "mesh/tcp_frames.json"
CASES = golden.cases(FRAMES)
V2 = [case for case in CASES if case["name"].startswith("v2")]
for _case in CASES:
    if _case["name"].startswith("v1"):
        golden.left_out(FRAMES, _case, "frames of protocol version 1, which plait does not speak")

KEY = bytes(range(32))
session_keys = st.sampled_from((None, KEY))


def messages_of(codec: FrameCodec) -> list[bytes]:
    found = []
    while (message := codec.next_message()) is not None:
        found.append(message)
    return found


@pytest.mark.parametrize("case", V2, ids=golden.case_id)
def test_frames_of_weave(case: dict[str, Any]) -> None:
    """Each frame from a codec brought to its number; the plain case has no numbers."""
    key = bytes.fromhex(case["session_key_hex"]) if "session_key_hex" in case else None
    is_initiator = case.get("sender_is_connection_initiator", True)
    sender, receiver = FrameCodec(key, is_initiator), FrameCodec(key, not is_initiator)
    for frame in case["frames"]:
        number = frame.get("seq", sender._sent)
        sender._sent = receiver._received = number
        if key is not None:
            assert crypto.tcp_nonce(is_initiator, number).hex() == frame["nonce_hex"]
        assert sender.seal(bytes.fromhex(frame["plaintext_hex"])).hex() == frame["wire_hex"]
        receiver.feed(bytes.fromhex(frame["wire_hex"]))
        assert messages_of(receiver) == [bytes.fromhex(frame["plaintext_hex"])]


def test_the_largest_message_of_weave() -> None:
    limits = dict(golden.cases(FRAMES, "limits"))
    assert limits["max"] == MAX_BODY_BYTES == golden.document("mesh/constants.json")["max_tcp_msg"]
    assert limits["send_10MiB_error"] == "<nil>"
    codec = FrameCodec(None, True)
    frame = codec.seal(bytes(MAX_BODY_BYTES))
    codec.feed(frame)
    assert messages_of(codec) == [bytes(MAX_BODY_BYTES)]
    with pytest.raises(FramingError, match="10485761"):
        codec.seal(bytes(MAX_BODY_BYTES + 1))
    codec.feed((MAX_BODY_BYTES + 1).to_bytes(4, "big"))
    with pytest.raises(FramingError, match="10485761"):
        codec.next_message()


def test_the_limit_counts_what_is_sent_not_what_is_sealed() -> None:
    codec = FrameCodec(KEY, True)
    codec.seal(bytes(MAX_BODY_BYTES - crypto.TAG_BYTES))
    with pytest.raises(FramingError):
        codec.seal(bytes(MAX_BODY_BYTES - crypto.TAG_BYTES + 1))


@given(st.data(), session_keys, st.lists(st.binary(max_size=60), max_size=6), st.booleans())
def test_messages_come_out_as_they_went_in(
    data: st.DataObject, key: bytes | None, sent: list[bytes], is_initiator: bool
) -> None:
    sender, receiver = FrameCodec(key, is_initiator), FrameCodec(key, not is_initiator)
    received: list[bytes] = []
    for piece in data.draw(pieces(b"".join(map(sender.seal, sent)))):
        golden.entered("FrameCodec")
        receiver.feed(piece)
        received += messages_of(receiver)
    assert received == sent


@given(session_keys, damaged(st.binary(max_size=60).map(FrameCodec(None, True).seal)))
def test_damage_gives_framing_errors_only(key: bytes | None, data: bytes) -> None:
    receiver = FrameCodec(key, False)
    receiver.feed(data)
    golden.entered("FrameCodec")
    try:
        assert all(isinstance(message, bytes) for message in messages_of(receiver))
    except FramingError as error:
        assert str(error).startswith(("the peer announces", "message 0 of the peer"))  # noqa: PT017


@pytest.mark.parametrize("is_initiator", [True, False])
def test_a_frame_is_good_only_once_and_only_in_its_direction(is_initiator: bool) -> None:
    sender, receiver = FrameCodec(KEY, is_initiator), FrameCodec(KEY, not is_initiator)
    frame = sender.seal(b"one")
    receiver.feed(frame + frame)
    assert receiver.next_message() == b"one"
    with pytest.raises(FrameNotAuthentic, match="message 1 of the peer"):
        receiver.next_message()
    sender.feed(frame)
    with pytest.raises(FrameNotAuthentic):
        sender.next_message()


def test_a_length_over_the_limit_is_refused_before_its_body_arrives() -> None:
    codec = FrameCodec(None, True)
    codec.max_body_bytes = 100
    codec.feed(bytes.fromhex("00000065"))
    with pytest.raises(FramingError, match="at most 100"):
        codec.next_message()
