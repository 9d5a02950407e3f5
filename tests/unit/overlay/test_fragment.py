import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
from plait.overlay.sleeve.fragment import fragment_ipv4
from unit.overlay.packets import Ipv4Packet, checksum_is_right, ipv4, ipv6

VECTORS = "sleeve/inner_fragmentation.json"

golden.expect_entered("fragment.fragment_ipv4")


@pytest.mark.parametrize("case", golden.cases(VECTORS, "vectors"), ids=golden.case_id)
def test_inner_fragmentation(case: dict[str, Any]) -> None:
    frame = bytes.fromhex(case["input_hex"])
    assert len(frame) == case["input_len"]
    pieces = fragment_ipv4(frame, case["mtu"])
    assert len(pieces) == len(case["fragments"])
    for piece, expected in zip(pieces, case["fragments"], strict=True):
        assert len(piece) == expected["len"]
        assert piece.hex().startswith(expected["eth_ip_header_hex"])
        assert hashlib.sha256(piece).hexdigest() == expected["frame_sha256"]


@pytest.mark.parametrize(
    ("frame", "mtu"),
    [
        (ipv6(bytes(3000)), 1438),
        (ipv4(bytes(3000))[:-1], 1438),
        (ipv4(bytes(3000)), 27),
        (ipv4(bytes(3000)), 0),
        (ipv4(bytes(3000), flags_offset=0x1FFF), 1438),
        (ipv4(b""), 1438),
        (b"", 1438),
    ],
)
def test_what_cannot_be_cut_gives_nothing(frame: bytes, mtu: int) -> None:
    assert fragment_ipv4(frame, mtu) == []


@given(
    st.binary(min_size=1, max_size=4000),
    st.integers(68, 1500),
    st.sampled_from([b"", b"\x94\x04\x00\x00"]),
    st.integers(0, 100),
    st.booleans(),
    st.binary(max_size=10),
)
def test_pieces_fit_and_join_to_the_packet(
    payload: bytes, mtu: int, options: bytes, offset: int, more: bool, trailer: bytes
) -> None:
    frame = ipv4(payload, options=options, flags_offset=offset | more << 13, trailer=trailer)
    joined, at = b"", offset * 8
    pieces = [Ipv4Packet.of(piece) for piece in fragment_ipv4(frame, mtu)]
    for index, piece in enumerate(pieces):
        assert piece.total <= mtu
        assert len(piece.header) + len(piece.payload) == piece.total
        assert piece.offset == at
        assert piece.flags == (1 if index < len(pieces) - 1 or more else 0)
        assert checksum_is_right(piece.header)
        joined += piece.payload
        at += len(piece.payload)
    assert joined == payload


@given(st.binary(max_size=80), st.integers(0, 100))
def test_any_bytes_are_cut_or_refused(data: bytes, mtu: int) -> None:
    for frame in (data, bytes(12) + b"\x08\x00" + data, bytes(12) + b"\x08\x00\x45\x00" + data):
        assert all(len(piece) <= max(mtu, 0) + 14 for piece in fragment_ipv4(frame, mtu))
        golden.entered("fragment.fragment_ipv4")
