"""Every sleeve datagram of the live captures, decoded and compared with the narrative beside them."""

from typing import Any

import pytest

from plait.overlay.ethernet import FrameKind, classify
from plait.overlay.sleeve import datagram as d
from plait.overlay.sleeve.crypto import Opener
from plait.overlay.sleeve.sender import Path, Way, choose_way
from unit.overlay import captures
from unit.overlay.captures import PEERS, Capture, Datagram

NAMES = [
    "frag-blocked-underlay-h1",
    "nat-underlay-h1",
    "nat-underlay-h2",
    "pmtu-blackhole-underlay-h1",
    "pmtu-icmp-underlay-h1",
    "reject-underlay-h1",
    "relay-small-underlay-h2-side1",
    "relay-small-underlay-h2-side3",
    "relay-underlay-h2-side1",
    "relay-underlay-h2-side3",
    "two-encrypted-underlay-h1",
    "two-plain-underlay-h1",
]
DIALLER = PEERS["A(h1)"]


class Reader:
    """Opens the datagrams of a capture as their receivers did, replay windows included."""

    def __init__(self, capture: Capture) -> None:
        key = capture.session_key
        self._openers = {name: Opener(key, is_outbound=name != DIALLER) for name in PEERS.values()} if key else {}

    def records(self, datagram: Datagram) -> list[d.Record]:
        sender = d.sender_of(datagram.payload)
        assert sender is not None
        if not self._openers:
            decoded = d.decode_records(datagram.payload, 6)
        else:
            opened = self._openers[sender].open(datagram.payload)
            assert isinstance(opened, bytes), opened
            decoded = d.decode_records(opened)
        assert decoded.error is None
        return decoded.records


@pytest.mark.parametrize("name", NAMES)
def test_capture_matches_its_narrative(name: str) -> None:
    capture = captures.load(name)
    reader = Reader(capture)
    told = {packet["n"]: packet for packet in capture.packets if "sleeve" in packet}
    assert told
    assert [datagram.number for datagram in capture.datagrams] == list(told)
    for datagram in capture.datagrams:
        packet = told[datagram.number]
        sleeve = packet["sleeve"]
        assert datagram.df == packet["df"]
        assert d.sender_of(datagram.payload) == PEERS[sleeve["sender_peer"]]
        if capture.session_key:
            number = int.from_bytes(datagram.payload[6:14], "big")
            assert (number >> 63 == 1, number & (1 << 63) - 1) == (sleeve["df_bit"], sleeve["seq"])
            assert sleeve["sender_outbound"] == (PEERS[sleeve["sender_peer"]] == DIALLER)
        records = reader.records(datagram)
        assert len(records) == len(sleeve["frames"])
        for record, expected in zip(records, sleeve["frames"], strict=True):
            check_record(record, expected)


def check_record(record: d.Record, expected: dict[str, Any]) -> None:
    src, dst, frame = record
    assert (src, dst, len(frame)) == (PEERS[expected["src_peer"]], PEERS[expected["dst_peer"]], expected["len"])
    assert (classify(frame) is FrameKind.SPECIAL) == ("special" in expected)
    if "special" in expected:
        assert d.special_kind(len(frame)).value == expected["special"]
        uid = d.heartbeat_uid(frame)
        assert uid == (int(expected["conn_uid"]) if "conn_uid" in expected else None)
        assert d.is_all_zero(frame) == expected.get("all_zero", False)
        assert len(frame) - 14 == expected.get("candidate_mtu", len(frame) - 14)
    else:
        words = expected["frame"].split()
        assert (frame[6:12].hex(":"), frame[:6].hex(":")) == (words[0], words[2])
        is_ipv4 = classify(frame) in (FrameKind.IPV4, FrameKind.IPV4_DF)
        assert is_ipv4 == (words[3] == "IPv4")
        assert (classify(frame) is FrameKind.IPV4_DF) == (is_ipv4 and "DF" in words)


@pytest.mark.parametrize("name", NAMES)
def test_frames_leave_as_weave_sent_them(name: str) -> None:
    """Once tests are over, our choice between DF and plain socket is the one on the wire."""
    capture = captures.load(name)
    reader = Reader(capture)
    mtu = 1438 if capture.session_key is None else 1414
    stack_frag = not name.startswith("frag-blocked")
    path = Path(("192.0.2.2", 6783), mtu, mtu + d.mtu_overhead(capture.session_key is not None) - 28, stack_frag)
    seen = 0
    for datagram in capture.datagrams:
        for _, dst, frame in reader.records(datagram):
            if classify(frame) is not FrameKind.SPECIAL:
                way = choose_way(frame, path, is_broadcast=bool(frame[0] & 1))
                assert (way is Way.DF_SOCKET) == datagram.df, (datagram.number, dst.hex(), way)
                seen += 1
    assert seen or name.startswith("pmtu")


def test_encoding_the_records_again_gives_the_payload() -> None:
    capture = captures.load("two-plain-underlay-h1")
    reader = Reader(capture)
    for datagram in capture.datagrams:
        assert d.encode_plain(datagram.payload[:6], reader.records(datagram)) == datagram.payload
