import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.overlay.sleeve.crypto import Opener, Sealer
from plait.overlay.sleeve.datagram import MAX_PAYLOAD_BYTES, Record, decode_records, encode_plain
from plait.overlay.sleeve.sender import Batcher, Path, Way, choose_way, segment_runs
from unit.overlay.packets import ipv4, ipv6

REMOTE = ("192.0.2.2", 6783)
VERIFIED = Path(REMOTE, 1438, 1472, True)
NO_FRAGMENTS = Path(REMOTE, 1438, 1472, False)
UNTESTED = Path(REMOTE)
US, PEER = b"\x02" + bytes(4) + b"\x0a", b"\x02" + bytes(4) + b"\x0b"
ARP = bytes.fromhex("ffffffffffffaabbcc0000010806") + bytes(46)


@pytest.mark.parametrize(
    ("frame", "path", "is_broadcast", "way"),
    [
        (ipv4(bytes(1410), df=True), VERIFIED, False, Way.DF_SOCKET),
        (ipv4(bytes(1418), df=True), VERIFIED, False, Way.DF_SOCKET),
        (ipv4(bytes(1419), df=True), VERIFIED, False, Way.TOO_BIG),
        (ipv4(bytes(1419), df=True), VERIFIED, True, Way.DROP_BROADCAST_TOO_BIG),
        (ipv4(bytes(9000), df=True), UNTESTED, False, Way.DF_SOCKET),
        (ipv4(bytes(100)), VERIFIED, False, Way.PLAIN_SOCKET),
        (ipv4(bytes(3000)), VERIFIED, False, Way.PLAIN_SOCKET),
        (ipv4(bytes(100)), NO_FRAGMENTS, False, Way.DF_SOCKET),
        (ipv4(bytes(3000)), NO_FRAGMENTS, False, Way.INNER_FRAGMENTS),
        (ipv4(bytes(3000)), NO_FRAGMENTS, True, Way.INNER_FRAGMENTS),
        (ARP, VERIFIED, True, Way.PLAIN_SOCKET),
        (ARP, NO_FRAGMENTS, True, Way.PLAIN_SOCKET),
        (ARP + bytes(3000), NO_FRAGMENTS, False, Way.PLAIN_SOCKET),
        (ipv6(bytes(2000)), VERIFIED, False, Way.PLAIN_SOCKET),
        (ipv6(bytes(2000)), UNTESTED, False, Way.PLAIN_SOCKET),
        (ipv6(bytes(1398)), NO_FRAGMENTS, False, Way.PLAIN_SOCKET),
        (ipv6(bytes(1399)), NO_FRAGMENTS, False, Way.TOO_BIG),
        (ipv6(bytes(1399)), NO_FRAGMENTS, True, Way.PLAIN_SOCKET),
        (ipv6(bytes(1240)), Path(REMOTE, 552, 586, False), False, Way.PLAIN_SOCKET),
        (ipv6(bytes(1241)), Path(REMOTE, 552, 586, False), False, Way.TOO_BIG),
        (ipv4(bytes(100), df=True), Path(), False, Way.DROP_NO_ADDRESS),
        (ipv4(bytes(3000), df=True)[:26], VERIFIED, False, Way.PLAIN_SOCKET),
    ],
)
def test_ways(frame: bytes, path: Path, is_broadcast: bool, way: Way) -> None:
    assert choose_way(frame, path, is_broadcast) is way


def plain(*, df: bool = True, max_payload: int = 1472) -> Batcher:
    return Batcher(US, None, df=df, max_payload=max_payload)


def test_small_frames_share_a_datagram() -> None:
    batcher = plain()
    for number in range(10):
        assert batcher.add(US, PEER, bytes([number]) * 66)
    assert batcher.flush() == [encode_plain(US, [(US, PEER, bytes([number]) * 66) for number in range(10)])]
    assert batcher.flush() == []


