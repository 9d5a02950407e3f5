from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
from plait.errors import PlaitError
from plait.ipam import codec
from plait.ipam.address import Range, text
from plait.ipam.codec import GossipState, Kind
from plait.ipam.paxos import Claims, Proposal, Voter
from plait.mesh import gob
from plait.mesh.name import PeerName
from unit.ipam.notation import message_text, range_of, ring_of, ring_text, state_text

STATE = GossipState(7, {PeerName(1): "one"}, {}, None)

golden.expect_entered("ipam unicast")
golden.expect_entered("ipam state")


@pytest.mark.parametrize("case", golden.cases("ipam/ring_gob.json"), ids=golden.case_id)
def test_ring(case: dict[str, Any]) -> None:
    ring = gob.decode(codec.RING, bytes.fromhex(case["hex"]))
    assert ring_text(ring) == case["ring"]
    assert gob.Encoder(codec.RING).stream(ring_of(case["ring"])).hex() == case["hex"], "bytes as Go writes them"


def test_first_divisions() -> None:
    for case in golden.cases("ipam/ring_claim_for_peers.json"):
        ring = gob.decode(codec.RING, bytes.fromhex(case["ring_gob"]))
        assert (ring_text(ring)["entries"], ring_text(ring)["seeds"]) == (case["entries"], case["seeds"])


def test_merged_rings() -> None:
    for case in golden.cases("ipam/ring_merge.json"):
        assert ring_text(gob.decode(codec.RING, bytes.fromhex(case["received_gob"]))) == case["received"]


def test_live_messages() -> None:
    for message in golden.cases("ipam/live_messages.json", "messages"):
        payload = bytes.fromhex(message["hex"])
        if message["kind"] == "unicast":
            assert message_text(payload) == message["decoded"]
            continue
        state = codec.decode_state(payload)
        assert state_text(state) == message["decoded"]
        assert codec.decode_state(codec.encode_state(state)) == state


def test_no_map_and_an_empty_map_differ() -> None:
    empty = codec.decode_state(codec.encode_state(STATE))
    absent = codec.decode_state(codec.encode_state(STATE._replace(paxos=None)))
    assert (empty.paxos, absent.paxos) == ({}, None)


def test_unicasts() -> None:
    wanted = Range(1, 5)
    assert codec.decode_unicast(codec.space_request(wanted)) == (Kind.SPACE_REQUEST, wanted)
    assert codec.decode_unicast(codec.space_request_denied(wanted)) == (Kind.SPACE_REQUEST_DENIED, wanted)
    assert codec.decode_unicast(codec.ring_update(STATE)) == (Kind.RING_UPDATE, STATE)


@pytest.mark.parametrize("payload", [b"", b"\3", b"\xff\0"])
def test_unknown_kinds_are_refused(payload: bytes) -> None:
    with pytest.raises(codec.BadMessage, match="no known kind"):
        codec.decode_unicast(payload)


def test_a_ring_without_peers_is_refused() -> None:
    agreed = Claims(accepted=Proposal(1, Voter(PeerName(1), 1)))
    payload = codec.encode_state(STATE._replace(paxos={Voter(PeerName(1), 1): agreed}))
    with pytest.raises(codec.BadMessage, match="without peers"):
        codec.decode_state(payload)


@pytest.mark.parametrize("payload", [b"\0", b"\1", b"\2", b"\1\3\2\1"])
def test_unicasts_without_a_body_are_refused(payload: bytes) -> None:
    with pytest.raises(gob.GobError):
        codec.decode_unicast(payload)


@given(st.binary(max_size=64), st.integers(0, 600), st.binary(max_size=3))
def test_damaged_messages_are_read_or_refused(noise: bytes, position: int, patch: bytes) -> None:
    whole = codec.ring_update(STATE)
    for payload in (noise, whole[:position] + patch + whole[position + len(patch) :]):
        golden.entered("ipam unicast")
        golden.entered("ipam state")
        try:
            kind, content = codec.decode_unicast(payload)
        except PlaitError:
            continue
        assert isinstance(content, GossipState if kind is Kind.RING_UPDATE else Range)


def test_range_notation() -> None:
    assert [text(end) for end in range_of(["10.0.0.1", "10.0.0.9"])] == ["10.0.0.1", "10.0.0.9"]
