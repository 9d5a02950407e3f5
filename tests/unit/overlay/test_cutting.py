"""Cutting super-frames for a Weave peer, finishing checksums, and joining what comes from one."""

import os
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.overlay.sleeve.cutting import Cutter, PythonCutter
from plait.overlay.sleeve.plait1.superframe import Layout, layout
from unit.overlay.cutters import cutters
from unit.overlay.tcp_packets import ACK, CWR, ECE, FIN, PSH, SYN, TCP, UDP, Packet

CUTTERS = cutters()
PLAIN = bytes(10)
TIMESTAMPS = bytes.fromhex("0101080a0102030405060708")

pytestmark = pytest.mark.parametrize("cutter", CUTTERS, ids=lambda cutter: cutter.name)

packets = st.builds(
    Packet,
    payload=st.binary(min_size=1, max_size=300),
    is_ipv6=st.booleans(),
    protocol=st.sampled_from([TCP, UDP]),
    sequence=st.integers(0, 2**32 - 1),
    flags=st.integers(0, 255),
    identification=st.integers(0, 2**16 - 1),
    df=st.booleans(),
    options=st.sampled_from([b"", TIMESTAMPS]),
    vlan=st.sampled_from([b"", b"\x81\x00\x00\x05", b"\x88\xa8\x00\x05\x81\x00\x00\x06"]),
    ip_options=st.sampled_from([b"", b"\x94\x04\x00\x00"]),
)


def where_of(raw: bytes) -> Layout:
    where = layout(raw)
    assert where is not None
    return where


def expected_frames(packet: Packet, size: int) -> list[bytes]:
    """What a super-frame stands for, each frame built on its own."""
    starts = range(0, len(packet.payload), size)
    frames = []
    for number, at in enumerate(starts):
        flags = packet.flags
        if at != starts[-1]:
            flags &= ~(FIN | PSH)
        if number:
            flags &= ~CWR
        part = replace(
            packet,
            payload=packet.payload[at : at + size],
            sequence=(packet.sequence + at) % 2**32,
            identification=(packet.identification + number) % 2**16,
            flags=flags,
        )
        frames.append(part.frame())
    return frames


@given(packet=packets, gso_size=st.integers(1, 310), most=st.none() | st.integers(1, 310))
def test_a_super_frame_is_cut(cutter: Cutter, packet: Packet, gso_size: int, most: int | None) -> None:
    raw = packet.super_frame(gso_size)
    size = min(gso_size, most) if most is not None and packet.protocol == TCP else gso_size
    expected = expected_frames(packet, size)
    assert cutter.cut(raw, where_of(raw), most) == expected
    assert cutter.cut(memoryview(bytearray(raw)), where_of(raw), most) == expected


@pytest.mark.parametrize("gso_size", [1398, 1397, 1448])
@pytest.mark.parametrize("is_ipv6", [False, True])
def test_a_large_super_frame_is_cut(cutter: Cutter, gso_size: int, is_ipv6: bool) -> None:
    payload = random.Random(1).randbytes(65000)
    packet = Packet(payload, is_ipv6, sequence=2**32 - 5000, flags=ACK | PSH | CWR, options=TIMESTAMPS)
    raw = packet.super_frame(gso_size, ecn=0x80)
    assert cutter.cut(raw, where_of(raw)) == expected_frames(packet, gso_size)


@pytest.mark.parametrize("payload", [bytes(40), b"\xff" * 40, b"\xff\xff" * 700])
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_sums_at_the_edge(cutter: Cutter, payload: bytes, protocol: int) -> None:
    packet = Packet(payload, protocol=protocol)
    raw = packet.super_frame(10)
    assert cutter.cut(raw, where_of(raw)) == expected_frames(packet, 10)
    assert cutter.finish_checksum(packet.raw()) == packet.frame()


def test_a_checksum_of_zero_is_written_as_ones(cutter: Cutter) -> None:
    packet = Packet(b"\x00\x00", protocol=UDP)
    checksum = int.from_bytes(packet.frame()[40:42], "big")
    packet = replace(packet, payload=checksum.to_bytes(2, "big"))
    assert packet.frame()[40:42] == b"\xff\xff"
    assert cutter.finish_checksum(packet.raw()) == packet.frame()
    raw = replace(packet, payload=packet.payload * 2).super_frame(2)
    assert cutter.cut(raw, where_of(raw))[0] == packet.frame()


