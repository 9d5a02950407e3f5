from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
from plait.mesh import gob, topology
from plait.mesh.gob import GobError
from plait.mesh.name import PeerName
from plait.mesh.records import ConnectionSummary, PeerRecord, PeerSummary
from plait.mesh.topology import decode_topology, encode_topology
from unit.mesh.fuzz import damaged

golden.expect_entered("decode_topology")

names = st.integers(0, 2**48 - 1).map(PeerName)
texts = st.binary(max_size=12).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
summaries = st.builds(
    PeerSummary,
    name=names,
    nickname=texts,
    uid=st.integers(0, 2**64 - 1),
    version=st.integers(0, 2**64 - 1),
    short_id=st.one_of(st.none(), st.integers(0, 4095)),
)
connections = st.builds(ConnectionSummary, names, texts, st.booleans(), st.booleans())
records = st.builds(PeerRecord, summaries, st.lists(connections, max_size=4).map(tuple))
updates = st.lists(records, max_size=4)


def record_from(peer: dict[str, Any]) -> PeerRecord:
    summary = peer["summary"]
    assert summary["NameByte"] == PeerName.parse(peer["name"]).to_bytes6().hex()
    return PeerRecord(
        PeerSummary(
            PeerName.parse(peer["name"]),
            summary["NickName"],
            summary["UID"],
            summary["Version"],
            summary["ShortID"] if summary["HasShortID"] else None,
        ),
        tuple(
            ConnectionSummary(
                PeerName(int(connection["NameByte"], 16)),
                connection["RemoteTCPAddr"],
                connection["Outbound"],
                connection["Established"],
            )
            for connection in peer["connections"]
        ),
    )


def by_name(peers: list[PeerRecord]) -> dict[PeerName, tuple[PeerSummary, frozenset[ConnectionSummary]]]:
    return {peer.name: (peer.summary, frozenset(peer.connections)) for peer in peers}


@pytest.mark.parametrize("case", golden.cases("mesh/topology_updates.json"), ids=golden.case_id)
def test_updates_of_weave(case: dict[str, Any]) -> None:
    payload = bytes.fromhex(case["hex"])
    expected = [record_from(peer) for peer in case["peers"]]
    decoded = decode_topology(payload)
    assert by_name(decoded) == by_name(expected)
    assert decode_topology(encode_topology(expected)) == expected


@pytest.mark.parametrize("case", golden.cases("mesh/topology_updates.json"), ids=golden.case_id)
def test_updates_are_written_byte_for_byte_like_weave(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the numbers that the Go process had given to the two types when it made the vectors."""
    encoder = gob.Encoder(topology.PEER_SUMMARY, topology.CONNECTION_SUMMARIES, first_id=66)
    monkeypatch.setattr(topology, "_encoder", encoder)
    monkeypatch.setattr(topology, "_cache", topology._RecordCache(0))
    payload = bytes.fromhex(case["hex"])
    assert encode_topology(decode_topology(payload)) == payload


@given(updates)
def test_what_is_written_is_read_back(peers: list[PeerRecord]) -> None:
    golden.entered("decode_topology")
    assert decode_topology(encode_topology(peers)) == peers


@given(st.one_of(st.binary(max_size=80), damaged(updates.map(encode_topology))))
def test_damage_gives_gob_errors_only(payload: bytes) -> None:
    golden.entered("decode_topology")
    try:
        peers = decode_topology(payload)
    except GobError:
        return
    assert all(isinstance(peer, PeerRecord) for peer in peers)


def test_no_peers_are_an_empty_payload() -> None:
    assert encode_topology([]) == b""
    assert decode_topology(b"") == []


def test_a_record_without_its_connections_at_the_end_is_dropped() -> None:
    whole = PeerRecord(PeerSummary(PeerName(1), "a", 1, 1, 1))
    payload = encode_topology([whole, PeerRecord(PeerSummary(PeerName(2)))])
    assert decode_topology(payload[: -len(bytes.fromhex("04ff840000"))]) == [whole]


def test_records_are_encoded_once_as_long_as_they_live() -> None:
    cache = topology._RecordCache(10_000)
    record = PeerRecord(PeerSummary(PeerName(1), "a"))
    assert cache.encoded(record) is cache.encoded(record)


def test_the_cache_forgets_the_oldest_beyond_its_limit() -> None:
    cache = topology._RecordCache(300)
    old = PeerRecord(PeerSummary(PeerName(1), "a" * 100))
    first = cache.encoded(old)
    for number in range(2, 5):
        cache.encoded(PeerRecord(PeerSummary(PeerName(number), "b" * 100)))
    assert cache.encoded(old) == first
    assert cache.encoded(old) is not first


def test_a_record_larger_than_the_cache_is_encoded_all_the_same() -> None:
    cache = topology._RecordCache(10)
    record = PeerRecord(PeerSummary(PeerName(1), "a" * 100))
    assert cache.encoded(record) == cache.encoded(record)
