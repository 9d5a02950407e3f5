from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
from plait.overlay import ethernet
from plait.overlay.ethernet import FrameKind

golden.expect_entered("ethernet.classify")

LAYERS = {
    FrameKind.TOO_SHORT: 0,
    FrameKind.SPECIAL: 1,
    FrameKind.NOT_IPV4: 1,
    FrameKind.IPV4: 2,
    FrameKind.IPV4_DF: 2,
}


@pytest.mark.parametrize("case", golden.cases("sleeve/frame_classification.json", ""), ids=golden.case_id)
def test_classification(case: dict[str, Any]) -> None:
    frame = bytes.fromhex(case["frame_hex"]) if "frame_hex" in case else bytes(case["length"])
    assert len(frame) == case["length"]
    kind = ethernet.classify(frame)
    assert LAYERS[kind] == case["decoded_layers"]
    assert (kind is FrameKind.TOO_SHORT) == case.get("dropped", False)
    assert (kind is FrameKind.IPV4_DF) == case.get("df", False)
    assert (kind is FrameKind.SPECIAL) == case.get("is_special", False)


@pytest.mark.parametrize(
    "packet",
    [
        b"\x44" + bytes(40),  # header length below 20
        b"\x65" + bytes(2) + b"\x28" + bytes(40),  # version 6
        b"\x4f\x00\x00\x3c" + bytes(40),  # options cut off
        b"\x45\x00\x00\x13" + bytes(40),  # total length below the header's
    ],
)
def test_damaged_ipv4_headers_are_not_ipv4(packet: bytes) -> None:
    frame = bytes.fromhex("aabbcc000002aabbcc0000010800") + packet
    assert ethernet.classify(frame) is FrameKind.NOT_IPV4


@given(st.binary(max_size=80))
def test_any_bytes_have_a_kind(frame: bytes) -> None:
    assert (ethernet.classify(frame) is FrameKind.TOO_SHORT) == (len(frame) < 14)
    golden.entered("ethernet.classify")


@given(st.binary(max_size=80))
def test_any_ipv4_ethertype_is_bounded(rest: bytes) -> None:
    frame = bytes(12) + ethernet.ETHERTYPE_IPV4 + rest
    assert ethernet.ipv4_header_bytes(frame) <= len(rest)


@given(st.binary(max_size=64))
def test_checksum_is_the_sum_of_rfc_1071(data: bytes) -> None:
    padded = data + bytes(len(data) % 2)
    total = sum(int.from_bytes(padded[at : at + 2], "big") for at in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert ethernet.internet_checksum(data) == ~total & 0xFFFF


def test_sender_addresses_are_unicast() -> None:
    assert ethernet.is_unicast_mac(bytes.fromhex("020000000001"))
    assert not ethernet.is_unicast_mac(ethernet.BROADCAST_MAC)
    assert not ethernet.is_unicast_mac(ethernet.STP_MAC)
    assert not ethernet.is_unicast_mac(ethernet.ZERO_MAC)
