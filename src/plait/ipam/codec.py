"""The messages of address allocation on the wire: gob, in Weave's layout (spec: gob 6, ipam 7 and 8).

What crashes or hangs a Weave peer cannot be written here: an empty unicast, or one of an unknown kind.
"""

from enum import IntEnum
from typing import Any, NamedTuple

from plait.errors import PlaitError
from plait.ipam.address import Range
from plait.ipam.entry import Entry
from plait.ipam.paxos import AcceptedValue, Claims, Proposal, Voter
from plait.ipam.ring import RingState
from plait.mesh import gob
from plait.mesh.name import PeerName

CHANNEL = "IPallocation"
"""The gossip channel's name."""


class Kind(IntEnum):
    """What a unicast is; its first byte."""

    SPACE_REQUEST = 0
    RING_UPDATE = 1
    SPACE_REQUEST_DENIED = 2


class BadMessage(PlaitError):
    """A message that no peer sends: of no known kind, or one whose content would crash a Weave peer if passed on."""


class GossipState(NamedTuple):
    """What a peer tells of itself.

    `now` is in Unix seconds, for information. `paxos` is None without the field (an observer, or there is a ring) and
    an empty map for an elector that knows nothing yet. `ring` is None while the range is not divided.
    """

    now: int
    nicknames: dict[PeerName, str]
    paxos: dict[Voter, Claims] | None
    ring: RingState | None


def _names(values: Any) -> tuple[PeerName, ...]:
    return tuple(map(PeerName, values))


VOTER = gob.Struct("", (("Name", gob.UINT), ("UID", gob.UINT)), lambda v: Voter(PeerName(v[0]), v[1]))
PROPOSAL = gob.Struct("ProposalID", (("Round", gob.UINT), ("Proposer", VOTER)), Proposal._make)
ACCEPTED_VALUE = gob.Struct(
    "AcceptedValue",
    (("Value", gob.Slice(gob.UINT, "Value")), ("Origin", PROPOSAL)),
    lambda v: AcceptedValue(_names(v[0]), v[1]),
)
CLAIMS = gob.Struct("", (("Promise", PROPOSAL), ("Accepted", PROPOSAL), ("AcceptedVal", ACCEPTED_VALUE)), Claims._make)
ENTRY = gob.Struct(
    "",
    (("Token", gob.UINT32), ("Peer", gob.UINT), ("Version", gob.UINT32), ("Free", gob.UINT32)),
    lambda v: Entry(v[0], PeerName(v[1]), v[2], v[3]),
)
RING = gob.Struct(
    "Ring",
    (
        ("Start", gob.UINT32),
        ("End", gob.UINT32),
        ("Peer", gob.UINT),
        ("Entries", gob.Slice(ENTRY, "entries")),
        ("Seeds", gob.Slice(gob.UINT, "[]mesh.PeerName")),
    ),
    lambda v: RingState(v[0], v[1], PeerName(v[2]), v[3], _names(v[4])),
)
STATE = gob.Struct(
    "gossipState",
    (
        ("Now", gob.INT),
        ("Nicknames", gob.Map(gob.UINT, gob.STRING, "map[mesh.PeerName]string")),
        ("Paxos", gob.Map(VOTER, CLAIMS, "GossipState")),
        ("Ring", gob.Pointer(RING)),
    ),
    lambda v: GossipState(v[0], {PeerName(name): nick for name, nick in (v[1] or {}).items()}, v[2], v[3]),
)
RANGE = gob.Struct("Range", (("Start", gob.UINT32), ("End", gob.UINT32)), Range._make)

_state_encoder = gob.Encoder(STATE)
_range_encoder = gob.Encoder(RANGE)


def encode_state(state: GossipState) -> bytes:
    """Write the payload of gossip and of a broadcast."""
    return _state_encoder.stream(state)


def decode_state(payload: bytes) -> GossipState:
    """Read the payload of gossip or of a broadcast; raises PlaitError."""
    state: GossipState = gob.decode(STATE, payload)
    for voter, claims in (state.paxos or {}).items():
        if claims.accepted.round and not claims.accepted_value.value:
            raise BadMessage(
                f"a message about address allocation says that peer {voter.name} agreed to a ring without peers; "
                "the sender is damaged"
            )
    return state


def ring_update(state: GossipState) -> bytes:
    """Write a unicast that tells all we know."""
    return bytes([Kind.RING_UPDATE]) + encode_state(state)


def space_request(wanted: Range) -> bytes:
    """Write a unicast that asks for addresses inside the range."""
    return bytes([Kind.SPACE_REQUEST]) + _range_encoder.stream(wanted)


def space_request_denied(wanted: Range) -> bytes:
    """Write the unicast that says there are none to give."""
    return bytes([Kind.SPACE_REQUEST_DENIED]) + _range_encoder.stream(wanted)


def decode_unicast(payload: bytes) -> tuple[Kind, GossipState | Range]:
    """Read a unicast: a ring update has a GossipState, the others a Range. Raises PlaitError."""
    try:
        kind = Kind(payload[0])
    except (IndexError, ValueError):
        raise BadMessage(
            f"a message about address allocation begins with {payload[:1].hex() or 'nothing'}, which is no known kind; "
            "the sender is damaged or newer than this node"
        ) from None
    if kind is Kind.RING_UPDATE:
        return kind, decode_state(payload[1:])
    wanted: Range = gob.decode(RANGE, payload[1:])
    return kind, wanted