def test_a_limit_must_leave_room(cutter: Cutter) -> None:
    raw = Packet(b"abc").super_frame(2)
    with pytest.raises(ValueError, match="carry nothing"):
        cutter.cut(raw, where_of(raw), 0)


def test_nothing_comes_of_a_frame_longer_than_ip_can_say(cutter: Cutter) -> None:
    raw = Packet(b"abcd").super_frame(65535) + bytes(70000)
    where = where_of(raw)
    assert cutter.cut(raw, where) == []
    assert cutter.cut(raw, where, 1000)


@given(packet=packets)
def test_a_checksum_is_finished(cutter: Cutter, packet: Packet) -> None:
    assert cutter.finish_checksum(packet.raw()) == packet.frame()
    assert cutter.finish_checksum(PLAIN + packet.frame()) == packet.frame()
    assert cutter.finish_checksum(b"\x02" + bytes(9) + packet.frame()) == packet.frame()


@given(head=st.binary(min_size=9, max_size=9), frame=st.binary(max_size=80))
def test_unsound_offsets_leave_the_frame_alone(cutter: Cutter, head: bytes, frame: bytes) -> None:
    raw = b"\x01" + head + frame
    start, offset = int.from_bytes(head[5:7], "little"), int.from_bytes(head[7:9], "little")
    finished = cutter.finish_checksum(raw)
    if start < 14 or start + offset + 2 > len(frame):
        assert finished == frame
    else:
        assert len(finished) == len(frame)


@pytest.mark.parametrize("raw", [b"", b"\x01", b"\x01" * 10, PLAIN])
def test_finishing_less_than_a_frame(cutter: Cutter, raw: bytes) -> None:
    assert cutter.finish_checksum(raw) == b""


def joined(cutter: Cutter, parts: Sequence[Packet]) -> list[bytes]:
    return cutter.coalesce([part.frame() for part in parts])


def alone(parts: Sequence[Packet]) -> list[bytes]:
    return [PLAIN + part.frame() for part in parts]


def stream(packet: Packet, size: int) -> list[Packet]:
    """A packet as the segments of its sender."""
    starts = range(0, len(packet.payload), size)
    return [
        replace(
            packet,
            payload=packet.payload[at : at + size],
            sequence=(packet.sequence + at) % 2**32,
            identification=(packet.identification + number) % 2**16,
            flags=packet.flags & ~(0 if at == starts[-1] else FIN | PSH),
        )
        for number, at in enumerate(starts)
    ]


usual = st.builds(
    Packet,
    payload=st.binary(min_size=1, max_size=300),
    is_ipv6=st.booleans(),
    sequence=st.integers(0, 2**32 - 1),
    flags=st.sampled_from([ACK, ACK | PSH, ACK | FIN, ACK | FIN | PSH, ACK | ECE]),
    identification=st.integers(0, 2**16 - 1),
    df=st.booleans(),
    options=st.sampled_from([b"", TIMESTAMPS]),
)


@given(packet=usual, size=st.integers(1, 310))
def test_segments_become_the_super_frame_again(cutter: Cutter, packet: Packet, size: int) -> None:
    parts = stream(packet, size)
    expected = [packet.super_frame(size)] if len(parts) > 1 else [PLAIN + packet.frame()]
    assert joined(cutter, parts) == expected


@given(packet=usual, size=st.integers(1, 310))
def test_what_was_joined_is_cut_into_the_same_frames(cutter: Cutter, packet: Packet, size: int) -> None:
    frames = [part.frame() for part in stream(packet, size)]
    (raw,) = cutter.coalesce(frames)
    assert len(frames) == 1 or cutter.cut(raw, where_of(raw)) == frames


def test_a_super_frame_is_no_longer_than_ip_can_say(cutter: Cutter) -> None:
    out = joined(cutter, stream(Packet(os.urandom(100_000)), 1000))
    assert [len(raw) - 64 for raw in out] == [65_000, 35_000]


FIRST = Packet(b"a" * 100, flags=ACK)
SECOND = replace(FIRST, sequence=1100, identification=8)


