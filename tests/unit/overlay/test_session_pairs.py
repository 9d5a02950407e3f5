"""Two real sessions against each other, and one against what a real peer sent."""

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.overlay.sleeve import session as s
from plait.overlay.sleeve.datagram import HEARTBEAT_LENGTH
from unit.overlay import captures
from unit.overlay.worlds import ADDRESSES, Direction, World

_CANDIDATE = re.compile(r"sendMTUTest: mtu candidate (\d+)")


def logged_candidates(scenario: str, host: str) -> list[int]:
    lines = captures.scenario_log(scenario, host)
    return [int(match[1]) for line in lines if (match := _CANDIDATE.search(line))]


def test_both_ends_establish_and_agree_on_the_mtu() -> None:
    world = World()
    world.confirm()
    world.run_until(30.0)
    for side, other in zip(world.sides, reversed(ADDRESSES), strict=True):
        assert side.session.state == "established"
        assert (side.session.mtu, side.session.max_payload, side.session.stack_frag) == (1438, 1472, True)
        assert side.session.remote == other
        assert side.candidates() == [1438]
        assert side.actions.count(s.SendFragmentationTest()) == 1
    assert [round(at, 3) for at, action in world.sides[0].log if action == s.SendHeartbeat()] == [0, 10.001, 20.001]


def test_encrypted_connections_end_at_1414() -> None:
    world = World(is_encrypted=True)
    world.confirm()
    world.run_until(5.0)
    assert [side.session.mtu for side in world.sides] == [1414, 1414]


def test_a_lost_first_heartbeat_costs_half_a_second() -> None:
    world = World()
    world.sides[0].session.confirm(0.0)  # its heartbeat meets nobody
    world.now = 0.1
    world.confirm()
    world.run_until(0.5)
    assert not world.sides[0].session.is_established
    world.run_until(0.51)
    assert all(side.session.is_established for side in world.sides)


def test_a_lost_first_heartbeat_costs_little_between_plait_peers() -> None:
    world = World(first_repeat=s.FIRST_REPEAT)
    world.sides[0].session.confirm(0.0)
    world.now = s.FIRST_REPEAT / 2
    world.confirm()
    world.run_until(s.FIRST_REPEAT + 0.01)
    assert all(side.session.is_established for side in world.sides)


def test_blocked_fragments_leave_stack_frag_false() -> None:
    world = World((Direction(passes_fragments=False), Direction()))
    world.confirm()
    world.run_until(10.0)
    assert [side.session.stack_frag for side in world.sides] == [False, True]


def test_an_outage_during_a_look_at_the_path_is_not_taken_for_a_limit() -> None:
    world = World()
    world.confirm()
    world.run_until(599.0)
    for side in world.sides:
        side.out.loss = 1.0
    world.run_until(630.0)
    assert [len(side.candidates()) > 8 for side in world.sides] == [True, True]
    assert [side.session.mtu for side in world.sides] == [1438, 1438]


def test_a_short_outage_lowers_the_mtu_for_half_a_minute_only() -> None:
    world = World()
    world.confirm()
    world.run_until(599.0)
    for side in world.sides:
        side.out.loss = 1.0
    world.run_until(605.0)
    for side in world.sides:
        side.out.loss = 0.0
    world.run_until(610.0)
    assert [side.session.mtu < 1438 for side in world.sides] == [True, True]
    world.run_until(645.0)
    assert [side.session.mtu for side in world.sides] == [1438, 1438]


def test_a_black_hole_is_searched_less_and_less_often() -> None:
    world = World((Direction(path_mtu=1400), Direction()))
    world.confirm()
    world.run_until(7200.0)
    started = [at for at, action in world.sides[0].log if action == s.QueryPathMtu()]
    assert world.sides[0].session.mtu == 1338
    assert len(started) < 20
    pauses = [later - earlier for earlier, later in pairwise(started)]
    assert pauses[-1] > 600


