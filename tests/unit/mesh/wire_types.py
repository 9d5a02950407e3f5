"""Weave's other gob types, as test types: what IP allocation and the name server send, with Go's names and order."""

from collections.abc import Sequence
from typing import Any

from plait.mesh import gob

FEATURES = gob.Map(gob.STRING, gob.STRING)

NODE_ID = gob.Struct("", (("Name", gob.UINT), ("UID", gob.UINT)))
PROPOSAL_ID = gob.Struct("ProposalID", (("Round", gob.UINT), ("Proposer", NODE_ID)))
ACCEPTED_VALUE = gob.Struct("AcceptedValue", (("Value", gob.Slice(gob.UINT, "Value")), ("Origin", PROPOSAL_ID)))
NODE_CLAIMS = gob.Struct("", (("Promise", PROPOSAL_ID), ("Accepted", PROPOSAL_ID), ("AcceptedVal", ACCEPTED_VALUE)))
RING_ENTRY = gob.Struct("", (("Token", gob.UINT32), ("Peer", gob.UINT), ("Version", gob.UINT32), ("Free", gob.UINT32)))
RING = gob.Struct(
    "Ring",
    (
        ("Start", gob.UINT32),
        ("End", gob.UINT32),
        ("Peer", gob.UINT),
        ("Entries", gob.Slice(RING_ENTRY, "entries")),
        ("Seeds", gob.Slice(gob.UINT, "[]mesh.PeerName")),
    ),
)
GOSSIP_STATE = gob.Struct(
    "gossipState",
    (
        ("Now", gob.INT),
        ("Nicknames", gob.Map(gob.UINT, gob.STRING, "map[mesh.PeerName]string")),
        ("Paxos", gob.Map(NODE_ID, NODE_CLAIMS, "GossipState")),
        ("Ring", gob.Pointer(RING)),
    ),
)
ADDRESS_RANGE = gob.Struct("Range", (("Start", gob.UINT32), ("End", gob.UINT32)))

DNS_ENTRY = gob.Struct(
    "Entry",
    (
        ("ContainerID", gob.STRING),
        ("Origin", gob.UINT),
        ("Addr", gob.UINT32),
        ("Hostname", gob.STRING),
        ("Version", gob.INT),
        ("Tombstone", gob.INT),
    ),
)
GOSSIP_DATA = gob.Struct("GossipData", (("Timestamp", gob.INT), ("Entries", gob.Slice(DNS_ENTRY, "Entries"))))


def named(kind: gob.Type, value: Any) -> Any:
    """Give a decoded value as the vectors show it: structs as objects, slices as lists, bytes as hex."""
    match kind:
        case gob.Pointer():
            return None if value is None else named(kind.target, value)
        case gob.Struct():
            pairs = zip(kind.fields, value, strict=True)
            return {name: named(field_type, item) for (name, field_type), item in pairs}
        case gob.Slice():
            return [named(kind.element, item) for item in value]
        case _:
            return value.hex() if isinstance(value, bytes) else value


def unnamed(kind: gob.Type, value: Any) -> Any:
    """The reverse of `named`."""
    match kind:
        case gob.Pointer():
            return None if value is None else unnamed(kind.target, value)
        case gob.Struct():
            return tuple(unnamed(field_type, value[name]) for name, field_type in kind.fields)
        case gob.Slice():
            return tuple(unnamed(kind.element, item) for item in value)
        case gob.Scalar(name="bytes") | gob.Opaque():
            return bytes.fromhex(value)
        case _:
            return value


def state_as_json(state: Sequence[Any]) -> dict[str, Any]:
    """Give a decoded GOSSIP_STATE in the form of ipam_payloads.json, lists sorted."""
    now, nicknames, paxos, ring = state
    claims = None
    if paxos is not None:
        claims = [named(NODE_CLAIMS, claim) | {"node": named(NODE_ID, node)} for node, claim in sorted(paxos.items())]
    return {
        "Now": now,
        "Nicknames": [{"peer": peer, "nickname": name} for peer, name in sorted((nicknames or {}).items())],
        "Nicknames_present": nicknames is not None,
        "Paxos": claims,
        "Ring": named(gob.Pointer(RING), ring),
    }


def sorted_state(state: dict[str, Any]) -> dict[str, Any]:
    """Sort the lists that stand for maps in a state of the vectors."""
    paxos = state["Paxos"]
    if paxos is not None:
        paxos = sorted(paxos, key=lambda claim: (claim["node"]["Name"], claim["node"]["UID"]))
    return state | {"Nicknames": sorted(state["Nicknames"], key=lambda entry: entry["peer"]), "Paxos": paxos}


def state_from_json(state: dict[str, Any]) -> tuple[Any, ...]:
    """Give the GOSSIP_STATE value of a state in the vectors."""
    nicknames = {entry["peer"]: entry["nickname"] for entry in state["Nicknames"]}
    paxos = None
    if state["Paxos"] is not None:
        paxos = {unnamed(NODE_ID, claim["node"]): unnamed(NODE_CLAIMS, claim) for claim in state["Paxos"]}
    return (
        state["Now"],
        nicknames if state["Nicknames_present"] else None,
        paxos,
        unnamed(gob.Pointer(RING), state["Ring"]),
    )


def as_sent(kind: gob.Type, value: Any) -> Any:
    """Give a decoded value as the live files show it: fields that Go leaves out are left out, maps are lists."""
    match kind:
        case gob.Pointer():
            return as_sent(kind.target, value)
        case gob.Struct():
            fields = zip(kind.fields, value, strict=True)
            return {name: as_sent(part, item) for (name, part), item in fields if _is_sent(part, item)}
        case gob.Map():
            return [{"key": as_sent(kind.key, k), "value": as_sent(kind.element, e)} for k, e in value.items()]
        case gob.Slice():
            return [as_sent(kind.element, item) for item in value]
        case _:
            return named(kind, value)


def _is_sent(kind: gob.Type, value: Any) -> bool:
    if isinstance(kind, gob.Map | gob.Pointer):
        return value is not None
    return isinstance(kind, gob.Struct) or bool(value)