@pytest.mark.parametrize(
    "second",
    [
        replace(SECOND, sequence=1101),
        replace(SECOND, sequence=1099),
        replace(SECOND, acknowledgement=78),
        replace(SECOND, window=502),
        replace(SECOND, options=TIMESTAMPS),
        replace(SECOND, ports=(5201, 40001)),
        replace(SECOND, macs=bytes(5) + b"\x02" + bytes(6)),
        replace(SECOND, ttl=63),
        replace(SECOND, df=False),
        replace(SECOND, payload=b"a" * 101),
        replace(SECOND, payload=b""),
        replace(SECOND, flags=ACK | SYN),
        replace(SECOND, flags=ACK | CWR),
        replace(SECOND, flags=ACK | ECE),
        replace(SECOND, flags=ACK | 0x20),
        replace(SECOND, flags=0),
        replace(SECOND, is_ipv6=True),
        replace(SECOND, protocol=UDP),
        replace(SECOND, vlan=b"\x81\x00\x00\x05"),
        replace(SECOND, ip_options=b"\x94\x04\x00\x00"),
    ],
)
def test_what_is_not_joined(cutter: Cutter, second: Packet) -> None:
    assert joined(cutter, [FIRST, second]) == alone([FIRST, second])


@pytest.mark.parametrize("flags", [ACK | PSH, ACK | FIN, ACK | SYN, ACK | CWR, 0])
def test_what_is_not_continued(cutter: Cutter, flags: int) -> None:
    first = replace(FIRST, flags=flags)
    assert joined(cutter, [first, SECOND]) == alone([first, SECOND])


def test_a_shorter_segment_ends_a_run(cutter: Cutter) -> None:
    first, second = (replace(part, payload=b"a" * 50) for part in (FIRST, SECOND))
    short = replace(second, sequence=1050, payload=b"b" * 40)
    after = replace(second, sequence=1090, payload=b"c" * 40)
    raw = replace(first, payload=first.payload + short.payload).super_frame(50)
    assert joined(cutter, [first, short, after]) == [raw, PLAIN + after.frame()]


def test_identifications_count_without_df(cutter: Cutter) -> None:
    first, second = replace(FIRST, df=False), replace(SECOND, df=False, identification=9)
    assert joined(cutter, [first, second]) == alone([first, second])
    assert len(joined(cutter, [first, replace(second, identification=8)])) == 1
    assert len(joined(cutter, [FIRST, replace(SECOND, identification=0)])) == 1


def test_a_datagram_fragment_is_passed_on(cutter: Cutter) -> None:
    frame = bytearray(SECOND.frame())
    frame[20] |= 0x20
    frame[24:26] = (int.from_bytes(frame[24:26], "big") - 0x2000).to_bytes(2, "big")
    assert cutter.coalesce([FIRST.frame(), bytes(frame)]) == [PLAIN + FIRST.frame(), PLAIN + bytes(frame)]


@pytest.mark.parametrize("at", [24, 50, 60])
def test_a_wrong_checksum_is_passed_on_alone(cutter: Cutter, at: int) -> None:
    broken = bytearray(SECOND.frame())
    broken[at] ^= 1
    third = replace(FIRST, sequence=1200)
    expected = [PLAIN + FIRST.frame(), PLAIN + bytes(broken), PLAIN + third.frame()]
    assert cutter.coalesce([FIRST.frame(), bytes(broken), third.frame()]) == expected


def test_flows_may_alternate(cutter: Cutter) -> None:
    others = [replace(part, ports=(1, 2)) for part in (FIRST, SECOND)]
    out = joined(cutter, [FIRST, others[0], SECOND, others[1]])
    whole = replace(FIRST, payload=b"a" * 200)
    assert out == [whole.super_frame(100), replace(whole, ports=(1, 2)).super_frame(100)]


def test_an_acknowledgement_between_keeps_its_place(cutter: Cutter) -> None:
    between = replace(SECOND, payload=b"")
    assert joined(cutter, [FIRST, between, SECOND]) == alone([FIRST, between, SECOND])


def test_nothing_moves_across_what_is_no_tcp(cutter: Cutter) -> None:
    between = replace(FIRST, protocol=UDP)
    assert joined(cutter, [FIRST, between, SECOND]) == alone([FIRST, between, SECOND])