@pytest.mark.parametrize(
    ("scenario", "sends_icmp"), [("two-plain", False), ("pmtu-icmp", True), ("pmtu-blackhole", False)]
)
def test_the_same_candidates_as_the_real_router(scenario: str, sends_icmp: bool) -> None:
    """The captures' paths: 1400 bytes from h1 to h2, 1404 back; only h1 hears ICMP."""
    paths = (1500, 1500) if scenario == "two-plain" else (1400, 1404)
    out = Direction(path_mtu=paths[0], sends_icmp=sends_icmp), Direction(path_mtu=paths[1])
    world = World(out)
    world.confirm()
    world.run_until(20.0)
    for side, host, path in zip(world.sides, ("h1", "h2"), paths, strict=True):
        assert side.candidates() == logged_candidates(scenario, host)
        assert side.session.mtu == path - 62


FOR_EVER = 1000.0

# Capture, who we are, who the peer is, until when: a session of plait tests the path anew when its peer moves.
REPLAYED = [
    ("two-plain-underlay-h1", "A(h1)", "B(h2)", FOR_EVER),
    ("two-encrypted-underlay-h1", "A(h1)", "B(h2)", FOR_EVER),
    ("pmtu-icmp-underlay-h1", "A(h1)", "B(h2)", FOR_EVER),
    ("pmtu-blackhole-underlay-h1", "A(h1)", "B(h2)", FOR_EVER),
    ("frag-blocked-underlay-h1", "A(h1)", "B(h2)", FOR_EVER),
    ("reject-underlay-h1", "A(h1)", "B(h2)", FOR_EVER),
    ("nat-underlay-h1", "A(h1)", "B(h2)", FOR_EVER),
    ("nat-underlay-h2", "B(h2)", "A(h1)", 10.505),
    ("relay-underlay-h2-side1", "B(h2)", "A(h1)", FOR_EVER),
    ("relay-underlay-h2-side3", "B(h2)", "C(h3)", FOR_EVER),
    ("relay-small-underlay-h2-side1", "B(h2)", "A(h1)", FOR_EVER),
]


# The captured routers' timers and readers were late by this much at most; a session that had to speak earlier is wrong.
LATENESS = 0.05
EARLINESS = 0.001


class Replay:
    """A session in the place of a captured router: hears what that router heard, when that router acted on it.

    A router's timers and its TCP reader are late by some milliseconds (100 right after connecting), which shows in
    when it speaks itself. So the session's timers run at those moments, and must be due.
    """

    def __init__(self, capture: captures.Capture, us: str, peer: str, until: float) -> None:
        self._us, self._peer = us, peer
        self._packets = [packet for packet in capture.packets if packet["t"] < until]
        self._datagrams = {datagram.number: datagram for datagram in capture.datagrams}
        self._kernel_mtu = 1500
        self._waiting: list[s.SendControl] = []
        self.said: list[s.Action] = []
        self.now = 0.0
        ours = [packet for packet in self._packets if self._specials(packet, us)]
        theirs = [packet for packet in self._packets if self._specials(packet, peer)]
        first = self._datagrams[ours[0]["n"]]
        self._address = first.source[0]
        dials = f"IPv4 {self._address} >" in next(p["what"] for p in self._packets if " S payload" in p["what"])
        # The accepting side answers the first heartbeat that it is ready for at once: it was confirmed just before.
        heard = [packet["t"] for packet in theirs if packet["n"] < ours[0]["n"]]
        self._confirm_at = ours[0]["t"] if dials else heard[-1]
        self._last_test: dict[int, float] = {
            frame["len"]: packet["t"] for packet in ours for frame in self._specials(packet, us)
        }
        self._reads_from = min(at for length, at in self._last_test.items() if length != HEARTBEAT_LENGTH)
        self.session = s.SleeveSession(
            connection_uid=int(self._specials(ours[0], us)[0]["conn_uid"]),
            is_encrypted=capture.session_key is not None,
            remote=first.destination if dials else None,
        )

    def run(self) -> None:
        for packet in self._packets:
            self.now = packet["t"]
            if self.session.confirmed_since is None and self.now >= self._confirm_at:
                self._feed(self.session.confirm(self.now))
            deadline = self.session.next_deadline()
            assert deadline is None or deadline >= self.now - LATENESS, f"silent at {deadline}"
            if "ICMP frag needed mtu" in packet["what"]:
                self._kernel_mtu = int(packet["what"].rsplit(maxsplit=1)[1])
            if not self._is_from_us(packet):
                self._waiting += controls(packet)
            self._read_controls()
            if self._specials(packet, self._us):
                self._feed(self.session.handle_timer(self.now + EARLINESS))
            for frame in self._specials(packet, self._peer):
                self._hear(packet["n"], frame)

    def expected(self) -> list[s.Action]:
        """What the captured router said."""
        said: list[s.Action] = []
        for packet in self._packets:
            said += [special_action(frame) for frame in self._specials(packet, self._us)]
            said += controls(packet) if self._is_from_us(packet) else []
        return said

    def _specials(self, packet: dict[str, Any], sender: str) -> list[dict[str, Any]]:
        sleeve = packet.get("sleeve")
        if sleeve is None or sleeve["sender_peer"] != sender:
            return []
        return [frame for frame in sleeve["frames"] if "special" in frame]

    def _hear(self, number: int, frame: dict[str, Any]) -> None:
        match frame["special"]:
            case "heartbeat":
                source = self._datagrams[number].source
                self._feed(self.session.heartbeat_received(source, int(frame["conn_uid"]), self.now))
            case "fragmentation test":
                self._feed(self.session.fragmentation_test_received(frame["all_zero"]))
            case "MTU test":
                self._feed(self.session.mtu_test_received(frame["len"], self.now))

    def _read_controls(self) -> None:
        while self._waiting and self._reads(self._waiting[0]):
            control = self._waiting.pop(0)
            self._feed(self.session.control_received(control.tag, control.payload, self.now))

    def _reads(self, control: s.SendControl) -> bool:
        """Not before its first test shows that it reads, nor before it stops repeating the test acknowledged."""
        length = int.from_bytes(control.payload, "big") + 14
        return self.now >= self._reads_from and self.now > self._last_test.get(length, 0.0)

    def _feed(self, actions: list[s.Action]) -> None:
        for action in actions:
            match action:
                case s.QueryPathMtu():
                    self._feed(self.session.path_mtu_known(self._kernel_mtu, self.now))
                case s.SendMtuTest(length) if length + 48 > self._kernel_mtu:
                    self._feed(self.session.packet_too_big(self.now))
                case s.SendControl() | s.SendMtuTest() | s.SendHeartbeat() | s.SendFragmentationTest():
                    self.said.append(action)
                case _:
                    pass

    def _is_from_us(self, packet: dict[str, Any]) -> bool:
        return f"IPv4 {self._address} >" in str(packet["what"])


