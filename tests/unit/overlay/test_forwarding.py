import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.mesh.name import PeerName
from plait.overlay.ethernet import BROADCAST_MAC, STP_MAC
from plait.overlay.forwarding import DROP, INJECT, SPECIAL, Decision, Forwarder
from plait.overlay.macs import MacTable
from plait.overlay.sleeve.datagram import special_frame

A, B, C, D = (PeerName(0x020000000000 + number) for number in range(10, 14))
a, b, c, d = (peer.to_bytes6() for peer in (A, B, C, D))
OURS = bytes.fromhex("aa0000000001")
THEIRS = bytes.fromhex("ba0000000001")
OTHERS = bytes.fromhex("ca0000000001")


def frame(destination: bytes, source: bytes) -> bytes:
    return destination + source + b"\x08\x06" + bytes(46)


@pytest.fixture
def forwarder() -> Forwarder:
    """B in the chain A - B - C, D behind C."""
    forwarder = Forwarder(B, MacTable())
    forwarder.set_routes(
        known=[A, B, C, D],
        unicast={A: A, C: C, D: C},
        broadcast={A: [C], B: [A, C], C: [A], D: [A]},
    )
    return forwarder


def copies(decision: Decision) -> tuple[tuple[bytes, bytes, bytes], ...]:
    return decision.copies


def test_a_broadcast_of_ours_goes_to_each_neighbour_under_its_own_name(forwarder: Forwarder) -> None:
    decision = forwarder.captured(frame(BROADCAST_MAC, OURS), 0.0)
    assert decision == Decision(False, True, False, ((a, b, a), (c, b, c)))
    assert forwarder.macs.is_local(OURS)


def test_unknown_unicast_is_broadcast(forwarder: Forwarder) -> None:
    assert copies(forwarder.captured(frame(THEIRS, OURS), 0.0)) == ((a, b, a), (c, b, c))


def test_known_unicast_goes_to_the_next_hop(forwarder: Forwarder) -> None:
    forwarder.received(c, d, b, frame(OURS, THEIRS), 0.0)
    assert forwarder.captured(frame(THEIRS, OURS), 1.0) == Decision(False, False, False, ((c, b, d),))


def test_what_a_peer_announced_goes_to_the_next_hop_unseen(forwarder: Forwarder) -> None:
    forwarder.macs.set_announced({THEIRS: d})
    assert forwarder.captured(frame(THEIRS, OURS), 0.0) == Decision(False, False, False, ((c, b, d),))


def test_local_unicast_stays(forwarder: Forwarder) -> None:
    forwarder.captured(frame(BROADCAST_MAC, OTHERS), 0.0)
    assert forwarder.captured(frame(OTHERS, OURS), 0.0) is DROP
    assert forwarder.dropped["local"] == 1


@pytest.mark.parametrize(
    ("captured", "reason"),
    [
        (frame(STP_MAC, OURS), "spanning_tree"),
        (special_frame(22, 7), "forged_special"),
        (special_frame(60001), "forged_special"),
        (bytes(13), "short"),
        (b"", "short"),
    ],
)
def test_frames_that_never_leave(forwarder: Forwarder, captured: bytes, reason: str) -> None:
    assert forwarder.captured(captured, 0.0) is DROP
    assert forwarder.dropped[reason] == 1


def test_a_container_that_moves_here_works_at_once(forwarder: Forwarder) -> None:
    forwarder.received(c, c, b, frame(OTHERS, THEIRS), 0.0)
    assert copies(forwarder.captured(frame(BROADCAST_MAC, THEIRS), 1.0)) == ((a, b, a), (c, b, c))
    assert forwarder.macs.is_local(THEIRS)


def test_an_address_behind_a_peer_without_route_is_dropped_and_counted(forwarder: Forwarder) -> None:
    forwarder.received(c, d, b, frame(OURS, THEIRS), 0.0)
    forwarder.set_routes([A, B, C, D], {A: A, C: C}, {B: [A, C]})
    assert forwarder.captured(frame(THEIRS, OURS), 1.0) is DROP
    assert forwarder.dropped["no_route"] == 1


def test_the_addresses_of_a_lost_peer_are_forgotten(forwarder: Forwarder) -> None:
    forwarder.received(c, d, b, frame(OURS, THEIRS), 0.0)
    forwarder.set_routes([A, B, C], {A: A, C: C}, {B: [A, C]})
    assert forwarder.captured(frame(THEIRS, OURS), 1.0).is_broadcast


