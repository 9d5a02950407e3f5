"""Headers of super-frames: what is let through to a kernel, and parts against an independent cutter."""

from struct import pack_into, unpack_from

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.overlay.sleeve.plait1.superframe import (
    MIN_RAW_BYTES,
    PLAIN_VNET,
    VNET,
    Layout,
    as_super_frame,
    cleaned,
    is_sound,
    layout,
    part,
)
from unit.overlay.plait1 import engines as e
from unit.overlay.plait1 import frames as f

KIND = pytest.mark.parametrize("kind", f.KINDS)


def changed(raw: bytes, **fields: int) -> bytes:
    """The same with other fields in the virtio-net header."""
    names = ("flags", "gso_type", "hdr_len", "gso_size", "csum_start", "csum_offset")
    values = dict(zip(names, VNET.unpack_from(raw), strict=True)) | fields
    return VNET.pack(*(values[name] for name in names)) + raw[VNET.size :]


def found(raw: bytes) -> Layout:
    where = layout(raw)
    assert where is not None
    return where


@KIND
@pytest.mark.parametrize("vlans", [0, 1, 2])
def test_where_the_headers_are(kind: str, vlans: int) -> None:
    raw = f.super_frame(kind, f.noise(3000), 1000, vlans=vlans)
    ip = 24 + 4 * vlans
    l4 = ip + (40 if kind.endswith("6") else 20)
    payload = l4 + (32 if kind.startswith("tcp") else 8)
    assert found(raw) == (ip, kind.endswith("6"), l4, payload, kind.startswith("tcp"), 1000)
    assert len(raw) - payload == 3000
    assert is_sound(raw)


@pytest.mark.parametrize("words", [1, 10])
def test_options_of_ip(words: int) -> None:
    where = found(e.with_ip_options(f.super_frame("tcp4", f.noise(3000), 1000), words))
    assert where.l4 - where.ip == 20 + 4 * words


def test_a_service_tag_before_a_customers() -> None:
    raw = bytearray(f.super_frame("udp6", f.noise(3000), 1000, vlans=2))
    raw[22:24] = b"\x88\xa8"
    assert found(bytes(raw)).ip == 32


def test_three_tags_are_too_many() -> None:
    assert layout(f.super_frame("tcp4", f.noise(3000), 1000, vlans=3)) is None


@KIND
@pytest.mark.parametrize(
    "fields",
    [
        {"flags": 0},
        {"flags": 2},
        {"flags": 3},
        {"gso_type": 0},
        {"gso_type": 3},
        {"gso_type": 0x80},
        {"gso_type": 0x85},
        {"gso_type": 0xFF},
        {"gso_size": 0},
        {"csum_start": 0},
        {"csum_start": 14},
        {"csum_start": 0xFFFF},
        {"csum_offset": 0},
        {"csum_offset": 0xFFFF},
    ],
)
def test_what_breaks_the_rules_of_the_virtio_net_header(kind: str, fields: dict[str, int]) -> None:
    assert layout(changed(f.super_frame(kind, f.noise(3000), 1000), **fields)) is None


@KIND
def test_gso_types_fit_their_frames_only(kind: str) -> None:
    raw = f.super_frame(kind, f.noise(3000), 1000)
    fitting = {"tcp4": {1, 0x81}, "tcp6": {4, 0x84}, "udp4": {5}, "udp6": {5}}[kind]
    assert {gso for gso in range(256) if layout(changed(raw, gso_type=gso)) is not None} == fitting


@KIND
def test_cut_short_anywhere(kind: str) -> None:
    raw = f.super_frame(kind, b"p", 1)
    assert all(layout(raw[:size]) is None for size in range(len(raw)))
    assert all(not is_sound(raw[:size]) for size in range(len(raw)))


@given(st.binary(max_size=120), st.sampled_from(f.KINDS), st.lists(st.tuples(st.integers(0, 75), st.integers(0, 255))))
def test_reading_never_raises_and_stays_inside(noise: bytes, kind: str, changes: list[tuple[int, int]]) -> None:
    raw = bytearray(f.super_frame(kind, b"pp", 1))
    for at, value in changes:
        raw[at % len(raw)] = value
    for each in (noise, bytes(raw)):
        where = layout(each)
        is_sound(each)
        as_super_frame(each)
        if where is not None:
            assert 24 <= where.ip < where.l4 < where.payload < len(each)
            assert is_sound(each)


