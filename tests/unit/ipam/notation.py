"""The notation of the address allocation vectors: ranges, entries, rings and proposals as JSON."""

from collections.abc import Iterable, Mapping
from typing import Any

from plait.ipam import codec
from plait.ipam.address import Range, parse_ip, text
from plait.ipam.codec import GossipState
from plait.ipam.entry import Entry
from plait.ipam.paxos import AcceptedValue, Claims, Proposal, Voter
from plait.ipam.ring import RingState
from plait.mesh.name import PeerName


def range_of(pair: list[str]) -> Range:
    """Read `["first", "end"]`."""
    return Range(parse_ip(pair[0]), parse_ip(pair[1]))


def ranges_of(pairs: Iterable[list[str]] | None) -> list[Range]:
    """Read a list of ranges; Go writes an empty one as null."""
    return [range_of(pair) for pair in pairs or ()]


def ranges_text(ranges: Iterable[Range]) -> list[list[str]]:
    """Write a list of ranges."""
    return [[text(piece.start), text(piece.end)] for piece in ranges]


def entry_of(row: list[Any]) -> Entry:
    """Read `[token, owner, version, free]`."""
    token, peer, version, free = row
    return Entry(parse_ip(token), PeerName.parse(peer), version, free)


def entries_text(entries: Iterable[Entry]) -> list[list[Any]]:
    """Write entries."""
    return [[text(token), str(peer), version, free] for token, peer, version, free in entries]


def ring_of(ring: dict[str, Any]) -> RingState:
    """Read a ring."""
    return RingState(
        parse_ip(ring["start"]),
        parse_ip(ring["end"]),
        PeerName.parse(ring["peer"]),
        tuple(entry_of(row) for row in ring["entries"]),
        tuple(PeerName.parse(seed) for seed in ring["seeds"]),
    )


def ring_text(ring: RingState) -> dict[str, Any]:
    """Write a ring."""
    return {
        "start": text(ring.start),
        "end": text(ring.end),
        "peer": str(ring.peer),
        "entries": entries_text(ring.entries),
        "seeds": [str(seed) for seed in ring.seeds],
    }


def voter_of(given: str) -> Voter:
    """Read `name/uid`."""
    name, _, uid = given.partition("/")
    return Voter(PeerName.parse(name), int(uid))


def voter_text(voter: Voter) -> str:
    """Write a voter."""
    return f"{voter.name}/{voter.uid}"


def proposal_of(pair: list[Any]) -> Proposal:
    """Read `[round, voter]`."""
    return Proposal(pair[0], voter_of(pair[1]))


def proposal_text(proposal: Proposal) -> list[Any]:
    """Write a proposal."""
    return [proposal.round, voter_text(proposal.proposer)]


def knowledge_of(knows: dict[str, Any]) -> dict[Voter, Claims]:
    """Read what is known of all voters."""
    return {
        voter_of(voter): Claims(
            proposal_of(claims["promise"]),
            proposal_of(claims["accepted"]),
            AcceptedValue(tuple(map(PeerName.parse, claims["value"])), proposal_of(claims["origin"])),
        )
        for voter, claims in knows.items()
    }


def knowledge_text(knows: Mapping[Voter, Claims]) -> dict[str, Any]:
    """Write what is known of all voters; values are sorted, as their order is arbitrary."""
    return {
        voter_text(voter): {
            "promise": proposal_text(claims.promise),
            "accepted": proposal_text(claims.accepted),
            "origin": proposal_text(claims.accepted_value.origin),
            "value": sorted(map(str, claims.accepted_value.value)),
        }
        for voter, claims in knows.items()
    }


def state_text(state: GossipState) -> dict[str, Any]:
    """Write what a peer tells of itself."""
    return {
        "now": state.now,
        "nicknames": {str(peer): nickname for peer, nickname in state.nicknames.items()},
        "paxos": None if state.paxos is None else knowledge_text(state.paxos),
        "ring": None if state.ring is None else ring_text(state.ring),
    }


KINDS = {
    codec.Kind.SPACE_REQUEST: "space_request",
    codec.Kind.RING_UPDATE: "ring_update",
    codec.Kind.SPACE_REQUEST_DENIED: "space_request_denied",
}


def message_text(payload: bytes) -> dict[str, Any]:
    """Write a unicast."""
    kind, content = codec.decode_unicast(payload)
    if isinstance(content, GossipState):
        return {"kind": KINDS[kind], "state": state_text(content)}
    return {"kind": KINDS[kind], "start": text(content.start), "end": text(content.end)}
