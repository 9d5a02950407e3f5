"""What the golden histories do not show: where plait does better, and what hostile or odd input does."""

import random
from collections.abc import Iterable

import pytest

from plait.errors import ConfigError, PlaitError
from plait.ipam import codec, nicknames
from plait.ipam.actions import Action, Broadcast, Cancelled, Persist, Refuse, Refused, Reply, SendUnicast, Warn
from plait.ipam.address import Cidr, Range, parse_ip, text
from plait.ipam.allocator import Allocator
from plait.ipam.codec import GossipState
from plait.ipam.entry import Entry
from plait.ipam.paxos import AcceptedValue, Claims, Proposal, Voter
from plait.ipam.records import Holding, Snapshot
from plait.ipam.requests import Claim
from plait.ipam.ring import RingState
from plait.ipam.settings import Settings
from plait.mesh.name import PeerName

ONE, TWO, THREE = PeerName(0x110000000001), PeerName(0x220000000002), PeerName(0x330000000003)
UNIVERSE = Cidr.parse("10.0.0.0/24")
BASE = UNIVERSE.address


class Mesh:
    def __init__(self, *known: PeerName) -> None:
        self.known = {ONE, *known}

    def is_known(self, peer: PeerName) -> bool:
        return peer in self.known

    def why_unreachable(self, peer: PeerName) -> str | None:
        return None if peer in self.known else "gone"

    def quorum(self) -> int:
        return 1


def make(*seed: PeerName, mesh: Mesh | None = None, found: Iterable[Claim] = (), observer: bool = False) -> Allocator:
    settings = Settings(Voter(ONE, 1), "one", UNIVERSE, seed, observer, tuple(found))
    return Allocator(settings, mesh or Mesh(TWO), random.Random(1))


def started(*seed: PeerName, mesh: Mesh | None = None) -> Allocator:
    allocator = make(*seed, mesh=mesh)
    allocator.start(0)
    return allocator


def result(actions: list[Action]) -> int | PlaitError | None:
    [reply] = [action for action in actions if isinstance(action, Reply)]
    return reply.result


def warnings(actions: list[Action]) -> list[str]:
    return [action.sentence for action in actions if isinstance(action, Warn)]


def gossip_of(*entries: tuple[int, PeerName, int, int], peer: PeerName = TWO) -> bytes:
    ring = RingState(*UNIVERSE.range, peer, tuple(Entry(BASE + token, *rest) for token, *rest in entries), ())  # type: ignore[arg-type]
    return codec.encode_state(GossipState(0, {peer: "two"}, None, ring))


def test_a_lost_range_leaves_the_space() -> None:
    """Weave's process dies here."""
    allocator = started(ONE)
    actions = allocator.receive_gossip(1, gossip_of((0, TWO, 9, 0)))
    assert warnings(actions) == []
    assert allocator.space.owned() == []
    assert isinstance(actions[0], Persist)
    assert actions[0].snapshot.ring.entries[0].peer == TWO


def test_a_range_in_use_is_not_given_up() -> None:
    allocator = started(ONE)
    allocator.allocate(1, 1, "c1", UNIVERSE)
    [refusal] = allocator.receive_gossip(1, gossip_of((0, TWO, 9, 0)))
    assert isinstance(refusal, Refuse)
    assert str(refusal.error).startswith("Received update for IP range I own at 10.0.0.0 v1")
    assert allocator.ring.owner(BASE) == ONE


def test_addresses_in_use_that_went_to_another_are_told() -> None:
    """The second foreign token in one of our ranges goes unchecked, as with Weave; then at least somebody knows."""
    allocator = started(ONE)
    allocator.claim(1, 1, "c1", Cidr(BASE + 100, 24))
    actions = allocator.receive_gossip(1, gossip_of((0, ONE, 0, 0), (16, ONE, 0, 0), (64, TWO, 0, 64)))
    [warning] = warnings(actions)
    assert "10.0.0.100-10.0.0.100 are in use by containers here, but peer 22:00:00:00:00:02 owns them" in warning
    assert result(allocator.allocate(2, 2, "c1", UNIVERSE)) == BASE + 1, "after a restart it has a safe one"
    assert result(allocator.free(2, 2, "c1", BASE + 100)) is None
    assert allocator.space.owned() == [Range(BASE, BASE + 64)]


