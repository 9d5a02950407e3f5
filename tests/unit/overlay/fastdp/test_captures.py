"""A session towards Weave, put in the place of the router in a live capture."""

from typing import Any

import pytest

import golden
from plait.overlay.fastdp import actions as a
from plait.overlay.fastdp import wire
from plait.overlay.fastdp.session import CONTROL_ACK, FastdpSession
from plait.overlay.sleeve.actions import Established, SendControl
from plait.overlay.sleeve.session import agreed_heartbeat
from unit.overlay import captures
from unit.overlay.captures import Capture, Datagram

PORT = 6784
US, PEER = "192.0.2.1", "192.0.2.2"
MTU = 1376
TWO, FALLBACK = "fastdp-two-underlay-h1", "fastdp-fallback-underlay-h1"
BOTH = pytest.mark.parametrize("name", [TWO, FALLBACK])


def load(name: str) -> Capture:
    return captures.load(name, captures.VECTORS / "fastdp" / "captures", PORT)


def frame_of(datagram: Datagram) -> bytes:
    return datagram.payload[wire.VXLAN_BYTES :]


def heartbeats(capture: Capture, source: str) -> list[Datagram]:
    return [each for each in capture.datagrams if each.source[0] == source and not any(frame_of(each)[:14])]


def acks(capture: Capture, source: str) -> list[float]:
    """When the router there sent its control message."""
    return [
        packet["t"]
        for packet in capture.packets
        for control in packet.get("control", ())
        if control.get("meaning") == "fastdp heartbeat ack" and packet["what"].startswith(f"IPv4 {source}")
    ]


class Replay:
    """A session of h1's, fed with what h2's router sent; `lost` is when nothing by VXLAN reaches it."""

    def __init__(self, capture: Capture, lost: tuple[float, float] = (0, 0)) -> None:
        self.log: list[tuple[float, a.Action]] = []
        uid = next(p["vxlan"]["conn_uid"] for p in capture.packets if p.get("vxlan", {}).get("special"))
        self.session = FastdpSession(
            connection_uid=int(uid),
            is_encrypted=False,
            remote_ip=PEER,
            is_plait=False,
            heartbeat_interval=agreed_heartbeat(None),
            local_mtu=MTU,
        )
        inputs: list[tuple[float, bytes | None]] = [(each.time, frame_of(each)) for each in heartbeats(capture, PEER)]
        inputs += [(at, None) for at in acks(capture, PEER)]
        self.note(0.3, self.session.confirm(0.3))
        for now, frame in sorted(inputs, key=lambda each: each[0]):
            self.run_until(now)
            if frame is None:
                self.note(now, self.session.control_received(CONTROL_ACK, b"", now))
            elif not lost[0] <= now < lost[1]:
                heartbeat = wire.parse_heartbeat(frame, len(frame))
                assert heartbeat is not None
                self.note(now, self.session.heartbeat_received(PEER, heartbeat, now))

    def run_until(self, end: float) -> None:
        while (due := self.session.next_deadline()) is not None and due <= end:
            self.note(due, self.session.handle_timer(due))

    def note(self, now: float, actions: list[a.Action]) -> None:
        self.log += [(now, action) for action in actions]

    def did(self, *kinds: type[a.Action]) -> list[tuple[float, a.Action]]:
        return [(now, action) for now, action in self.log if isinstance(action, kinds)]


@BOTH
def test_every_datagram_is_what_the_narrative_says(name: str) -> None:
    capture = load(name)
    told = {packet["n"]: packet for packet in capture.packets if "vxlan" in packet}
    assert [datagram.number for datagram in capture.datagrams] == list(told)
    ids: dict[str, int] = {}
    for datagram in capture.datagrams:
        expected: dict[str, Any] = told[datagram.number]["vxlan"]
        frame = frame_of(datagram)
        assert datagram.payload[: wire.VXLAN_BYTES] == wire.vxlan_header(expected["vni"])
        for peer, short_id in zip(
            (expected["src_peer"], expected["dst_peer"]), wire.unpack_vni(expected["vni"]), strict=True
        ):
            assert ids.setdefault(peer, short_id) == short_id
        assert len(frame) == expected["inner_len"]
        heartbeat = wire.parse_heartbeat(frame, len(frame))
        assert (heartbeat is not None) == ("special" in expected)
        if heartbeat is not None:
            assert heartbeat == wire.Heartbeat(int(expected["conn_uid"]), expected["length_field"])


