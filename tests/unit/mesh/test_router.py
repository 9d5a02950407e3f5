"""Routers in conversation: joining, leaving, gossip, relays, and what they refuse."""

import itertools

import pytest

from plait.mesh import events, messages
from plait.mesh.maker import Target
from plait.mesh.name import PeerName
from plait.mesh.router import GOSSIP_INTERVAL, MAX_CHANNELS
from unit.mesh.routers import Member, Words, World, features, opened


def line_of(count: int) -> tuple[World, list[Member]]:
    """Members in a row; frames pass between neighbours."""
    members = [Member(number) for number in range(1, count + 1)]
    world = World(*members)
    for one, other in itertools.pairwise(members):
        world.connect(one, other)
    world.run(3)
    return world, members


def names(member: Member) -> set[int]:
    return {int(name) for name in member.router.peers}


# Joining and leaving


def test_both_ends_confirm_and_know_each_other() -> None:
    one, other = Member(1), Member(2)
    world = World(one, other)
    here, there = world.connect(one, other)
    assert one.take(events.ConnectionConfirmed) == [events.ConnectionConfirmed(here, other.name)]
    assert other.take(events.ConnectionConfirmed) == [events.ConnectionConfirmed(there, one.name)]
    world.run(3)
    for member in (one, other):
        assert names(member) == {1, 2}
        assert all(c.established for record in member.router.peers.records() for c in record.connections)
        assert member.take(events.RoutesChanged)
    assert one.router.routes.unicast(other.name) == other.name


def test_a_connection_counts_for_routes_only_when_both_ends_say_that_frames_pass() -> None:
    one, other = Member(1), Member(2)
    world = World(one, other)
    here, there = world.connect(one, other, carries=False)
    world.run(3)
    assert one.router.routes.unicast(other.name) is None
    assert one.router.routes.unicast_all(other.name) == other.name
    one.router.connection_established(here, world.now)
    world.run(3)
    assert one.router.routes.unicast(other.name) is None
    other.router.connection_established(there, world.now)
    world.run(3)
    assert one.router.routes.unicast(other.name) == other.name


def test_news_of_a_member_reach_those_who_have_no_connection_with_it() -> None:
    _, (first, _, _, last) = line_of(4)
    assert names(first) == names(last) == {1, 2, 3, 4}
    assert first.router.routes.unicast(last.name) == PeerName(2)


@pytest.mark.parametrize("new_uid", [10, 90], ids=["lower", "higher"])
def test_both_ends_keep_the_same_one_of_two_connections(new_uid: int) -> None:
    one, other = Member(1), Member(2)
    world = World(one, other)
    world.connect(one, other, uid=50)
    world.connect(other, one, uid=new_uid)
    (kept,), (also_kept,) = list(one.router.links), list(other.router.links)
    assert kept.uid == also_kept.uid == min(50, new_uid)
    assert len(one.take(events.CloseConnection)) == 1


def test_two_connections_with_one_uid_both_end() -> None:
    one = Member(1)
    one.router.connection_opened(opened(features(2), number=1, uid=50), 1.0)
    one.router.connection_opened(opened(features(2), number=2, uid=50), 1.0)
    assert not len(one.router.links)
    closed = {
        event.connection for event in one.take(events.CloseConnection) if isinstance(event, events.CloseConnection)
    }
    assert closed == {1, 2}


def test_a_lost_connection_is_told_with_its_reason_and_the_peer_is_forgotten() -> None:
    world, (one, other) = line_of(2)
    (link,) = one.router.links
    one.router.connection_lost(link.id, "the peer closed the connection", world.now)
    (removed,) = one.take(events.ConnectionRemoved)
    assert removed == events.ConnectionRemoved(
        link.id, other.name, "00:00:00:00:00:02(n2)", link.address, "the peer closed the connection", False
    )
    assert [e.peer.name for e in one.take(events.PeerForgotten) if isinstance(e, events.PeerForgotten)] == [other.name]
    assert names(one) == {1}
    assert one.router.termination_count == 1
    one.router.connection_lost(link.id, "again", world.now)  # it is gone already
    assert not one.take(events.ConnectionRemoved)