def test_an_address_in_use_whose_range_comes_back_is_not_given_to_another() -> None:
    lost = started(ONE)
    lost.claim(1, 1, "c1", Cidr(BASE + 100, 24))
    lost.receive_gossip(2, gossip_of((0, ONE, 0, 0), (16, ONE, 0, 0), (64, TWO, 0, 64)))
    lost.receive_gossip(3, gossip_of((64, ONE, 5, 0)))
    assert lost.records.holder(BASE + 100) == "c1"
    assert BASE + 100 in lost.space.ours


def test_a_peer_in_the_network_is_not_taken_over() -> None:
    mesh = Mesh(TWO)
    allocator = started(ONE, TWO, mesh=mesh)
    actions = allocator.takeover(1, 1, str(TWO))
    refused = result(actions)
    assert isinstance(refused, Refused)
    assert str(refused).startswith("peer 22:00:00:00:00:02 is in the network; stop it")
    assert not any(isinstance(action, Broadcast) for action in actions)
    assert allocator.ring.owner(BASE + 200) == TWO
    mesh.known.remove(TWO)
    assert result(allocator.takeover(2, 2, str(TWO))) == 128


@pytest.mark.parametrize("peer", ["one", str(ONE), "nobody"])
def test_taking_over_ourselves_or_nobody_wins_nothing(peer: str) -> None:
    allocator = started(ONE, TWO)
    actions = allocator.takeover(1, 1, peer)
    assert result(actions) == 0
    assert peer in warnings(actions)[0]


def test_a_client_that_went_gets_nothing() -> None:
    allocator = started(TWO)
    asked = allocator.allocate(1, 5, "c1", UNIVERSE)
    assert [type(action) for action in asked] == [SendUnicast]
    allocator.cancel(5)
    allocator.cancel(77)
    assert isinstance(result(allocator.tick(5)), Cancelled)
    assert allocator.waiting.allocates == []


def test_an_unused_disk_of_another_peer_or_range_is_told() -> None:
    ring = RingState(*UNIVERSE.range, TWO, (Entry(BASE, TWO, 0, 256),), ())
    [kept, warning] = make().start(0, Snapshot(ring, {}))
    assert isinstance(kept, Persist)
    assert kept.snapshot.ring.entries == ()
    assert isinstance(warning, Warn)
    assert warning.sentence == f"the stored addresses are dropped: they are of peer {TWO}, and this is {ONE}"
    other_range = RingState(0, 256, ONE, (Entry(0, ONE, 0, 256),), ())
    assert (
        "they divide 0.0.0.0/24, and the range is now 10.0.0.0/24"
        in warnings(make().start(0, Snapshot(other_range, {})))[0]
    )
    broken = RingState(*UNIVERSE.range, ONE, (Entry(BASE, ONE, 0, 257),), ())
    assert "reporting too much free space" in warnings(make().start(0, Snapshot(broken, {})))[0]


def test_a_stored_address_outside_the_range_is_kept_on_record() -> None:
    ring = RingState(*UNIVERSE.range, ONE, (Entry(BASE, ONE, 0, 255),), (ONE,))
    outside, inside = Cidr.parse("192.168.1.1/24"), Cidr.parse("10.0.0.9/24")
    allocator = make()
    allocator.start(0, Snapshot(ring, {"c1": Holding(True, (outside, inside))}))
    assert allocator.lookup("c1", UNIVERSE) == [inside]
    assert result(allocator.delete(1, 1, "c1")) is None
    assert allocator.space.free.size == 256


def test_a_claim_of_what_was_found_that_fails_is_told() -> None:
    ring = RingState(*UNIVERSE.range, ONE, (Entry(BASE, ONE, 0, 255),), (ONE,))
    found = Claim(None, "c2", Cidr.parse("10.0.0.9/24"), is_container=True)
    allocator = make(found=[found])
    actions = allocator.start(0, Snapshot(ring, {"c1": Holding(True, (found.cidr,))}))
    assert "10.0.0.9/24 of c2 is in use here but could not be claimed" in warnings(actions)[0]
    assert allocator.waiting.claims == []


