"""The clear header, probes and acknowledgements, byte by byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.overlay.sleeve.plait1 import wire
from plait.overlay.sleeve.plait1.wire import Ack, Kind

SENDER = bytes.fromhex("020000000001")
ENDS = bytes.fromhex("0200000000aa0200000000bb")


@pytest.mark.parametrize(
    ("kind", "encrypted", "relay", "expected"),
    [
        (Kind.RECORDS, False, b"", "020000000001 11 00 0102030405060708"),
        (Kind.SEGMENT, True, b"", "020000000001 12 01 0102030405060708"),
        (Kind.PROBE, False, ENDS, "020000000001 13 02 0102030405060708 0200000000aa 0200000000bb"),
        (Kind.ACK, True, ENDS, "020000000001 14 03 0102030405060708 0200000000aa 0200000000bb"),
    ],
)
def test_the_clear_header(kind: Kind, encrypted: bool, relay: bytes, expected: str) -> None:
    header = wire.clear_header(SENDER, kind, 0x0102030405060708, encrypted=encrypted, relay=relay)
    assert header == bytes.fromhex(expected)
    assert len(header) == wire.HEADER_BYTES + len(relay)


def test_only_four_kinds_of_version_1_are_known() -> None:
    assert wire.KINDS == {0x11: Kind.RECORDS, 0x12: Kind.SEGMENT, 0x13: Kind.PROBE, 0x14: Kind.ACK}


def test_overheads_are_those_of_the_specification() -> None:
    assert [wire.mtu_overhead(encrypted) for encrypted in (False, True)] == [72, 104]
    assert [wire.mtu_overhead(encrypted, is_ipv6=True) for encrypted in (False, True)] == [92, 124]
    assert (wire.HEADER_BYTES, wire.RELAY_BYTES, wire.PROBE_BODY_BYTES) == (16, 12, 26)


def test_an_acknowledgement() -> None:
    body = wire.encode_ack(Ack(0x1122334455667788, 9, 1500, 2**40))
    assert body == bytes.fromhex("1122334455667788 0000000000000009 05dc 0000010000000000")
    assert wire.decode_ack(body) == Ack(0x1122334455667788, 9, 1500, 2**40)
    assert wire.decode_ack(body[:-1]) is None
    assert wire.decode_ack(body + b"\x00") is None


@pytest.mark.parametrize(("asked", "given"), [(-5, 26), (0, 26), (26, 26), (27, 27), (1400, 1400)])
def test_a_probe(asked: int, given: int) -> None:
    body = wire.encode_probe(0x1122334455667788, asked)
    assert body == bytes.fromhex("1122334455667788") + bytes(given - 8)
    assert wire.decode_probe(body) == 0x1122334455667788


def test_an_acknowledgement_is_no_larger_than_any_probe() -> None:
    assert len(wire.encode_ack(Ack(0, 0, 0, 0))) <= len(wire.encode_probe(0, 0))


@given(st.binary(max_size=40))
def test_bodies_of_a_peer_never_raise(body: bytes) -> None:
    uid, ack = wire.decode_probe(body), wire.decode_ack(body)
    assert (uid is None) is (len(body) < 26)
    assert (ack is None) is (len(body) != 26)


@given(*[st.integers(0, 2**64 - 1)] * 2, st.integers(0, 0xFFFF), st.integers(0, 2**64 - 1))
def test_acknowledgements_come_back(uid: int, sequence: int, size: int, received: int) -> None:
    ack = Ack(uid, sequence, size, received)
    assert wire.decode_ack(wire.encode_ack(ack)) == ack