def test_single_packets_that_are_sound() -> None:
    for raw in (f.finished("tcp4", b"x"), f.unfinished("udp6", b"x", vlans=1), f.plain(0x88B5, b"")):
        assert is_sound(raw)
    assert is_sound(bytes(MIN_RAW_BYTES))
    assert not is_sound(bytes(MIN_RAW_BYTES - 1))


@pytest.mark.parametrize(
    "fields",
    [
        {"flags": 2},
        {"flags": 0},
        {"hdr_len": 1},
        {"gso_size": 1},
        {"csum_start": 13},
        {"csum_start": 60, "csum_offset": 100},
        {"csum_offset": 0xFFFF, "csum_start": 0xFFFF},
    ],
)
def test_single_packets_that_are_not(fields: dict[str, int]) -> None:
    assert not is_sound(changed(f.unfinished("tcp4", b"x"), **fields))


def test_the_checksum_may_be_the_last_that_a_frame_has() -> None:
    raw = f.plain(0x88B5, bytes(20))
    assert is_sound(changed(raw, flags=1, csum_start=14, csum_offset=18))
    assert not is_sound(changed(raw, flags=1, csum_start=14, csum_offset=19))


def test_what_the_kernel_wrote_is_made_clean() -> None:
    assert cleaned(VNET.pack(1, 1, 999, 1400, 34, 16), 66) == VNET.pack(1, 1, 66, 1400, 34, 16)
    assert cleaned(VNET.pack(1, 0, 7, 7, 34, 16), 66) == VNET.pack(1, 0, 0, 0, 34, 16)
    assert cleaned(VNET.pack(2, 0, 7, 7, 7, 7), 66) == PLAIN_VNET
    assert cleaned(VNET.pack(3, 5, 7, 7, 34, 6), 42) == VNET.pack(1, 5, 42, 7, 34, 6)


@pytest.mark.parametrize("kind", ["tcp4", "tcp6"])
def test_a_single_packet_of_tcp_as_a_super_frame(kind: str) -> None:
    raw = f.unfinished(kind, f.noise(1000), vlans=1)
    made = as_super_frame(raw)
    assert made is not None
    assert found(made).gso_size == 1000
    assert f.packets(e.with_gso_size(made, 1000)) == [f.complete(raw)]


def test_no_other_packet_becomes_one() -> None:
    for raw in (
        f.unfinished("udp4", b"x"),
        f.finished("tcp4", b"x"),
        f.unfinished("tcp4", b""),
        f.super_frame("tcp4", f.noise(3000), 1000),
        f.unfinished("tcp4", b"x", vlans=3),
        b"",
    ):
        assert as_super_frame(raw) is None


@settings(max_examples=150)
@given(
    kind=st.sampled_from(f.KINDS),
    flags=st.integers(0, 255),
    sequence=st.integers(0, 2**32 - 1),
    identification=st.integers(0, 0xFFFF),
    gso_size=st.integers(1, 400),
    slices=st.integers(2, 12),
    short=st.integers(0, 399),
    first=st.integers(0, 11),
    count=st.integers(1, 12),
)
def test_a_part_stands_for_its_packets(
    kind: str,
    flags: int,
    sequence: int,
    identification: int,
    gso_size: int,
    slices: int,
    short: int,
    first: int,
    count: int,
) -> None:
    payload = f.noise(gso_size * slices - short % gso_size)
    raw = f.super_frame(kind, payload, gso_size, flags=flags, sequence=sequence, identification=identification)
    first %= slices
    end = min(first + count, slices)
    piece = payload[first * gso_size : end * gso_size]
    where = found(raw)
    made = part(raw[: where.payload], where, first * gso_size, len(piece), end == slices) + piece
    assert f.packets(made) == f.packets(raw)[first:end]
    is_single = len(piece) <= gso_size
    assert unpack_from("<BHH", made, 1) == ((0, 0, 0) if is_single else unpack_from("<BHH", raw, 1))
    assert is_sound(made)


def test_lengths_of_a_liar_wrap_around() -> None:
    raw = bytearray(f.super_frame("tcp4", f.noise(300), 100))
    pack_into(">H", raw, 26, 0)
    where = found(bytes(raw))
    made = part(bytes(raw[: where.payload]), where, 100, 0xFFFFF, True)
    assert unpack_from(">H", made, 26)[0] == (where.payload - where.ip + 0xFFFFF) & 0xFFFF