def test_a_frame_for_a_local_container_is_injected_only(forwarder: Forwarder) -> None:
    forwarder.captured(frame(BROADCAST_MAC, OURS), 0.0)
    assert forwarder.received(a, a, b, frame(OURS, THEIRS), 0.0) is INJECT
    assert forwarder.macs.remote_owner(THEIRS) == a


def test_broadcasts_and_unknown_addresses_travel_on_along_the_tree(forwarder: Forwarder) -> None:
    expected = Decision(True, True, False, ((c, a, c),))
    assert forwarder.received(a, a, b, frame(BROADCAST_MAC, THEIRS), 0.0) == expected
    assert forwarder.received(a, a, b, frame(OTHERS, THEIRS), 0.0) == expected


def test_a_leaf_of_the_tree_injects_only() -> None:
    forwarder = Forwarder(B, MacTable())
    forwarder.set_routes([A, B], {A: A}, {A: [], B: [A]})
    assert forwarder.received(a, a, b, frame(BROADCAST_MAC, THEIRS), 0.0) is INJECT


def test_a_broadcast_never_goes_back_to_its_neighbour(forwarder: Forwarder) -> None:
    assert forwarder.received(c, a, b, frame(BROADCAST_MAC, THEIRS), 0.0) == Decision(True, True, False, ())


def test_relay_keeps_the_labels_and_learns_nothing(forwarder: Forwarder) -> None:
    assert forwarder.received(a, a, d, frame(OTHERS, THEIRS), 0.0) == Decision(False, False, False, ((c, a, d),))
    assert len(forwarder.macs) == 0


@pytest.mark.parametrize(
    ("hop", "src", "dst", "reason"),
    [
        (a, a, bytes(6), "unknown_peer"),
        (a, bytes(6), b, "unknown_peer"),
        (a, b, b, "echo"),
        (a, b, d, "echo"),
        (c, a, d, "returned"),
    ],
)
def test_labels_that_cannot_be(forwarder: Forwarder, hop: bytes, src: bytes, dst: bytes, reason: str) -> None:
    assert forwarder.received(hop, src, dst, frame(BROADCAST_MAC, THEIRS), 0.0) is DROP
    assert forwarder.dropped[reason] == 1
    assert len(forwarder.macs) == 0


def test_relay_without_a_route_is_dropped(forwarder: Forwarder) -> None:
    forwarder.set_routes([A, B, C, D], {A: A}, {})
    assert forwarder.received(a, a, d, frame(OTHERS, THEIRS), 0.0) is DROP
    assert forwarder.dropped["no_route"] == 1


def test_special_frames_are_the_neighbours_own_or_dropped(forwarder: Forwarder) -> None:
    heartbeat = special_frame(22, 7)
    assert forwarder.received(a, a, b, heartbeat, 0.0) is SPECIAL
    assert forwarder.received(a, a, d, heartbeat, 0.0) is DROP
    assert forwarder.received(c, d, b, heartbeat, 0.0) is DROP
    assert forwarder.dropped["foreign_special"] == 2


def test_special_frames_of_a_neighbour_count_before_its_topology_arrives() -> None:
    assert Forwarder(B, MacTable()).received(a, a, b, special_frame(22, 7), 0.0) is SPECIAL


def test_short_and_empty_frames_are_dropped(forwarder: Forwarder) -> None:
    assert forwarder.received(a, a, b, b"", 0.0) is DROP
    assert forwarder.received(a, a, b, bytes(13), 0.0) is DROP
    assert forwarder.dropped["short"] == 2


def test_an_answer_is_injected_at_the_source_and_travels_back_from_a_relay(forwarder: Forwarder) -> None:
    assert forwarder.answer(b, c) is INJECT
    assert forwarder.answer(a, d) == Decision(False, False, False, ((a, d, a),))
    assert forwarder.answer(bytes(6), d) is DROP


@given(st.binary(max_size=40), st.sampled_from([a, b, c, d, bytes(6)]), st.sampled_from([a, b, c, d, bytes(6)]))
def test_any_frame_gets_a_decision(data: bytes, src: bytes, dst: bytes) -> None:
    forwarder = Forwarder(B, MacTable())
    forwarder.set_routes([A, B, C, D], {A: A, C: C, D: C}, {A: [C], B: [A, C]})
    decision = forwarder.received(a, src, dst, data, 0.0)
    assert all(hop in (a, c) and hop != a for hop, _, _ in decision.copies)
    forwarder.captured(data, 0.0)
