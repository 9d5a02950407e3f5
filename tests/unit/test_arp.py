"""The frames that ask for an address, and what counts as an answer."""

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.host.arp import answering_mac, arp_request, gratuitous_arp, neighbour_solicitation

OURS, THEIRS = bytes.fromhex("0200000000a1"), bytes.fromhex("0200000000c1")
FOUR, SIX = IPv4Address("10.32.0.3"), IPv6Address("fd00::3")


def arp_reply(sender: IPv4Address) -> bytes:
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2)
    return OURS + THEIRS + b"\x08\x06" + head + THEIRS + sender.packed + OURS + FOUR.packed


def advertisement(target: IPv6Address, option: bytes = b"") -> bytes:
    message = struct.pack("!BBHI", 136, 0, 0, 0x60000000) + target.packed + option
    head = struct.pack("!IHBB", 6 << 28, len(message), 58, 255) + target.packed + IPv6Address("fd00::1").packed
    return OURS + THEIRS + b"\x86\xdd" + head + message


def sum_of(data: bytes) -> int:
    """The Internet's sum; 0xffff over what carries its checksum."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return total % 0xFFFF or 0xFFFF


@pytest.mark.parametrize(("to", "destination"), [(None, b"\xff" * 6), (THEIRS, THEIRS)])
def test_an_arp_request_asks_all_or_one(to: bytes | None, destination: bytes) -> None:
    frame = arp_request(OURS, IPv4Address("10.32.0.1"), FOUR, to)
    assert frame[:14] == destination + OURS + b"\x08\x06"
    assert frame[20:] == b"\0\1" + OURS + bytes((10, 32, 0, 1)) + bytes(6) + FOUR.packed


@pytest.mark.parametrize(
    ("to", "mac", "address"),
    [(None, bytes.fromhex("3333ff000003"), IPv6Address("ff02::1:ff00:3")), (THEIRS, THEIRS, SIX)],
)
def test_a_solicitation_asks_the_group_or_one(to: bytes | None, mac: bytes, address: IPv6Address) -> None:
    source = IPv6Address("fd00::1")
    frame = neighbour_solicitation(OURS, source, SIX, to)
    message = frame[54:]
    assert frame[:14] == mac + OURS + b"\x86\xdd"
    assert frame[14:54] == struct.pack("!IHBB", 6 << 28, 32, 58, 255) + source.packed + address.packed
    assert (message[0], message[8:24], message[24:]) == (135, SIX.packed, b"\x01\x01" + OURS)
    assert sum_of(source.packed + address.packed + struct.pack("!II", len(message), 58) + message) == 0xFFFF


def test_answers_name_who_has_the_address() -> None:
    other = bytes.fromhex("0200000000c9")
    assert answering_mac(arp_reply(FOUR), FOUR) == THEIRS
    assert answering_mac(advertisement(SIX, b"\x02\x01" + other), SIX) == other
    assert answering_mac(advertisement(SIX), SIX) == THEIRS


def test_what_is_no_answer_to_the_question() -> None:
    assert answering_mac(arp_reply(IPv4Address("10.32.0.4")), FOUR) is None
    assert answering_mac(gratuitous_arp(THEIRS, FOUR), FOUR) is None  # a request
    assert answering_mac(advertisement(IPv6Address("fd00::4")), SIX) is None
    assert answering_mac(neighbour_solicitation(THEIRS, SIX, SIX), SIX) is None


@given(st.binary(max_size=100), st.sampled_from([FOUR, SIX]))
def test_any_bytes_can_be_read(frame: bytes, target: IPv4Address | IPv6Address) -> None:
    mac = answering_mac(frame, target)
    assert mac is None or len(mac) == 6


@given(st.integers(0, 85))
def test_answers_that_break_off(length: int) -> None:
    for answer, target in ((arp_reply(FOUR), FOUR), (advertisement(SIX, b"\x02\x01" + THEIRS), SIX)):
        assert answering_mac(answer[:length], target) in (None, THEIRS)
