"""Conversations of real Weave peers, captured: each side is read by our codecs as the other side would have."""

from typing import Any

import pytest

import golden
from plait.mesh import gob, messages
from plait.mesh.features import LocalFeatures
from plait.mesh.handshake import Handshake, HandshakeResult
from plait.mesh.name import PeerName
from plait.mesh.topology import CONNECTION_SUMMARIES, PEER_SUMMARY, decode_topology, encode_topology
from unit.mesh import wire_types

FILES = [
    f"mesh/live/live_{name}.json"
    for name in ("2_encrypted", "2_encrypted_trusted", "2_plain", "2_simultaneous", "3_discovery", "3_line")
]
# Some dials were answered by a reset: no byte was sent, which is all there is to check.
STREAMS = [(path, number) for path in FILES for number in range(len(golden.document(path)["streams"]))]
SIDES = ("initiator", "acceptor")


def stream_id(stream: tuple[str, int]) -> str:
    return f"{stream[0].removeprefix('mesh/live/live_').removesuffix('.json')}-{stream[1]}"


def shake_hands(stream: dict[str, Any], side: str) -> HandshakeResult:
    """Read all that one side wrote, in the place of the other."""
    other = SIDES[SIDES.index(side) - 1]
    keys = stream.get("keys", {})
    local = LocalFeatures(PeerName(1), "reader", 1, 0, None, False, ("sleeve",))
    handshake = Handshake(
        features=local,
        password=keys["password"].encode() if keys else None,
        private_key=bytes.fromhex(keys[f"{other}_private_hex"]) if keys else bytes(32),
        is_initiator=other == "initiator",
    )
    handshake.start()
    for segment in stream["segments"]:
        if segment["from"] == side:
            handshake.receive(bytes.fromhex(segment["hex"]))
    assert handshake.result is not None
    if keys:
        assert handshake.result.session_key is not None
        assert handshake.result.session_key.hex() == keys["session_key_hex"]
    return handshake.result


@pytest.mark.parametrize("where", STREAMS, ids=stream_id)
def test_both_sides_of_a_conversation(where: tuple[str, int]) -> None:
    path, number = where
    stream = golden.cases(path, "streams")[number]
    said = golden.cases(path, f"streams.{number}.messages")
    if not stream["segments"]:
        assert not said
        return
    for side in SIDES:
        result = shake_hands(stream, side)
        features, *rest = [message for message in said if message["from"] == side and "plaintext_hex" in message]
        assert str(result.features.uid) == features["features"]["UID"]
        for message in rest:
            assert result.codec.next_message() == bytes.fromhex(message["plaintext_hex"])
            check_message(message)
        assert result.codec.next_message() is None


@pytest.mark.parametrize("where", STREAMS, ids=stream_id)
def test_both_sides_count_the_same_connection(where: tuple[str, int]) -> None:
    stream = golden.cases(where[0], "streams")[where[1]]
    if not stream["segments"]:
        assert "connection_uid" not in stream
        return
    conn_ids = [shake_hands(stream, side).features.conn_id for side in SIDES]
    assert conn_ids[0] ^ conn_ids[1] == stream["connection_uid"]


def check_message(shown: dict[str, Any]) -> None:
    data = bytes.fromhex(shown["plaintext_hex"])
    message = messages.decode(data)
    assert messages.encode(message) == data
    match message:
        case messages.Heartbeat():
            assert shown["kind"] == "heartbeat"
        case messages.OverlayControl(index, tag, payload):
            assert (index, tag) == (shown["overlay_index"], shown["overlay_tag"])
            assert payload.hex() == shown["overlay_payload_hex"]
        case messages.GossipUnicast(channel, source, destination, payload):
            assert (channel, str(source), str(destination)) == (shown["channel"], shown["src"], shown["dst"])
            assert shown["payload"]["kind"] == payload[0]
            check_payload("state" if payload[0] == 1 else "range", payload[1:], shown["payload"]["body"])
        case messages.Gossip(channel, source, payload) | messages.GossipBroadcast(channel, source, payload):
            assert (channel, str(source)) == (shown["channel"], shown["src"])
            check_payload(channel, payload, shown["payload"])
        case _:
            raise AssertionError(f"a live peer sent {message}")


KINDS: dict[str, gob.Type] = {
    "IPallocation": wire_types.GOSSIP_STATE,
    "state": wire_types.GOSSIP_STATE,
    "range": wire_types.ADDRESS_RANGE,
    "nameserver": wire_types.GOSSIP_DATA,
}


def check_payload(kind: str, payload: bytes, shown: Any) -> None:
    if kind != "topology":
        value = gob.decode(KINDS[kind], payload)
        assert wire_types.as_sent(KINDS[kind], value) == shown
        assert gob.decode(KINDS[kind], gob.Encoder(KINDS[kind]).stream(value)) == value
        return
    records = decode_topology(payload)
    assert decode_topology(encode_topology(records)) == records
    decoder = gob.Decoder(payload)
    assert isinstance(CONNECTION_SUMMARIES.element, gob.Struct)
    summary = gob.Struct("peerSummary", PEER_SUMMARY.fields)
    connections = gob.Slice(gob.Struct("connectionSummary", CONNECTION_SUMMARIES.element.fields))
    for peer in shown:
        assert wire_types.as_sent(summary, decoder.value(summary)) == peer["summary"]
        assert wire_types.as_sent(connections, decoder.value(connections)) == peer["connections"]
    assert not decoder.has_more()