def controls(packet: dict[str, Any]) -> list[s.SendControl]:
    return [
        s.SendControl(message["overlay_tag"], bytes.fromhex(message["payload_hex"])[2:])
        for message in packet.get("control", [])
        if message.get("overlay") == "sleeve"
    ]


def special_action(frame: dict[str, Any]) -> s.Action:
    match frame["special"]:
        case "heartbeat":
            return s.SendHeartbeat()
        case "fragmentation test":
            return s.SendFragmentationTest()
        case _:
            return s.SendMtuTest(frame["len"])


@pytest.mark.parametrize(("name", "us", "peer", "until"), REPLAYED, ids=[entry[0] for entry in REPLAYED])
def test_a_session_says_what_the_captured_router_said(name: str, us: str, peer: str, until: float) -> None:
    replay = Replay(captures.load(name), us, peer, until)
    replay.run()
    expected = replay.expected()
    for is_control in (False, True):
        said = [action for action in replay.said if isinstance(action, s.SendControl) == is_control]
        captured = [action for action in expected if isinstance(action, s.SendControl) == is_control]
        assert captured
        assert said == captured


losses = st.floats(0.0, 1.0)


@settings(max_examples=40)
@given(losses, losses, st.integers(614, 1500), st.integers(614, 1500), st.booleans(), st.integers(0, 2**32))
def test_established_when_the_loss_ends(
    loss: float, loss_back: float, path: int, path_back: int, sends_icmp: bool, seed: int
) -> None:
    out = (
        Direction(path_mtu=path, loss=loss, sends_icmp=sends_icmp),
        Direction(path_mtu=path_back, loss=loss_back),
    )
    world = World(out, seed=seed)
    world.confirm()
    world.run_until(45.0)
    for direction in out:
        direction.loss = 0.0
    world.run_until(60.0)
    assert [side.session.state for side in world.sides] == ["established", "established"]
    world.run_until(1300.0)
    assert [side.session.mtu for side in world.sides] == [path - 62, path_back - 62]
    assert [side.session.stack_frag for side in world.sides] == [True, True]
