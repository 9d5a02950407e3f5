"""Whatever peers send, well formed or not: the allocator lives, and its own books stay in order."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from plait.ipam import codec, entry
from plait.ipam.actions import Broadcast, SendUnicast
from plait.ipam.address import Cidr, Range, glued
from plait.ipam.allocator import Allocator
from plait.ipam.codec import GossipState
from plait.ipam.entry import MAX_VERSION, Entry, RingError
from plait.ipam.paxos import MAX_ROUND, AcceptedValue, Claims, Proposal, Voter
from plait.ipam.ring import Ring, RingState
from plait.ipam.settings import Settings
from plait.ipam.space import Space
from plait.mesh.name import PeerName

US, OTHERS = PeerName(1), [PeerName(2), PeerName(3), PeerName(0)]
UNIVERSE = Cidr.parse("10.0.0.0/27")
LIMITS = UNIVERSE.range


class Mesh:
    def is_known(self, peer: PeerName) -> bool:
        return peer in (US, OTHERS[0])

    def why_unreachable(self, peer: PeerName) -> str | None:
        return None if peer == OTHERS[0] else "gone"

    def quorum(self) -> int:
        return 2


peers = st.sampled_from([US, *OTHERS])
tokens = st.integers(LIMITS.start - 1, LIMITS.end + 1)
entries = st.builds(
    Entry, tokens, peers, st.one_of(st.integers(0, 5), st.just(MAX_VERSION)), st.one_of(st.integers(0, 8), st.just(33))
)
rings = st.builds(
    lambda found, seeds, limits: RingState(limits.start, limits.end, OTHERS[0], tuple(sorted(found)), tuple(seeds)),
    st.lists(entries, max_size=6, unique_by=lambda found: found.token),
    st.lists(peers, max_size=1),
    st.sampled_from([LIMITS] * 9 + [Range(0, 32)]),
)
voters = st.builds(Voter, peers, st.integers(1, 2))
proposals = st.builds(Proposal, st.sampled_from([0, 1, 2, MAX_ROUND]), voters)
claims = st.builds(
    Claims, proposals, proposals, st.builds(AcceptedValue, st.lists(peers, max_size=3).map(tuple), proposals)
)
states = st.builds(
    GossipState,
    st.just(0),
    st.dictionaries(peers, st.text(max_size=3), max_size=2),
    st.one_of(st.none(), st.dictionaries(voters, claims, max_size=3)),
    st.one_of(st.none(), rings),
)
asked = st.builds(Range, tokens, tokens)
events = st.one_of(
    st.tuples(st.just("gossip"), states),
    st.tuples(st.just("broadcast"), states),
    st.tuples(st.just("request"), asked),
    st.tuples(st.just("denied"), asked),
    st.tuples(st.just("update"), states),
    st.tuples(st.just("allocate"), st.integers(0, 5)),
    st.tuples(st.just("claim"), st.integers(LIMITS.start - 1, LIMITS.end)),
    st.tuples(st.just("delete"), st.integers(0, 5)),
    st.tuples(st.just("tick"), st.none()),
    st.tuples(st.just("takeover"), peers),
)


def step(allocator: Allocator, number: int, event: tuple[str, object]) -> None:
    kind, given_ = event
    now = float(number * 5)
    sender = OTHERS[0]
    match kind, given_:
        case "gossip", GossipState():
            actions = allocator.receive_gossip(now, codec.encode_state(given_))
        case "broadcast", GossipState():
            actions = allocator.receive_broadcast(now, sender, codec.encode_state(given_))
        case "update", GossipState():
            actions = allocator.receive_unicast(now, sender, codec.ring_update(given_))
        case "request", Range():
            actions = allocator.receive_unicast(now, sender, codec.space_request(given_))
        case "denied", Range():
            actions = allocator.receive_unicast(now, sender, codec.space_request_denied(given_))
        case "allocate", int():
            actions = allocator.allocate(now, number, f"c{given_}", UNIVERSE)
        case "claim", int():
            actions = allocator.claim(now, number, f"k{given_}", Cidr(given_, 27))
        case "delete", int():
            actions = allocator.delete(now, number, f"c{given_}")
        case "takeover", PeerName():
            actions = allocator.takeover(now, number, str(given_), force=True)
        case _:
            actions = allocator.tick(now)
    for action in actions:
        if isinstance(action, SendUnicast):
            codec.decode_unicast(action.payload)
        elif isinstance(action, Broadcast):
            codec.decode_state(action.payload)


@settings(max_examples=150)
@given(st.booleans(), st.lists(events, max_size=25))
def test_the_books_stay_in_order(has_seed: bool, history: list[tuple[str, object]]) -> None:
    us = Settings(Voter(US, 1), "us", UNIVERSE, (US, OTHERS[0]) if has_seed else ())
    allocator = Allocator(us, Mesh(), random.Random(1))
    allocator.start(0)
    for number, event in enumerate(history, start=1):
        step(allocator, number, event)
        entry.check(LIMITS, allocator.ring.entries)
        assert allocator.space.owned() == glued(allocator.ring.owned())
        free, ours = list(allocator.space.free), list(allocator.space.ours)
        assert (
            sum(piece.size for piece in glued([*free, *ours])) == allocator.space.free.size + allocator.space.ours.size
        )
        recorded = {address for address in allocator.records.addresses() if allocator.ring.owner(address) == US}
        assert {address for piece in ours for address in range(*piece)} == recorded & set(range(*LIMITS))


@settings(max_examples=150)
@given(rings, rings)
def test_a_failed_merge_takes_nothing(first: RingState, second: RingState) -> None:
    ring = Ring(LIMITS, US)
    for received in (first, second):
        before = [found[:2] for found in ring.entries]
        try:
            is_updated = ring.merge(received, Space(ring.owned()).is_used)
        except RingError:
            is_updated = False
        if not is_updated:
            assert [found[:2] for found in ring.entries] == before
        entry.check(LIMITS, ring.entries)
        owner_by_entries = {a: info.peer for info in ring.all_ranges() for a in range(*info.range)}
        assert all(ring.owner(address) == peer for address, peer in owner_by_entries.items())
        assert {a for piece in ring.owned() for a in range(*piece)} == {
            a for a, p in owner_by_entries.items() if p == US
        }