def test_padding_behind_a_packet_stays(cutter: Cutter) -> None:
    padded = FIRST.frame() + bytes(6)
    assert cutter.coalesce([padded, SECOND.frame()]) == [PLAIN + padded, PLAIN + SECOND.frame()]


@settings(max_examples=200)
@given(frames=st.lists(st.binary(max_size=80), max_size=4), cuts=st.lists(st.integers(0, 120), max_size=4))
def test_arbitrary_frames_pass_unchanged(cutter: Cutter, frames: list[bytes], cuts: list[int]) -> None:
    frames += [SECOND.frame()[:cut] for cut in cuts]
    frames += [SECOND.frame()[:12] + frame for frame in frames]
    assert cutter.coalesce(frames) == [PLAIN + frame for frame in frames]


def test_the_reference_joins_only_if_asked(cutter: Cutter) -> None:
    frames = [FIRST.frame(), SECOND.frame()]
    assert len(cutter.coalesce(frames)) == 1
    assert PythonCutter().coalesce(frames) == [PLAIN + frame for frame in frames]


def test_headers_longer_than_any(cutter: Cutter) -> None:
    """Six hundred bytes of IPv6 options, as a hop-by-hop header: their bytes are neither read nor changed."""
    plain, extra = Packet(b"x" * 100, is_ipv6=True), bytes([6, 74]) + bytes(598)
    raw = bytearray(plain.super_frame(60))
    raw[6:8] = (54 + len(extra)).to_bytes(2, "little")
    raw[28:30] = (120 + len(extra)).to_bytes(2, "big")
    raw[64:64] = extra
    first, second = cutter.cut(bytes(raw), where_of(bytes(raw)))
    assert (len(first), len(second)) == (54 + 600 + 20 + 60, 54 + 600 + 20 + 40)
    for frame, part in zip((first, second), expected_frames(plain, 60), strict=True):
        assert frame[:18] + part[18:20] + frame[20:54] + frame[654:] == part


def test_a_large_burst(cutter: Cutter) -> None:
    parts = [part for port in range(40) for part in stream(Packet(os.urandom(20_000), ports=(port, 1)), 1400)]
    assert [len(raw) - 64 for raw in joined(cutter, parts)] == [20_000] * 40
    assert cutter.coalesce([]) == []


def spoiled(chance: random.Random) -> list[bytes]:
    """Frames of some streams between each other, here and there with another header, a wrong bit, or cut off."""
    frames = []
    for _ in range(chance.randint(1, 4)):
        packet = Packet(
            chance.randbytes(chance.randint(1, 400)),
            is_ipv6=chance.random() < 0.4,
            sequence=chance.getrandbits(32),
            flags=chance.choice([ACK, ACK | PSH, ACK | FIN, ACK | ECE, chance.getrandbits(8)]),
            df=chance.random() < 0.6,
            ports=(chance.randint(0, 1), 1),
        )
        for part in stream(packet, chance.randint(20, 200)):
            changes = ({"window": 9}, {"ttl": 3}, {"flags": chance.getrandbits(8)}, {"payload": part.payload[:-1]})
            frame = replace(part, **chance.choice(changes)).frame() if chance.random() < 0.2 else part.frame()
            if chance.random() < 0.1:
                frame = flipped(frame, chance)[: chance.choice([len(frame), chance.randrange(len(frame))])]
            frames.append(frame)
    return frames[::2] + frames[1::2] if chance.random() < 0.2 else frames


def flipped(data: bytes, chance: random.Random) -> bytes:
    bit = chance.randrange(8 * len(data))
    return (int.from_bytes(data, "big") ^ 1 << bit).to_bytes(len(data), "big")


def test_all_cutters_agree_on_what_is_spoiled(cutter: Cutter) -> None:
    chance, reference = random.Random(5), PythonCutter(joins=True)
    super_frames = 0
    for _ in range(200):
        out = cutter.coalesce(frames := spoiled(chance))
        assert out == reference.coalesce(frames)
        for raw in out:
            if not raw[1]:
                continue
            super_frames += 1
            changed = flipped(flipped(raw, chance), chance)
            if where := layout(changed):
                assert cutter.cut(changed, where) == reference.cut(changed, where)
    assert super_frames > 100
