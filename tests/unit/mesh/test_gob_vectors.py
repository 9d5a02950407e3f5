"""Every gob vector: what Go wrote is read alike and written alike, what Go refuses is refused."""

from typing import Any

import pytest

import golden
from plait.mesh import gob
from plait.mesh.gob import Decoder, Encoder, GobError
from plait.mesh.records import PeerRecord
from plait.mesh.topology import CONNECTION_SUMMARIES, PEER_SUMMARY, decode_topology
from unit.mesh import wire_types

PRIMITIVES = "mesh/gob_primitives.json"
MESH_TYPES = "mesh/gob_mesh_types.json"
TOLERANCE = "mesh/gob_decoder_tolerance.json"
IPAM = "mesh/ipam_payloads.json"
NAMES = "mesh/nameserver_payloads.json"

# The mesh's own structs without their conversion to records, so that all six fields can be compared.
RAW_SUMMARY = gob.Struct("peerSummary", PEER_SUMMARY.fields)
assert isinstance(CONNECTION_SUMMARIES.element, gob.Struct)
RAW_CONNECTIONS = gob.Slice(gob.Struct("connectionSummary", CONNECTION_SUMMARIES.element.fields))

TYPES: dict[str, gob.Type] = {
    "uint": gob.UINT,
    "int": gob.INT,
    "bool": gob.BOOL,
    "string": gob.STRING,
    "bytes": gob.BYTES,
    "float": gob.FLOAT,
    "gobencoder": gob.Opaque("Time"),
    "map[string]string": wire_types.FEATURES,
    "peerSummary": RAW_SUMMARY,
    "[]connectionSummary": RAW_CONNECTIONS,
}


def decode_all(case: dict[str, Any]) -> list[Any]:
    decoder = Decoder(bytes.fromhex(case["hex"]))
    kinds = [TYPES[value["type"]] for value in case["values"]]
    values = [wire_types.named(kind, decoder.value(kind)) for kind in kinds]
    assert not decoder.has_more()
    return values


def first_defined_id(data: bytes) -> int:
    """Give the lowest number that a stream defines; here all streams number theirs without gaps."""
    decoder = Decoder(data)
    decoder._read_type_id()
    return min(decoder._definitions, default=65)


def encode_like(data: bytes, kinds: list[gob.Type], values: list[Any]) -> bytes:
    return Encoder(*kinds, first_id=first_defined_id(data)).stream(*values)


@pytest.mark.parametrize("case", golden.cases(PRIMITIVES) + golden.cases(MESH_TYPES), ids=golden.case_id)
def test_values_read_as_go_meant_them(case: dict[str, Any]) -> None:
    assert decode_all(case) == [value["value"] for value in case["values"]]


@pytest.mark.parametrize("case", golden.cases(PRIMITIVES), ids=golden.case_id)
def test_primitives_are_written_byte_for_byte_like_go(case: dict[str, Any]) -> None:
    kinds = [TYPES[value["type"]] for value in case["values"]]
    values = [wire_types.unnamed(kind, value["value"]) for kind, value in zip(kinds, case["values"], strict=True)]
    data = bytes.fromhex(case["hex"])
    assert encode_like(data, kinds, values) == data


@pytest.mark.parametrize("case", golden.cases(MESH_TYPES), ids=golden.case_id)
def test_mesh_types_are_written_like_go(case: dict[str, Any]) -> None:
    """Byte for byte where no map of several entries is in the way; Go numbered the two mesh types 66 and 67, 68."""
    kinds = [TYPES[value["type"]] for value in case["values"]]
    values = [wire_types.unnamed(kind, value["value"]) for kind, value in zip(kinds, case["values"], strict=True)]
    data = bytes.fromhex(case["hex"])
    encoded = encode_like(data, kinds, values)
    if kinds == [wire_types.FEATURES] and len(values[0]) > 1:
        assert decode_all(case | {"hex": encoded.hex()}) == [value["value"] for value in case["values"]]
    else:
        assert encoded == data


# What Go's decoder accepts and refuses


def decode_kind(kind: str, data: bytes) -> Any:
    """Read a tolerance case with the types that Weave reads it with; give what the vectors show of it."""
    decoder = Decoder(data)
    match kind:
        case "topology":
            return [show_record(record) for record in decode_topology(data)]
        case "features":
            return [decoder.value(wire_types.FEATURES)]
        case "gossip":
            return [decoder.value(gob.STRING), decoder.value(gob.UINT), decoder.value(gob.BYTES).hex()]
        case "unicast":
            return [decoder.value(gob.STRING), *(decoder.value(gob.UINT) for _ in "12"), decoder.value(gob.BYTES).hex()]
        case "bytes2":
            return [decoder.value(gob.BYTES).hex() for _ in "12"]
        case "ipamstate":
            return wire_types.state_as_json(decoder.value(wire_types.GOSSIP_STATE))
        case "range":
            return wire_types.named(wire_types.ADDRESS_RANGE, decoder.value(wire_types.ADDRESS_RANGE))
        case "ns":
            gossip = wire_types.named(wire_types.GOSSIP_DATA, decoder.value(wire_types.GOSSIP_DATA))
            return gossip | {"Entries": sorted(gossip["Entries"], key=receiver_key)}
    raise AssertionError(f"unknown kind {kind}")