@BOTH
def test_our_heartbeats_are_those_of_the_router_byte_by_byte(name: str) -> None:
    capture = load(name)
    replay = Replay(capture)
    ours = replay.did(a.SendFrame)
    theirs = heartbeats(capture, US)
    assert theirs
    assert {action.frame for _, action in ours if isinstance(action, a.SendFrame)} == {
        frame_of(each) for each in theirs
    }
    # Once acknowledged both send every ten seconds; at the beginning the router was on a slow machine.
    late = acks(capture, PEER)[0]
    assert [now for now, _ in ours if now > late] == pytest.approx(
        [each.time for each in theirs if late + 5 < each.time < ours[-1][0] + 5], abs=1.0
    )


@BOTH
def test_the_controls_are_those_of_the_router(name: str) -> None:
    capture = load(name)
    replay = Replay(capture)
    assert [action for _, action in replay.did(SendControl, Established)][:2] == [
        *[SendControl(CONTROL_ACK)] * len(acks(capture, US)),
        Established(),
    ]
    assert replay.session.is_established
    assert (replay.session.mtu, replay.session.path_mtu) == (MTU, MTU + 50)
    assert not replay.did(a.Unhealthy, a.Healthy)


def test_a_minute_of_silence_puts_it_on_hold_and_the_next_heartbeat_brings_it_back() -> None:
    capture = load(FALLBACK)
    replay = Replay(capture, lost=(17.0, 80.9))
    (ill, unhealthy), (well, _) = replay.did(a.Unhealthy, a.Healthy)
    before = [each.time for each in heartbeats(capture, PEER) if each.time < 17.0]
    after = [each.time for each in heartbeats(capture, PEER) if each.time >= 80.9]
    assert (ill, well) == (before[-1] + 60, after[0])
    assert isinstance(unhealthy, a.Unhealthy)
    assert unhealthy.reason == (
        "nothing comes from the peer for 60 s; let UDP port 6784 from 192.0.2.2 to this host through"
    )


SPECIAL = golden.cases("fastdp/fastdp_odp.json", "data.special_frames")


def test_the_router_and_we_acknowledge_the_same_heartbeats() -> None:
    uid = 0x0102030405060708
    frames = {
        "23 bytes: too short": wire.heartbeat(uid, 24)[:23],
        "wrong connection UID": wire.heartbeat(uid + 1, 1390),
        "length field does not match": wire.heartbeat(uid, 1391)[:1390],
        "good": wire.heartbeat(uid, 1390),
        "good again (already acked)": wire.heartbeat(uid, 1390),
        "24-byte minimal heartbeat with matching length field": wire.heartbeat(uid, 24),
    }
    session = None
    for case in SPECIAL:
        if session is None or case["len"] == 24:  # the last case was asked of a new forwarder
            session = FastdpSession(
                connection_uid=uid,
                is_encrypted=False,
                remote_ip=PEER,
                is_plait=False,
                heartbeat_interval=10.0,
                local_mtu=MTU,
            )
            session.confirm(0.0)
        frame = frames[case["case"]]
        assert len(frame) == case["len"]
        heartbeat = wire.parse_heartbeat(frame, len(frame))
        actions = [] if heartbeat is None else session.heartbeat_received(PEER, heartbeat, 1.0)
        assert actions == [SendControl(sent["tag"]) for sent in case["control_messages_sent"]]