def test_what_was_found_dies_with_its_container() -> None:
    found = Claim(None, "c2", Cidr.parse("10.0.0.9/24"), is_container=True)
    allocator = make(ONE, found=[found])
    allocator.start(0)
    assert allocator.records.holder(parse_ip("10.0.0.9")) == "c2"
    allocator.container_died(1, "c2")
    allocator.tick(31)
    assert allocator.records.holder(parse_ip("10.0.0.9")) == "c2", "after more than 30 seconds, not at 30"
    allocator.tick(31.5)
    assert allocator.records.holder(parse_ip("10.0.0.9")) is None


def test_an_agreement_on_nobody_makes_no_ring() -> None:
    allocator = started()
    nobody = AcceptedValue((), Proposal(1, Voter(TWO, 2)))
    claims = Claims(Proposal(1, Voter(TWO, 2)), Proposal(1, Voter(TWO, 2)), nobody)
    actions = allocator.receive_gossip(1, codec.encode_state(GossipState(0, {}, {Voter(TWO, 2): claims}, None)))
    assert [type(action) for action in actions] == [Refuse]
    assert allocator.ring.is_empty


def test_nicknames_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nicknames, "MAX_NICKNAMES", 3)
    allocator = started(ONE)
    names = {PeerName(number): "x" for number in range(1, 9)}
    allocator.receive_gossip(1, codec.encode_state(GossipState(0, names, {}, None)))
    assert len(allocator.nicknames.copy()) == 3


def test_what_is_given_is_durable_before_it_is_sent() -> None:
    allocator = started(ONE)
    actions = allocator.receive_unicast(1, TWO, codec.space_request(UNIVERSE.range))
    assert [type(action) for action in actions] == [Persist, SendUnicast, Broadcast]
    assert isinstance(actions[0], Persist)
    assert [entry.peer for entry in actions[0].snapshot.ring.entries] == [ONE, TWO]


def test_an_observer_asks_and_makes_no_ring() -> None:
    allocator = make(observer=True)
    allocator.start(0)
    [broadcast] = allocator.prime(1, 1)
    assert isinstance(broadcast, Broadcast)
    assert codec.decode_state(broadcast.payload).paxos is None
    elector = codec.encode_state(GossipState(0, {}, {}, None))
    assert allocator.receive_broadcast(2, TWO, elector) == []
    assert result(allocator.receive_gossip(3, gossip_of((0, TWO, 0, 256)))) is None


def test_leaving_without_an_heir() -> None:
    allocator = started(ONE, mesh=Mesh())
    actions = allocator.shutdown(1)
    assert actions == []
    assert isinstance(result(allocator.allocate(2, 1, "c1", UNIVERSE)), Cancelled)


def test_the_heir_is_alive_if_any_is() -> None:
    allocator = started(ONE, TWO, mesh=Mesh(THREE))
    allocator.receive_gossip(1, codec.encode_state(GossipState(0, {THREE: "three"}, {}, None)))
    allocator.shutdown(2)
    assert allocator.ring.owner(BASE) == THREE, "it owns nothing, but it lives"
    other = started(ONE, TWO, mesh=Mesh())
    other.shutdown(2)
    assert other.ring.owner(BASE) == TWO


def test_an_address_is_answered_to_the_same_ident_again() -> None:
    allocator = started(ONE)
    first = result(allocator.allocate(1, 1, "c1", UNIVERSE))
    assert isinstance(first, int)
    assert text(first) == "10.0.0.1"
    again = allocator.allocate(2, 2, "c1", UNIVERSE)
    assert again == [Reply(2, first)], "and nothing needs to be kept for that"


@pytest.mark.parametrize("universe", ["255.0.0.0/8", "0.0.0.0/0"])
def test_a_range_up_to_the_last_address_is_refused(universe: str) -> None:
    with pytest.raises(ConfigError, match=f"the range {universe} cannot be shared out"):
        Settings(Voter(ONE, 1), "one", Cidr.parse(universe))
