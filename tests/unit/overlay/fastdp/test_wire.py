"""The bytes of fastdp, against Weave's."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
from plait.overlay.ethernet import FrameKind, classify
from plait.overlay.fastdp import wire
from plait.overlay.fastdp.wire import Extension, Heartbeat, Kind, heartbeat, parse_heartbeat

golden.expect_entered("fastdp.wire.parse_heartbeat")

UID = 0x0102030405060708
ODP = golden.document("fastdp/fastdp_odp.json")["data"]

extensions = st.builds(
    Extension,
    st.sampled_from(Kind),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
)


@pytest.mark.parametrize("case", golden.cases("fastdp/vni.json", ""), ids=lambda case: case["vni_hex"])
def test_vni_and_header_are_weaves(case: dict[str, Any]) -> None:
    source, destination = case["src_short_id"], case["dst_short_id"]
    vni = wire.pack_vni(source, destination)
    assert vni == case["vni"]
    assert wire.unpack_vni(vni) == (source, destination)
    assert wire.vxlan_header(vni).hex() == case["vxlan_header_hex"]


@pytest.mark.parametrize("ids", [(4096, 0), (0, 4096), (-1, 0), (0, -1)])
def test_a_short_id_has_12_bits(ids: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="each must be 0 to 4095"):
        wire.pack_vni(*ids)


def test_the_overhead_is_all_that_stands_before_the_inner_ip_header() -> None:
    assert wire.overhead("192.0.2.1") == wire.IPV4_OVERHEAD_BYTES == 50
    assert wire.overhead("2001:db8::1") == wire.IPV6_OVERHEAD_BYTES == 70


def test_a_heartbeat_is_weaves() -> None:
    expected = ODP["heartbeat_frame"]
    frame = heartbeat(UID, expected["len"])
    assert frame[:32].hex() == expected["first_32_hex"]
    assert hashlib.sha256(frame).hexdigest() == expected["sha256"]
    assert classify(frame) is FrameKind.SPECIAL
    assert parse_heartbeat(frame[:60], len(frame)) == Heartbeat(UID, expected["len"])


@pytest.mark.parametrize("length", [0, 23, 65536, 70000])
def test_a_heartbeat_has_its_length_in_16_bits(length: int) -> None:
    with pytest.raises(ValueError, match="must be 24 to 65535"):
        heartbeat(UID, length)


def test_an_extension_needs_its_room() -> None:
    assert len(heartbeat(UID, 60, Extension(Kind.PROBE))) == 60
    with pytest.raises(ValueError, match="must be 60 to 65535"):
        heartbeat(UID, 59, Extension(Kind.PROBE))


def test_an_extension_byte_by_byte() -> None:
    extension = Extension(Kind.ECHO, 0x11121314, 0x21222324, 0x3132, 0x4142434445464748, wire.UNKNOWN)
    frame = heartbeat(UID, 61, extension)
    assert frame.hex(" ", 1) == bytes.fromhex(
        "0000000000000000000000000000 0102030405060708 003d"
        "504c5431 01 000000 11121314 21222324 3132 0000 4142434445464748 ffffffffffffffff 00"
    ).hex(" ", 1)


def test_weave_reads_an_extended_heartbeat_as_one_of_its_own() -> None:
    frame = heartbeat(UID, 60, Extension(Kind.PROBE, 1))
    assert frame[:24] == heartbeat(UID, 60)[:24]


@given(st.integers(0, 2**64 - 1), st.integers(60, 1500), extensions)
def test_what_is_packed_is_read(uid: int, length: int, extension: Extension) -> None:
    frame = heartbeat(uid, length, extension)
    assert len(frame) == length
    assert parse_heartbeat(frame, length) == Heartbeat(uid, length, extension)
    assert parse_heartbeat(frame[:60], length) == Heartbeat(uid, length, extension)
    assert parse_heartbeat(frame[:59], length) == Heartbeat(uid, length)


@pytest.mark.parametrize("length", range(24, 60))
def test_what_lies_behind_a_short_frame_is_no_extension(length: int) -> None:
    head = bytearray(heartbeat(UID, 60, Extension(Kind.ECHO, 1)))
    head[22:24] = length.to_bytes(2, "big")
    assert parse_heartbeat(bytes(head), length) == Heartbeat(UID, length)


def test_weaves_rule_what_a_heartbeat_is() -> None:
    good = heartbeat(UID, 1390)
    assert parse_heartbeat(good, 1389) is None
    assert parse_heartbeat(good, 1391) is None
    assert parse_heartbeat(good[:23], 1390) is None
    assert parse_heartbeat(heartbeat(UID, 24)[:23], 23) is None
    assert parse_heartbeat(b"", 0) is None
    assert parse_heartbeat(heartbeat(UID, 24), 24) == Heartbeat(UID, 24)
    for position in range(14):
        frame = bytearray(good)
        frame[position] = 1
        assert parse_heartbeat(bytes(frame), 1390) is None


@pytest.mark.parametrize("position", [24, 25, 26, 27, 28])
def test_another_magic_or_kind_is_no_extension(position: int) -> None:
    frame = bytearray(heartbeat(UID, 60, Extension(Kind.PROBE, 7)))
    frame[position] ^= 0x40
    assert parse_heartbeat(bytes(frame), 60) == Heartbeat(UID, 60)


def test_reserved_bytes_are_not_read() -> None:
    frame = bytearray(heartbeat(UID, 60, Extension(Kind.PROBE, 7)))
    for position in (29, 30, 31, 42, 43):
        frame[position] = 0xFF
    assert parse_heartbeat(bytes(frame), 60) == Heartbeat(UID, 60, Extension(Kind.PROBE, 7))


@given(st.binary(max_size=80), st.integers(0, 2**17), st.booleans(), st.booleans())
def test_any_bytes_are_read_or_refused(head: bytes, length: int, is_special: bool, is_honest: bool) -> None:
    if is_special:
        head = bytes(14) + head
    if is_honest:
        head = head[:22] + (length & 0xFFFF).to_bytes(2, "big") + head[24:]
    golden.entered("fastdp.wire.parse_heartbeat")
    found = parse_heartbeat(head, length)
    if found is not None:
        assert found.length == length < 2**16
        assert len(head) >= 24
        assert found.extension is None or length >= 60


@given(st.integers(0, 2**32 - 1))
def test_sequences_begin_again(sequence: int) -> None:
    after = wire.next_sequence(sequence)
    assert after == (sequence + 1) & 0xFFFFFFFF
    assert wire.is_after(after, sequence)
    assert not wire.is_after(sequence, after)
    assert not wire.is_after(sequence, sequence)
