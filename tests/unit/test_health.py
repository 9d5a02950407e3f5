"""What users feel, judged from what the rooms say."""

from dataclasses import replace

import pytest

from plait.health import HOLE_SHOWN, LOSS_LIMIT, Fault, Hole, Path, Peer, Since, State, judge, sentence

WELL = Path(overlay="fastdp", silence=0.5, patience=3.5, loss=0.0, port="ports 6783 and 6784")
DIRECT = Peer("02:02", "02:02(h2)", hop="02:02(h2)", path=WELL)
RELAYED = Peer("02:03", "02:03(h3)", hop="02:02(h2)", path=WELL)
GONE = Peer("02:04", "02:04(h4)")
STUCK = Fault("the pump does not answer", "wait")


def judged(*peers: Peer, faults: tuple[Fault, ...] = (), has_met: bool = True, now: float = 100.0):  # type: ignore[no-untyped-def]  # as judge
    return judge(peers, faults, now, has_met=has_met)


def test_a_peer_that_answers_is_reached_directly() -> None:
    health = judged(DIRECT)
    (peer,) = health.peers
    assert (health.state, health.is_ready) == (State.OK, True)
    assert (peer.state, peer.way, peer.overlay) == (State.OK, "direct", "fastdp")
    assert sentence(peer) == "02:02(h2) is reached directly by fastdp"


def test_silence_is_judged_before_any_overlay_gives_up() -> None:
    health = judged(replace(DIRECT, path=replace(WELL, silence=3.6)), DIRECT)
    assert health.peers[0].state is State.UNREACHABLE
    assert "let UDP ports 6783 and 6784 through" in health.peers[0].cure
    assert (health.state, health.is_ready) == (State.DEGRADED, True), "the other peer is reached"


def test_a_path_that_cannot_be_measured_is_not_silent() -> None:
    assert judged(replace(DIRECT, path=replace(WELL, silence=None, patience=0.0))).state is State.OK


def test_who_reaches_none_of_the_peers_it_met_is_not_ready() -> None:
    health = judged(GONE)
    assert (health.state, health.is_ready) == (State.FAILING, False)
    assert "no frame reaches any of the 1 other peers" in health.faults[0].what


def test_the_first_node_of_a_mesh_is_ready() -> None:
    health = judged(replace(GONE, name="", obstacle="connection refused"), has_met=False)
    assert (health.state, health.is_ready) == (State.DEGRADED, True)
    assert judged(has_met=True).state is State.OK


def test_a_detour_is_degraded_only_if_the_straight_way_fails() -> None:
    assert judged(DIRECT, RELAYED).state is State.OK
    health = judged(DIRECT, replace(RELAYED, obstacle="dial tcp: connection refused"))
    assert health.peers[1].state is State.DEGRADED
    assert (health.peers[1].way, health.peers[1].hop) == ("relayed", "02:02(h2)")
    assert "connection refused" in sentence(health.peers[1])


def test_what_relays_through_a_silent_hop_does_not_arrive() -> None:
    assert judged(replace(RELAYED, path=replace(WELL, silence=9.0))).peers[0].state is State.UNREACHABLE


@pytest.mark.parametrize(
    ("path", "word"),
    [
        (replace(WELL, trouble="plait1 is used because fastdp is unhealthy"), "fastdp is unhealthy"),
        (replace(WELL, loss=LOSS_LIMIT), "are lost"),
        (replace(WELL, hole=Hole(1500, 1400, 100.0)), "MTU black hole on the path to 02:02(h2): packets of 1500 bytes"),
    ],
)
def test_a_path_with_a_trouble_is_degraded_and_says_why(path: Path, word: str) -> None:
    health = judged(replace(DIRECT, path=path))
    assert (health.state, health.is_ready) == (State.DEGRADED, True)
    assert word in health.peers[0].why
    assert health.peers[0].cure


def test_a_black_hole_is_forgotten_at_last() -> None:
    assert judged(replace(DIRECT, path=replace(WELL, hole=Hole(1500, 1400, 0.0))), now=HOLE_SHOWN).state is State.OK


def test_a_fault_of_the_node_counts_whatever_the_peers_say() -> None:
    assert judged(DIRECT, faults=(STUCK,)).state is State.FAILING
    assert not judged(DIRECT, faults=(STUCK,)).is_ready
    assert judged(DIRECT, faults=(replace(STUCK, is_fatal=False),)).state is State.DEGRADED


def test_since_is_the_first_moment_of_the_same_state() -> None:
    since = Since()
    health, changed = since.date(judged(DIRECT), 1.0)
    assert (health.peers[0].since, changed) == (1.0, [])
    health, changed = since.date(judged(DIRECT), 2.0)
    assert (health.since, health.peers[0].since, changed) == (1.0, 1.0, [])
    ill = replace(DIRECT, path=replace(WELL, loss=0.5))
    health, changed = since.date(judged(ill), 3.0)
    assert (health.since, health.peers[0].since, [each.state for each in changed]) == (3.0, 3.0, [State.DEGRADED])
    health, changed = since.date(judged(replace(ill, path=replace(WELL, loss=0.6))), 4.0)
    assert (health.peers[0].since, changed) == (3.0, [])
    _, changed = since.date(judged(DIRECT), 5.0)
    assert [each.state for each in changed] == [State.OK]


def test_a_peer_that_is_ill_from_the_first_moment_is_told_of() -> None:
    _, changed = Since().date(judged(GONE), 1.0)
    assert [each.label for each in changed] == ["02:04(h4)"]
