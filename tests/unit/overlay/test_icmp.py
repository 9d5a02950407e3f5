from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
from plait.overlay.sleeve.icmp import too_big_answer
from unit.overlay.packets import checksum_is_right, ipv4, ipv6

VECTORS = "sleeve/icmp_frag_needed.json"

golden.expect_entered("icmp.too_big_answer")


def pattern(length: int) -> bytes:
    return bytes((index * 7 + 3) % 256 for index in range(length))


@pytest.mark.parametrize("case", golden.cases(VECTORS, ""), ids=golden.case_id)
def test_fragmentation_needed(case: dict[str, Any]) -> None:
    frame = bytes.fromhex(case["offending_frame_first_64_hex"]).ljust(case["offending_frame_len"], b"\x00")
    answer = too_big_answer(frame, case["mtu"])
    assert answer is not None
    assert answer.hex() == case["reply_frame_hex"]
    assert len(answer) == case["reply_len"]


def test_packet_too_big() -> None:
    frame = ipv6(pattern(1600))
    answer = too_big_answer(frame, 1438)
    assert answer is not None
    assert answer[:14] == frame[6:12] + frame[:6] + b"\x86\xdd"
    packet = answer[14:]
    assert len(packet) == 1280
    assert packet[:8] == b"\x60\x00\x00\x00" + (1240).to_bytes(2, "big") + bytes([58, 64])
    assert packet[8:24] == frame[38:54]
    assert packet[24:40] == frame[22:38]
    assert packet[40:42] == b"\x02\x00"
    assert int.from_bytes(packet[44:48], "big") == 1438
    assert packet[48:] == frame[14 : 14 + 1232]
    pseudo_header = packet[8:40] + (1240).to_bytes(4, "big") + (58).to_bytes(4, "big")
    assert checksum_is_right(pseudo_header + packet[40:])


def test_packet_too_big_never_names_less_than_1280() -> None:
    answer = too_big_answer(ipv6(bytes(1600)), 552)
    assert answer is not None
    assert int.from_bytes(answer[58:62], "big") == 1280


@pytest.mark.parametrize(
    "frame",
    [
        ipv4(b"\x03\x04" + bytes(1500), df=True, protocol=1),  # about an ICMP error
        ipv4(bytes(1500), flags_offset=0x4001),  # about a later fragment
        ipv4(bytes(1500), df=True, source="0.0.0.0"),
        ipv4(bytes(1500), df=True, source="224.0.0.1"),
        ipv4(bytes(1500), df=True, destination="239.1.2.3"),
        ipv4(bytes(1500), df=True, destination="255.255.255.255"),
        b"\xff" * 6 + ipv4(bytes(1500), df=True)[6:],
        ipv6(bytes(1500), source=bytes(16)),
        ipv6(bytes(1500), source=b"\xff" + bytes(15)),
        b"\x33" * 6 + ipv6(bytes(1500))[6:],
        ipv6(bytes(1500))[:40],
        bytes(12) + b"\x08\x06" + bytes(1500),
        b"",
    ],
)
def test_what_must_not_be_answered(frame: bytes) -> None:
    assert too_big_answer(frame, 1438) is None


def test_an_echo_request_is_answered() -> None:
    assert too_big_answer(ipv4(b"\x08\x00" + bytes(1500), df=True, protocol=1), 1438) is not None


@given(
    st.binary(max_size=100),
    st.sampled_from([b"", bytes(12) + b"\x08\x00\x45", bytes(12) + b"\x86\xdd\x60"]),
    st.integers(0, 70000),
)
def test_any_bytes_are_answered_or_not(data: bytes, head: bytes, mtu: int) -> None:
    answer = too_big_answer(head + data, mtu)
    golden.entered("icmp.too_big_answer")
    assert answer is None or len(answer) <= 14 + 1280
