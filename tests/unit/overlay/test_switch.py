from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
from plait.overlay.switch import (
    BestChanged,
    ConnectionEstablished,
    ConnectionFailed,
    Control,
    Incoming,
    NoCommonOverlay,
    OverlaySwitch,
)

VECTORS = "sleeve/overlay_switch.json"
BOTH = ("fastdp", "sleeve")

golden.expect_entered("switch.incoming")


def switch() -> OverlaySwitch:
    return OverlaySwitch(BOTH, BOTH)


golden.left_out(VECTORS, "ordering without a remote address", "no connection is without a remote address")
golden.left_out(VECTORS, "malformed_inputs, empty", "refused by the decoder of mesh messages")
golden.left_out(VECTORS, "malformed_inputs, one byte", "refused by the decoder of mesh messages")


@pytest.mark.parametrize("case", [case for case in golden.cases(VECTORS, "ordering") if not case["remote_addr_nil"]])
def test_ordering(case: dict[str, Any]) -> None:
    ours, theirs = case["ours"].split(), case["theirs"].split()
    if case["chosen_order"] is None:
        with pytest.raises(NoCommonOverlay, match="none in common"):
            OverlaySwitch(ours, theirs)
    else:
        assert list(OverlaySwitch(ours, theirs).common) == case["chosen_order"]


@pytest.mark.parametrize("case", golden.cases(VECTORS, "switch.sent"), ids=lambda case: str(case["meaning"]))
def test_control_messages_are_addressed(case: dict[str, Any]) -> None:
    payload = bytes.fromhex(case["mesh_payload_hex"])
    control = switch().outgoing(case["overlay"], case["overlay_tag"], payload[2:])
    assert control is not None
    assert control.index is not None
    assert bytes((control.index, control.tag)) + control.payload == payload
    assert switch().incoming(control) == Incoming(case["overlay"], case["overlay_tag"], payload[2:])


def test_delivery() -> None:
    delivery = golden.document(VECTORS)["switch"]["delivered_for_inputs"]
    target = switch()
    inputs = [bytes.fromhex(text) for text in delivery["inputs_hex"]]
    incoming = [target.incoming(Control(data[0], data[1], data[2:])) for data in inputs]
    expected = [
        Incoming(item["overlay"], item["tag"], bytes.fromhex(item["payload_hex"])) for item in delivery["delivered"]
    ]
    assert incoming == expected
    assert target.ignored_controls == 0


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in golden.cases(VECTORS, "switch.malformed_inputs")
        if case["mesh_tag"] != 7 or len(case["payload_hex"]) >= 4
    ],
)
def test_what_crashes_weave_is_ignored_and_counted(case: dict[str, Any]) -> None:
    payload = bytes.fromhex(case["payload_hex"])
    target = switch()
    control = Control(payload[0], payload[1]) if case["mesh_tag"] == 7 else Control(None, case["mesh_tag"], payload)
    assert target.incoming(control) is None
    assert target.ignored_controls == 1


def test_a_legacy_peer_speaks_sleeve_with_mesh_tags() -> None:
    legacy = golden.document(VECTORS)["switch"]["legacy_peer_without_overlays_feature"]
    target = OverlaySwitch(BOTH, None)
    assert target.common == ("sleeve",)
    for sent in legacy["sent"]:
        payload = bytes.fromhex(sent["mesh_payload_hex"])
        assert target.outgoing("sleeve", sent["mesh_tag"], payload) == Control(None, sent["mesh_tag"], payload)
    for delivered in legacy["delivered"]:
        payload = bytes.fromhex(delivered["payload_hex"])
        expected = Incoming(delivered["overlay"], delivered["tag"], payload)
        assert target.incoming(Control(None, delivered["tag"], payload)) == expected
    assert target.incoming(Control(0, 1)) is None


def test_the_better_form_of_an_overlay_replaces_it_where_both_speak_it() -> None:
    plait = ("plait1", "sleeve")
    for ours, theirs in ((plait, plait), (plait, plait[::-1]), (plait[::-1], plait)):
        target = OverlaySwitch(ours, theirs)
        assert target.common == ("plait1",)
        assert target.outgoing("plait1", 1) == Control(0, 1)
        assert target.outgoing("sleeve", 1) is None
        assert target.incoming(Control(0, 1)) == Incoming("plait1", 1, b"")
        assert target.incoming(Control(1, 1)) is None
        target.established("plait1")
        assert target.reason == "plait1 is the first choice"


@pytest.mark.parametrize("theirs", [("sleeve",), ("fastdp", "sleeve"), None], ids=["sleeve", "fastdp", "legacy"])
def test_a_weave_peer_gets_sleeve_of_a_node_that_knows_better(theirs: tuple[str, ...] | None) -> None:
    target = OverlaySwitch(("plait1", "sleeve"), theirs)
    assert target.common == ("sleeve",)
    target.established("sleeve")
    assert target.reason == (
        "sleeve is used because the peer does not speak plait1 (Weave, or another version of plait)"
    )