def test_an_overlay_that_fails_ends_the_connection_and_is_a_fault() -> None:
    world, (one, other) = line_of(2)
    (link,) = one.router.links
    one.router.overlay_failed(link.id, "no heartbeat", world.now)
    world.settle()
    (removed,) = one.take(events.ConnectionRemoved)
    assert isinstance(removed, events.ConnectionRemoved)
    assert (removed.reason, removed.is_fault) == ("no heartbeat", True)
    assert not len(other.router.links)  # it saw a reset
    (seen,) = other.take(events.ConnectionRemoved)
    assert isinstance(seen, events.ConnectionRemoved)
    assert not seen.is_fault


# Refusals


def test_a_refused_connection_is_closed_and_said() -> None:
    one, two, three = Member(1, limit=1), Member(2), Member(3)
    world = World(one, two, three)
    world.connect(two, one)
    one.take()
    world.connect(three, one)
    (notice,) = [event for event in one.take(events.Notice) if isinstance(event, events.Notice)]
    assert notice.is_warning
    assert "connection limit reached (1)" in notice.text
    assert [int(link.peer) for link in one.router.links] == [2]
    assert not len(three.router.links)
    assert one.router.termination_count == 1


def test_a_dial_to_ourselves_is_not_repeated_and_counts_as_no_termination() -> None:
    one = Member(1)
    one.router.connect([Target("front", "192.0.2.77", None)], False, 1.0)
    assert one.take(events.DialPeer) == [events.DialPeer("192.0.2.77:6783", True)]
    one.router.connection_opened(opened(features(1), address="192.0.2.77:6783"), 2.0)
    (status,) = one.router.maker.targets()
    assert (status.state, status.next_try) == ("failed", None)
    assert "this node itself" in status.error
    assert one.router.termination_count == 0


def test_a_failed_dial_is_tried_again_later() -> None:
    one = Member(1)
    one.router.connect([Target("peer", "192.0.2.2", None)], False, 1.0)
    one.take()
    one.router.dial_failed("192.0.2.2:6783", "connection refused", 1.5)
    assert not one.take(events.DialPeer)
    deadline = one.router.next_deadline()
    assert deadline is not None
    while not one.take(events.DialPeer):
        deadline = one.router.next_deadline()
        assert deadline is not None
        assert deadline < 60
        one.router.handle_timer(deadline)
    one.router.forget(["peer"], deadline)
    one.router.dial_failed("192.0.2.2:6783", "connection refused", deadline)
    assert one.router.maker.targets() == []


@pytest.mark.parametrize(
    "message",
    [
        messages.encode(messages.Gossip("topology", PeerName(2), b"\xff\xff\xff")),
        messages.encode(messages.GossipUnicast("topology", PeerName(2), PeerName(1), b"x")),
        b"\x04\x01",
    ],
    ids=["bad-topology", "topology-unicast", "bad-envelope"],
)
def test_what_a_peer_may_not_say_ends_its_connection_and_no_other(message: bytes) -> None:
    world, (one, two, three) = line_of(3)
    link = two.router.links.to(one.name)
    assert link is not None
    two.take()
    two.router.message_received(link.id, message, world.now)
    world.settle()
    (removed,) = two.take(events.ConnectionRemoved)
    assert isinstance(removed, events.ConnectionRemoved)
    assert removed.is_fault
    assert "00:00:00:00:00:01(n1) sent what we cannot accept: " in removed.reason
    assert [link.peer for link in two.router.links] == [three.name]


@pytest.mark.parametrize(
    "message", [b"", b"\x00", b"\x63???", b"\x07\x00"], ids=["empty", "heartbeat", "unknown", "short"]
)
def test_what_means_nothing_is_ignored(message: bytes) -> None:
    world, (one, _) = line_of(2)
    (link,) = one.router.links
    one.router.message_received(link.id, message, world.now)
    one.router.message_received(99, message, world.now)  # a connection that is gone
    assert not one.take(events.ConnectionRemoved)


# Messages


def test_overlay_control_goes_to_the_overlays_and_to_the_far_end() -> None:
    world, (one, other) = line_of(2)
    (link,), (far,) = one.router.links, other.router.links
    one.router.send_control(link.id, messages.encode(messages.OverlayControl(0, 2, b"hi")))
    world.settle()
    assert other.take(events.ControlReceived) == [
        events.ControlReceived(far.id, messages.OverlayControl(0, 2, b"hi")),
    ]