def test_full_frames_fill_equal_datagrams() -> None:
    batcher = plain()
    for _ in range(40):
        batcher.add(US, PEER, bytes(1452))
    batcher.add(US, PEER, bytes(700))
    payloads = batcher.flush()
    assert [len(payload) for payload in payloads] == [1472] * 40 + [720]
    assert [len(run) for run in segment_runs(payloads, 1472)] == [16, 16, 9]


def test_a_frame_too_big_for_the_link_is_refused_and_harms_no_other() -> None:
    batcher = plain()
    assert batcher.add(US, PEER, bytes(100))
    assert not batcher.add(US, PEER, bytes(1453))
    assert batcher.add(US, PEER, bytes(100))
    assert batcher.flush() == [encode_plain(US, [(US, PEER, bytes(100))] * 2)]


def test_one_frame_may_fill_a_plain_datagram() -> None:
    batcher = plain(df=False)
    assert batcher.add(US, PEER, bytes(100))
    assert batcher.add(US, PEER, bytes(65507 - 20))
    assert not batcher.add(US, PEER, bytes(65507 - 19))
    assert batcher.add(US, PEER, bytes(100))
    assert [len(payload) for payload in batcher.flush()] == [120, 65507, 120]


def test_a_changed_path_counts_from_the_next_datagram_on() -> None:
    batcher = plain()
    batcher.add(US, PEER, bytes(1452))
    batcher.max_payload = 586
    assert not batcher.add(US, PEER, bytes(1452))
    assert batcher.add(US, PEER, bytes(566))
    assert [len(payload) for payload in batcher.flush()] == [1472, 586]


def test_encrypted_batches_are_sealed_in_order() -> None:
    key = bytes(range(32))
    sealer = Sealer(US, key, is_outbound=True, first_sequence=100)
    batcher = Batcher(US, sealer, df=True, max_payload=1472)
    for _ in range(3):
        assert batcher.add(US, PEER, bytes(1428))
    assert not batcher.add(US, PEER, bytes(1429))
    opener = Opener(key, is_outbound=False)
    payloads = batcher.flush()
    assert [len(payload) for payload in payloads] == [1472] * 3
    assert [int.from_bytes(payload[6:14], "big") for payload in payloads] == [(1 << 63) + 100 + i for i in range(3)]
    for payload in payloads:
        opened = opener.open(payload)
        assert isinstance(opened, bytes)
        assert decode_records(opened).records == [(US, PEER, bytes(1428))]


frames = st.lists(st.integers(0, 2000), max_size=60)


@given(frames, st.booleans(), st.integers(586, 1472))
def test_every_accepted_frame_arrives_in_order(lengths: list[int], df: bool, max_payload: int) -> None:
    batcher = plain(df=df, max_payload=max_payload)
    accepted: list[Record] = []
    for length in lengths:
        record = (US, PEER, bytes(length))
        if batcher.add(*record):
            accepted.append(record)
        else:
            assert df
            assert length + 20 > max_payload
    payloads = batcher.flush()
    arrived = [record for payload in payloads for record in decode_records(payload, 6).records]
    assert arrived == accepted
    for payload in payloads:
        assert len(payload) <= max_payload or (not df and len(decode_records(payload, 6).records) == 1)


@given(st.lists(st.sampled_from([0, 100, 1400, 1472, 3000, 60000]), max_size=80), st.integers(1, 64))
def test_runs_are_what_udp_segment_takes(lengths: list[int], max_segments: int) -> None:
    payloads = [bytes(length) for length in lengths]
    runs = list(segment_runs(payloads, 1472, max_segments))
    assert [payload for run in runs for payload in run] == payloads
    for run in runs:
        assert 1 <= len(run) <= max_segments
        assert all(len(payload) == len(run[0]) for payload in run[:-1])
        assert len(run[-1]) <= len(run[0])
        assert sum(map(len, run)) <= MAX_PAYLOAD_BYTES
        assert len(run) == 1 or len(run[0]) <= 1472