def test_a_peer_that_speaks_nothing_of_ours() -> None:
    with pytest.raises(NoCommonOverlay, match="plait2 and this node plait1 sleeve"):
        OverlaySwitch(("plait1", "sleeve"), ("plait2",))


def test_nothing_is_sent_that_the_peer_cannot_receive() -> None:
    assert OverlaySwitch(BOTH, None).outgoing("sleeve", 9) is None
    assert OverlaySwitch(BOTH, ["sleeve"]).outgoing("fastdp", 0) is None


def test_a_legacy_peer_needs_sleeve() -> None:
    with pytest.raises(NoCommonOverlay):
        OverlaySwitch(["fastdp"], None)


STEPS = {
    "sleeve established": lambda target: target.established("sleeve"),
    "fastdp established": lambda target: target.established("fastdp"),
    "fastdp unhealthy (60 s without heartbeat)": lambda target: target.unhealthy("fastdp", "no heartbeat for 60 s"),
    "fastdp healthy again": lambda target: target.healthy("fastdp"),
    "fastdp fatal error": lambda target: target.failed("fastdp", "the device is gone"),
    "sleeve fatal error": lambda target: target.failed("sleeve", "no heartbeat for 60 s"),
}


def test_best_choice() -> None:
    target = switch()
    for step in golden.cases(VECTORS, "switch.best_choice_script"):
        if step["event"] != "start":
            STEPS[step["event"]](target)
        assert (target.best, target.common.index(target.best)) == (step["best"], step["best_index"]), step
        assert (target.failure is not None) == bool(step["connection_error"])


def test_every_change_is_told_with_its_reason() -> None:
    target = switch()
    assert target.reason == "nothing works yet: fastdp is not established yet"
    assert target.established("sleeve") == [
        ConnectionEstablished(),
        BestChanged("sleeve", "sleeve is used because fastdp is not established yet"),
    ]
    assert target.established("fastdp") == [BestChanged("fastdp", "fastdp is the first choice")]
    assert target.unhealthy("fastdp", "no heartbeat for 60 s") == [
        BestChanged("sleeve", "sleeve is used because fastdp is unhealthy: no heartbeat for 60 s", is_fall=True)
    ]
    assert target.healthy("fastdp") == [BestChanged("fastdp", "fastdp is the first choice")]
    assert target.failed("fastdp", "the device is gone") == [
        BestChanged("sleeve", "sleeve is used because fastdp failed: the device is gone", is_fall=True)
    ]
    assert target.is_established
    assert target.failed("sleeve", "silence") == [
        ConnectionFailed("no overlay is left: fastdp failed: the device is gone; sleeve failed: silence")
    ]
    assert target.failed("sleeve", "silence") == []
    assert not target.is_established


def test_an_overlay_that_fails_at_once_keeps_its_place() -> None:
    target = switch()
    assert [type(event) for event in target.failed("fastdp", "no such device")] == [BestChanged]
    control = target.outgoing("sleeve", 1)
    assert control == Control(1, 1)
    assert not target.is_established
    assert target.established("sleeve") == [ConnectionEstablished()]


def test_established_after_failure_means_nothing() -> None:
    target = switch()
    target.failed("fastdp", "gone")
    assert target.established("fastdp") == []
    assert not target.is_established


@given(
    st.sampled_from([BOTH, ("sleeve",), None]),
    st.none() | st.integers(-5, 300),
    st.integers(0, 255),
    st.binary(max_size=20),
)
def test_any_control_message_finds_an_overlay_or_is_ignored(
    theirs: tuple[str, ...] | None, index: int | None, tag: int, payload: bytes
) -> None:
    target = OverlaySwitch(BOTH, theirs)
    incoming = target.incoming(Control(index, tag, payload))
    golden.entered("switch.incoming")
    assert target.ignored_controls == (incoming is None)
    assert incoming is None or incoming.overlay in target.common


events = st.lists(
    st.tuples(st.sampled_from(["established", "healthy", "unhealthy", "failed"]), st.sampled_from(BOTH)), max_size=30
)


@given(events)
def test_the_best_is_a_working_overlay_whenever_there_is_one(script: list[tuple[str, str]]) -> None:
    target, working = switch(), dict.fromkeys(BOTH, False)
    established, ill, dead = set[str](), set[str](), set[str]()
    for event, overlay in script:
        match event:
            case "established":
                target.established(overlay)
                established.add(overlay)
            case "healthy":
                target.healthy(overlay)
                ill.discard(overlay)
            case "unhealthy":
                target.unhealthy(overlay, "silence")
                ill.add(overlay)
            case "failed":
                target.failed(overlay, "gone")
                dead.add(overlay)
        working = {name: name in established and name not in ill | dead for name in BOTH}
        best = [name for name in BOTH if working[name]]
        assert not best or target.best == best[0]
        assert (target.failure is not None) == (ill | dead == set(BOTH)), "one on hold is no life by itself"
        assert target.reason
