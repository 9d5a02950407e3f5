import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
from plait.mesh.name import PeerName
from plait.overlay.sleeve import datagram as d

PLAIN = "sleeve/plain_datagrams.json"
ERRORS = "sleeve/decode_errors.json"
A = PeerName.parse("02:00:00:00:00:0a").to_bytes6()

golden.expect_entered("datagram.decode_records")

names = st.binary(min_size=6, max_size=6)
records = st.lists(st.tuples(names, names, st.binary(max_size=80)), max_size=8)


def frame_of(vector: dict[str, Any]) -> bytes:
    if "frame_hex" in vector:
        return bytes.fromhex(vector["frame_hex"])
    frame = bytes(vector["length"])
    assert hashlib.sha256(frame).hexdigest() == vector["frame_sha256"]
    return frame


def records_of(vector: dict[str, Any]) -> list[d.Record]:
    return [
        (
            PeerName.parse(frame["src_peer"]).to_bytes6(),
            PeerName.parse(frame["dst_peer"]).to_bytes6(),
            frame_of(frame),
        )
        for frame in vector["frames"] or []
    ]


@pytest.mark.parametrize("case", golden.cases(PLAIN, "vectors"), ids=golden.case_id)
def test_plain_datagram(case: dict[str, Any]) -> None:
    sender = PeerName.parse(case["sender_peer"]).to_bytes6()
    expected = records_of(case)
    payload = d.encode_plain(sender, expected)
    assert len(payload) == case["udp_payload_len"]
    if "udp_payload_hex" in case:
        assert payload.hex() == case["udp_payload_hex"]
    else:
        assert payload.hex().startswith(case["udp_payload_first_32_hex"])
        assert hashlib.sha256(payload).hexdigest() == case["udp_payload_sha256"]
    assert d.sender_of(payload) == sender
    assert d.decode_records(payload, 6) == d.Decoded(expected, None)


@pytest.mark.parametrize("case", golden.cases(ERRORS, "plain"), ids=golden.case_id)
def test_malformed_datagram(case: dict[str, Any]) -> None:
    decoded = d.decode_records(A + bytes.fromhex(case["after_name_hex"]), 6)
    assert len(decoded.records) == case["frames_delivered_before_error"]
    assert (decoded.error is None) == (case["error"] == "<nil>")


def test_error_names_what_is_wrong_and_where() -> None:
    assert d.decode_records(A + bytes(13), 6).error == "13 bytes after the last record, at byte 6"
    truncated = A + bytes.fromhex("02000000000a02000000000b00030102")
    assert d.decode_records(truncated, 6).error == "frame at byte 20 should have 3 bytes and has 2"


def test_overheads() -> None:
    vectors = golden.document(PLAIN)
    assert vectors["packet_overhead"] == d.datagram_overhead(False)
    assert vectors["frame_overhead"] == d.RECORD_HEADER_BYTES
    encrypted = golden.document("sleeve/encrypted_datagrams.json")
    assert encrypted["packet_overhead"] == d.datagram_overhead(True)
    assert encrypted["df_overhead_plain"] == d.mtu_overhead(False)
    assert encrypted["df_overhead_encrypted"] == d.mtu_overhead(True)


def test_sender_needs_six_bytes() -> None:
    assert d.sender_of(b"12345") is None
    assert d.sender_of(b"123456") == b"123456"


@pytest.mark.parametrize(
    ("length", "kind"),
    [
        (22, d.SpecialKind.HEARTBEAT),
        (60001, d.SpecialKind.FRAGMENTATION_TEST),
        (14, d.SpecialKind.MTU_TEST),
        (1452, d.SpecialKind.MTU_TEST),
        (60000, d.SpecialKind.MTU_TEST),
    ],
)
def test_special_frames_are_told_apart_by_length(length: int, kind: d.SpecialKind) -> None:
    frame = d.special_frame(length)
    assert len(frame) == length
    assert d.is_all_zero(frame)
    assert d.special_kind(length) is kind


def test_heartbeat_carries_the_uid() -> None:
    frame = d.special_frame(d.HEARTBEAT_LENGTH, 0x1122334455667788)
    assert frame.hex() == golden.cases(PLAIN, "vectors")[0]["frames"][0]["frame_hex"]
    assert d.heartbeat_uid(frame) == 0x1122334455667788
    assert d.heartbeat_uid(d.special_frame(1452)) is None
    assert not d.is_all_zero(frame)


@pytest.mark.parametrize(("length", "uid"), [(13, None), (21, 1), (65536, None)])
def test_special_frame_refuses_impossible_lengths(length: int, uid: int | None) -> None:
    with pytest.raises(ValueError, match="special frame"):
        d.special_frame(length, uid)


@given(names, records)
def test_round_trip(sender: bytes, expected: list[d.Record]) -> None:
    payload = d.encode_plain(sender, expected)
    assert d.decode_records(payload, 6) == d.Decoded(expected, None)
    assert d.sender_of(payload) == sender


@given(records, st.binary(max_size=60))
def test_any_rest_leaves_the_records_before_it(expected: list[d.Record], rest: bytes) -> None:
    decoded = d.decode_records(d.encode_records(expected) + rest)
    assert decoded.records[: len(expected)] == expected
    assert d.encode_records(decoded.records) + rest == d.encode_records(expected) + rest or decoded.error is None


@given(st.binary(max_size=200))
def test_any_bytes_decode_to_a_prefix(data: bytes) -> None:
    decoded = d.decode_records(data)
    golden.entered("datagram.decode_records")
    encoded = d.encode_records(decoded.records)
    assert data.startswith(encoded)
    assert (decoded.error is None) == (encoded == data)