def show_record(record: PeerRecord) -> dict[str, Any]:
    summary = record.summary
    return {
        "name": str(summary.name),
        "summary": {
            "NickName": summary.nickname.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
            "UID": summary.uid,
            "Version": summary.version,
            "ShortID": summary.short_id or 0,
            "HasShortID": summary.short_id is not None,
        },
        "connections": [
            {
                "NameByte": connection.remote.to_bytes6().hex(),
                "RemoteTCPAddr": connection.address,
                "Outbound": connection.outbound,
                "Established": connection.established,
            }
            for connection in record.connections
        ],
    }


def shown(kind: str, decoded: Any) -> Any:
    """Bring a vector's value into the form of `decode_kind`: records keep names as numbers, not as bytes."""
    if kind == "ipamstate":
        return wire_types.sorted_state(decoded)
    if kind != "topology":
        return decoded
    records = [record | {"summary": dict(record["summary"])} for record in decoded or []]
    for record in records:
        del record["summary"]["NameByte"]
    return records


@pytest.mark.parametrize("case", golden.cases(TOLERANCE), ids=golden.case_id)
def test_the_decoder_is_as_strict_as_go(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["hex"])
    if not case["accepted"]:
        with pytest.raises(GobError) as caught:
            decode_kind(case["kind"], data)
        assert 0 <= caught.value.offset <= len(data)
        return
    assert decode_kind(case["kind"], data) == shown(case["kind"], case["decoded"])


# IP allocation and name server


@pytest.mark.parametrize("case", golden.cases(IPAM, "gossip_states"), ids=golden.case_id)
def test_allocation_states(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["hex"])
    state = gob.decode(wire_types.GOSSIP_STATE, data)
    assert wire_types.state_as_json(state) == wire_types.sorted_state(case["state"])
    encoded = Encoder(wire_types.GOSSIP_STATE).stream(wire_types.state_from_json(case["state"]))
    assert gob.decode(wire_types.GOSSIP_STATE, encoded) == state
    if all(len(mapping or ()) < 2 for mapping in state[1:3]):
        assert encoded == data


@pytest.mark.parametrize("case", golden.cases(IPAM, "unicasts"), ids=golden.case_id)
def test_allocation_unicasts(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["hex"])
    assert data[0] == case["kind"]
    if "range" not in case:
        state = gob.decode(wire_types.GOSSIP_STATE, data[1:])
        assert wire_types.state_as_json(state) == wire_types.sorted_state(case["state"])
        return
    kind = wire_types.ADDRESS_RANGE
    assert wire_types.named(kind, gob.decode(kind, data[1:])) == case["range"]
    assert encode_like(data[1:], [kind], [wire_types.unnamed(kind, case["range"])]) == data[1:]


@pytest.mark.parametrize("case", golden.cases(NAMES), ids=golden.case_id)
def test_name_server_payloads(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["hex"])
    gossip = gob.decode(wire_types.GOSSIP_DATA, data)
    shown_entries = wire_types.named(wire_types.GOSSIP_DATA, gossip)
    assert shown_entries["Timestamp"] == case["Timestamp"]
    in_receivers_order = sorted(shown_entries["Entries"], key=receiver_key)
    assert in_receivers_order == sorted(case["Entries_case_insensitive_order"], key=receiver_key)
    assert Encoder(wire_types.GOSSIP_DATA).stream(gossip) == data


@pytest.mark.parametrize("case", golden.cases(NAMES, "receive"), ids=golden.case_id)
def test_name_server_payloads_of_the_receive_rules(case: dict[str, Any]) -> None:
    """Only their form is the codec's business; the rules are the name server's."""
    data = bytes.fromhex(case["payload_hex"])
    gossip = gob.decode(wire_types.GOSSIP_DATA, data)
    assert Encoder(wire_types.GOSSIP_DATA).stream(gossip) == data


def receiver_key(entry: dict[str, Any]) -> tuple[Any, ...]:
    return (entry["Hostname"].lower(), entry["Origin"], entry["ContainerID"], entry["Addr"], entry["Hostname"])
