from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
from plait.mesh import messages
from plait.mesh.gob import GobError
from plait.mesh.messages import (
    Gossip,
    GossipBroadcast,
    GossipUnicast,
    HarmfulMessage,
    Heartbeat,
    LegacyOverlayControl,
    Message,
    OverlayControl,
    UnknownMessage,
    decode,
    encode,
)
from plait.mesh.name import PeerName
from unit.mesh.fuzz import damaged

golden.expect_entered("messages.decode")

names = st.integers(0, 2**48 - 1).map(PeerName)
channels = st.one_of(
    st.sampled_from(("topology", "nameserver")),
    st.binary(max_size=8).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)
payloads = st.binary(max_size=300)
bytes_ = st.integers(0, 255)
sound: st.SearchStrategy[Message] = st.one_of(
    st.just(Heartbeat()),
    st.builds(LegacyOverlayControl, st.integers(1, 3), st.binary(min_size=1, max_size=9)),
    st.builds(Gossip, channels, names, payloads),
    st.builds(GossipUnicast, channels, names, names, payloads),
    st.builds(GossipBroadcast, channels, names, payloads),
    st.builds(OverlayControl, bytes_, bytes_, st.binary(max_size=9)),
)


def message_of(case: dict[str, Any]) -> Message:
    payload = bytes.fromhex(case["payload_hex"])
    source = PeerName(case["src_uint"])
    assert str(source) == case["src"]
    if case["kind"] == "unicast":
        return GossipUnicast(case["channel"], source, PeerName(case["dst_uint"]), payload)
    kind = Gossip if case["kind"] == "neighbour" else GossipBroadcast
    return kind(case["channel"], source, payload)


def would_kill(case: dict[str, Any]) -> bool:
    return (
        case["kind"] == "unicast"
        and case["channel"] == "IPallocation"
        and case["payload_hex"][:2] not in {"00", "01", "02"}
    )


@pytest.mark.parametrize("case", golden.cases("mesh/gossip_messages.json"), ids=golden.case_id)
def test_gossip_messages_of_weave(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["message_hex"])
    assert data[0] == case["tag"]
    message = message_of(case)
    assert decode(data) == message
    if would_kill(case):
        with pytest.raises(HarmfulMessage):
            encode(message)
    else:
        assert encode(message) == data


@pytest.mark.parametrize(
    "case",
    [case for case in golden.cases("mesh/gob_decoder_tolerance.json") if case["kind"] in ("gossip", "unicast")],
    ids=golden.case_id,
)
def test_envelopes_are_taken_and_refused_like_by_weave(case: dict[str, Any]) -> None:
    tag = messages.TAG_GOSSIP if case["kind"] == "gossip" else messages.TAG_GOSSIP_UNICAST
    data = bytes([tag]) + bytes.fromhex(case["hex"])
    if not case["accepted"]:
        with pytest.raises(GobError):
            decode(data)
        return
    channel, *peers, payload = case["decoded"]
    peers = [PeerName(peer & 0xFFFFFFFFFFFF) for peer in peers]
    kind: Any = Gossip if len(peers) == 1 else GossipUnicast
    assert decode(data) == kind(channel, *peers, bytes.fromhex(payload))


@pytest.mark.parametrize("tag_and_name", golden.cases("mesh/constants.json", "tags"), ids=lambda pair: pair[0])
def test_tags(tag_and_name: tuple[str, int]) -> None:
    name, tag = tag_and_name
    data = bytes([tag]) + b"\x01\x02"
    if name.startswith("gossip"):
        with pytest.raises(GobError):
            decode(data)
    else:
        assert type(decode(data)) is {
            "heartbeat": Heartbeat,
            "overlay_control": OverlayControl,
        }.get(name, LegacyOverlayControl)


@given(sound)
def test_what_is_written_is_read_back(message: Message) -> None:
    golden.entered("messages.decode")
    assert decode(encode(message)) == message


@given(st.one_of(st.binary(max_size=60), damaged(sound.map(encode))))
def test_damage_gives_gob_errors_only(data: bytes) -> None:
    golden.entered("messages.decode")
    try:
        message = decode(data)
    except GobError:
        return
    assert isinstance(message, Message)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", UnknownMessage(None)),
        (b"\x00", Heartbeat()),
        (b"\x00abc", Heartbeat()),
        (b"\x01", LegacyOverlayControl(1, b"")),
        (b"\x03ab", LegacyOverlayControl(3, b"ab")),
        (b"\x07", UnknownMessage(7)),
        (b"\x07\x00", UnknownMessage(7)),
        (b"\x07\x00\x01", OverlayControl(0, 1, b"")),
        (b"\x08", UnknownMessage(8)),
        (b"\xffabc", UnknownMessage(255)),
    ],
)
def test_what_messages_mean(data: bytes, message: Message) -> None:
    assert decode(data) == message


ALLOCATION = "IPallocation"


@pytest.mark.parametrize(
    "message",
    [
        UnknownMessage(None),
        UnknownMessage(9),
        LegacyOverlayControl(0, b"x"),
        LegacyOverlayControl(4, b"x"),
        OverlayControl(256, 0, b""),
        OverlayControl(0, -1, b""),
        GossipUnicast(ALLOCATION, PeerName(1), PeerName(2), b""),
        GossipUnicast(ALLOCATION, PeerName(1), PeerName(2), b"\x03abc"),
    ],
    ids=str,
)
def test_what_could_kill_a_peer_is_never_encoded(message: Message) -> None:
    with pytest.raises(HarmfulMessage):
        encode(message)


@given(sound)
def test_no_control_message_is_shorter_than_a_weave_peer_survives(message: Message) -> None:
    data = encode(message)
    if data[0] == messages.TAG_OVERLAY_CONTROL:
        assert len(data) >= 3
    if data[0] in messages.TAGS_LEGACY_OVERLAY_CONTROL:
        assert len(data) >= 2


def test_an_empty_legacy_control_message_gets_a_filler() -> None:
    assert encode(LegacyOverlayControl(1, b"")) == b"\x01\x00"


@pytest.mark.parametrize("payload", [b"\x00abc", b"\x01", b"\x02"])
def test_the_known_kinds_of_allocation_unicasts_pass(payload: bytes) -> None:
    message = GossipUnicast(ALLOCATION, PeerName(1), PeerName(2), payload)
    assert decode(encode(message)) == message
