"""UDP packets joined for one write: what the kernel makes of the super-frame are the packets that came."""

from struct import Struct

from hypothesis import given
from hypothesis import strategies as st

from plait.overlay.ethernet import internet_checksum
from plait.overlay.sleeve.cutting import PythonCutter
from plait.overlay.sleeve.plait1.engine import Buffer
from plait.overlay.sleeve.plait1.superframe import GSO_UDP_L4, NEEDS_CSUM, PLAIN_VNET, VNET, layout
from plait.overlay.sleeve.pump.merging import MAX_PACKETS, merge_udp

_IPV4 = Struct(">BBHHHBBH4s4s")
_UDP = Struct(">HHHH")
HERE, THERE = b"\x0a\x20\x00\x01", b"\x0a\x20\x00\x02"
CUTTER = PythonCutter()


def packet(payload: bytes, ident: int = 7, port: int = 53, flags: int = 0, needs_csum: bool = True) -> list[Buffer]:
    length = 8 + len(payload)
    fields = (0x45, 0, 20 + length, ident, flags, 64, 17)
    header = _IPV4.pack(*fields, internet_checksum(_IPV4.pack(*fields, 0, HERE, THERE)), HERE, THERE)
    pseudo = 0xFFFF - internet_checksum(HERE + THERE + b"\x00\x11" + length.to_bytes(2, "big"))
    frame = bytes(12) + b"\x08\x00" + header + _UDP.pack(1000, port, length, pseudo) + payload
    vnet = VNET.pack(NEEDS_CSUM, 0, 0, 0, 34, 6)
    raw = vnet + frame
    return [raw] if needs_csum else [PLAIN_VNET + CUTTER.finish_checksum(raw)]


def cut(pieces: list[Buffer]) -> list[bytes]:
    raw = b"".join(pieces)
    where = layout(raw)
    return [CUTTER.finish_checksum(raw)] if where is None else CUTTER.cut(raw, where)


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=90), st.integers(0, 0xFFFF))
def test_the_packets_stay_the_same(payloads: list[bytes], ident: int) -> None:
    packets = [packet(payload, (ident + at) & 0xFFFF) for at, payload in enumerate(payloads)]
    merged = merge_udp(packets)
    assert [frame for pieces in merged for frame in cut(pieces)] == [
        CUTTER.finish_checksum(b"".join(p)) for p in packets
    ]


def test_equal_packets_become_one_super_frame() -> None:
    merged = merge_udp([packet(bytes([at]) * 64, at) for at in range(20)])
    assert len(merged) == 1
    assert VNET.unpack_from(merged[0][0])[:4] == (NEEDS_CSUM, GSO_UDP_L4, 42, 64)


def test_no_super_frame_is_larger_than_old_kernels_take() -> None:
    merged = merge_udp([packet(b"x", at) for at in range(MAX_PACKETS + 5)])
    assert [len(pieces[0]) - 52 for pieces in merged] == [MAX_PACKETS, 5]


def test_what_differs_is_left_alone() -> None:
    alone: list[list[list[Buffer]]] = [
        [packet(b"a"), packet(b"bb")],
        [packet(b"a"), packet(b"b", port=54)],
        [packet(b"a", needs_csum=False), packet(b"b", needs_csum=False)],
        [packet(b"a", flags=0x2000), packet(b"b", flags=0x2000)],
        [packet(b"a", flags=0x4000), packet(b"b")],
        [packet(b"a"), [packet(b"b")[0], b"c"]],
        [[b"short"], [b"short"]],
    ]
    for packets in alone:
        assert merge_udp(packets) == packets