def test_a_unicast_is_relayed_hop_by_hop() -> None:
    world, (first, middle, last) = line_of(3)
    assert first.router.unicast("notes", last.name, b"psst")
    world.settle()
    assert last.notes.received == [("unicast of 1", b"psst")]
    assert middle.notes.received == []


def test_a_unicast_without_a_way_is_dropped_and_said() -> None:
    world, (one, other) = line_of(2)
    assert not one.router.unicast("notes", PeerName(9), b"psst")
    (link,) = other.router.links
    lost = messages.encode(messages.GossipUnicast("notes", one.name, PeerName(9), b"psst"))
    other.router.message_received(link.id, lost, world.now)
    texts = [event.text for event in other.take(events.Notice) if isinstance(event, events.Notice)]
    assert any("for 00:00:00:00:00:09 was dropped: no route" in text for text in texts)


def test_what_kills_a_weave_peer_is_not_relayed() -> None:
    world, (first, middle, last) = line_of(3)
    link = middle.router.links.to(first.name)
    assert link is not None
    poison = messages.encode(messages.GossipUnicast("IPallocation", first.name, last.name, b"\x00"))[:-2] + b"\x01\x09"
    middle.router.message_received(link.id, poison, world.now)
    assert middle.router.links.to(last.name) is not None
    assert middle.router.links.to(first.name) is link  # the neighbour that relayed it is not to blame
    assert middle.take(events.Notice)
    onward = middle.router.links.to(last.name)
    assert onward is not None
    assert onward.outbox.next_message() is None


def test_a_broadcast_reaches_every_member_once() -> None:
    members = [Member(number) for number in range(1, 6)]
    world = World(*members)
    for one, other in ((0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (3, 4)):
        world.connect(members[one], members[other])
    world.run(3)
    members[0].router.broadcast("notes", Words(b"hear"))
    world.settle()
    for member in members[1:]:
        assert member.notes.received == [("broadcast of 1", b"hear")]


def test_channels_of_others_are_passed_on_and_bounded() -> None:
    world, (first, middle, last) = line_of(3)
    link = middle.router.links.to(first.name)
    assert link is not None
    for number in range(MAX_CHANNELS + 20):
        gossip = messages.encode(messages.Gossip(f"channel{number}", first.name, b"news"))
        middle.router.message_received(link.id, gossip, world.now)
    onward = middle.router.links.to(last.name)
    assert onward is not None
    channels = set()
    while (message := onward.outbox.next_message()) is not None:
        decoded = messages.decode(message)
        channels.add(decoded.channel if isinstance(decoded, messages.Gossip) else "")
    assert "channel0" in channels
    assert len(middle.router._channels) == MAX_CHANNELS


def test_members_gossip_everything_now_and_then() -> None:
    world, (one, other) = line_of(2)
    other.take()
    world.run(GOSSIP_INTERVAL + 1)
    assert events.Transmit in {type(event) for event in other.events}
    assert names(one) == names(other) == {1, 2}


@pytest.mark.parametrize("pause", [0.0, 5.0], ids=["at-once", "later"])
def test_who_comes_back_gets_everything_again(pause: float) -> None:
    world, (first, middle, last) = line_of(3)
    link = first.router.links.to(middle.name)
    assert link is not None
    first.router.connection_lost(link.id, "reset", world.now)
    world.close(first, link.id)
    assert names(first) == {1}
    world.run(pause)
    world.connect(first, middle)
    world.run(2)
    for member, other in ((first, last), (last, first)):
        known = member.router.peers.get(other.name)
        assert known is not None
        assert known.connections == other.router.peers.ourself.connections


def test_a_restarted_peer_is_told_everything_although_it_never_was_gone() -> None:
    world, (one, _) = line_of(2)
    one.take()
    one.router.connection_opened(opened(features(2, uid=4242), number=77, uid=1), world.now)  # replaces the older one
    assert events.Transmit(77) in one.take(events.Transmit)
    first = one.router.next_message(77)
    assert first is not None
    assert isinstance(messages.decode(first), messages.Gossip)
