"""Gob by property: what is written is read back by whoever expects it; damage gives GobError and nothing else."""

from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
from plait.mesh import gob
from plait.mesh.gob import Decoder, Encoder, GobError, _compiler, _reader, decoder
from unit.mesh import wire_types
from unit.mesh.fuzz import damaged

golden.expect_entered("gob.Decoder")

SCALARS = {
    gob.BOOL: st.booleans(),
    gob.INT: st.integers(-(2**63), 2**63 - 1),
    gob.UINT: st.integers(0, 2**64 - 1),
    gob.UINT16: st.integers(0, 2**16 - 1),
    gob.UINT32: st.integers(0, 2**32 - 1),
    gob.FLOAT: st.floats(allow_nan=False),
    gob.BYTES: st.binary(max_size=20),
    gob.STRING: st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
}
scalars = st.sampled_from(list(SCALARS))
field_names = st.text("abcdefghAB", min_size=1, max_size=4)


def structs(parts: st.SearchStrategy[gob.Type]) -> st.SearchStrategy[gob.Struct]:
    fields = st.lists(st.tuples(field_names, parts), min_size=1, max_size=5, unique_by=lambda field: field[0])
    return st.builds(gob.Struct, field_names, fields.map(tuple))


def containers(parts: st.SearchStrategy[gob.Type]) -> st.SearchStrategy[gob.Type]:
    keys = st.one_of(scalars, structs(scalars))
    whole = parts.filter(lambda kind: not isinstance(kind, gob.Pointer))
    return st.one_of(
        st.builds(gob.Slice, whole, field_names),
        st.builds(gob.Map, keys, whole, field_names),
        structs(parts),
        structs(parts).map(gob.Pointer),
    )


kinds = st.recursive(scalars, containers, max_leaves=8)
top_kinds = kinds.filter(lambda kind: not isinstance(kind, gob.Pointer))


def values(kind: gob.Type, in_struct: bool = False) -> st.SearchStrategy[Any]:
    match kind:
        case gob.Scalar():
            return SCALARS[kind]
        case gob.Opaque():
            return st.binary(max_size=20)
        case gob.Slice():
            return st.lists(values(kind.element), max_size=4).map(tuple)
        case gob.Map():
            maps = st.dictionaries(values(kind.key), values(kind.element), max_size=4)
            return st.one_of(st.none(), maps) if in_struct else maps
        case gob.Struct():
            return st.tuples(*(values(field_type, in_struct=True) for _, field_type in kind.fields))
        case gob.Pointer():
            return st.one_of(st.none(), values(kind.target))


@st.composite
def typed_values(draw: st.DrawFn) -> tuple[gob.Type, Any]:
    kind = draw(top_kinds)
    return kind, draw(values(kind))


@given(st.lists(typed_values(), max_size=4), st.integers(64, 2**31 - 200))
def test_what_is_written_is_read_back(typed: list[tuple[gob.Type, Any]], first_id: int) -> None:
    data = Encoder(*(kind for kind, _ in typed), first_id=first_id).stream(*(value for _, value in typed))
    reading = Decoder(data)
    for kind, value in typed:
        golden.entered("gob.Decoder")
        assert reading.has_more()
        assert reading.value(kind) == value
    assert not reading.has_more()


@given(st.data(), structs(kinds))
def test_a_receiver_takes_the_fields_it_knows_by_name(data: st.DataObject, sent: gob.Struct) -> None:
    value = data.draw(values(sent))
    by_name = {name: item for (name, _), item in zip(sent.fields, value, strict=True)}
    kept = data.draw(st.lists(st.sampled_from(sent.fields), min_size=1, unique=True))
    expected = gob.Struct("other", (*kept, ("NotSentByAnybody", gob.STRING)))
    stream = Encoder(sent).stream(value)
    golden.entered("gob.Decoder")
    assert gob.decode(expected, stream) == (*(by_name[name] for name, _ in kept), "")


sound_streams = typed_values().map(lambda typed: Encoder(typed[0]).stream(typed[1]))
rich_streams = st.builds(
    lambda now, names: Encoder(wire_types.GOSSIP_STATE).stream(
        (now, names, {(1, 2): ((1, (1, 2)),) * 2 + (((3,), (1, (1, 2))),)}, (1, 9, 5, ((1, 5, 0, 2),), (5,)))
    ),
    st.integers(0, 2**40),
    st.dictionaries(st.integers(0, 2**48), st.text(max_size=5), max_size=3),
)


@given(st.one_of(st.binary(max_size=60), damaged(sound_streams), damaged(rich_streams)), top_kinds)
def test_damage_gives_gob_errors_only(data: bytes, kind: gob.Type) -> None:
    for expected in (kind, wire_types.GOSSIP_STATE, wire_types.FEATURES):
        reading = Decoder(data)
        golden.entered("gob.Decoder")
        try:
            while reading.has_more():
                reading.value(expected)
        except GobError as error:
            assert 0 <= error.offset <= len(data)  # noqa: PT017 - sound data may come by, and raises nothing


# Names for both directions


class NodeId(NamedTuple):
    name: int
    uid: int


def test_make_gives_named_values_that_can_be_written_again() -> None:
    kind = gob.Struct("NodeID", (("Name", gob.UINT), ("UID", gob.UINT)), NodeId._make)
    written = Encoder(kind).stream(NodeId(5, 6))
    assert gob.decode(kind, written) == NodeId(5, 6)
    assert isinstance(gob.decode(kind, written), NodeId)


# What is left out, and what that means


def test_an_empty_map_is_sent_and_an_absent_one_is_not() -> None:
    kind = gob.Struct("s", (("M", gob.Map(gob.UINT, gob.UINT)), ("N", gob.UINT)))
    values_of_both: list[tuple[Any, int]] = [({}, 1), (None, 1)]
    for value in values_of_both:
        assert gob.decode(kind, Encoder(kind).stream(value)) == value


def test_a_struct_in_a_struct_is_always_sent() -> None:
    inner = gob.Struct("i", (("X", gob.UINT),))
    kind = gob.Struct("s", (("A", inner), ("B", gob.Pointer(inner))))
    assert Encoder(kind).message(((0,), None)) == bytes.fromhex("05ff82010000")


# Errors that name the place


def test_errors_name_the_field_and_the_offset() -> None:
    inner = gob.Struct("Inner", (("Small", gob.UINT16),))
    wide = gob.Struct("Inner", (("Small", gob.UINT),))
    data = Encoder(gob.Struct("Outer", (("List", gob.Slice(wide)),))).stream((((70000,),),))
    with pytest.raises(
        GobError, match=r"of List\.Small cannot be decoded at byte \d+: 70000 is out of range"
    ) as caught:
        gob.decode(gob.Struct("Outer", (("List", gob.Slice(inner)),)), data)
    assert caught.value.field == "List.Small"
    assert len(data) - 4 <= caught.value.offset <= len(data)


def test_a_wrong_kind_is_named() -> None:
    data = Encoder(gob.Struct("s", (("N", gob.INT),))).stream((5,))
    with pytest.raises(GobError, match=r"of N cannot be decoded .* uint is expected, int was sent"):
        gob.decode(gob.Struct("s", (("N", gob.UINT),)), data)


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        (gob.UINT, -1, "-1 does not fit uint"),
        (gob.UINT, 2**64, "does not fit uint"),
        (gob.INT, 2**63, "does not fit int"),
        (gob.UINT16, 65536, "65536 does not fit uint16"),
        (gob.STRING, "\ud800", "UTF-8"),
        (gob.Struct("s", (("F", gob.UINT16),)), (65536,), "of F cannot be encoded: 65536"),
    ],
)
def test_values_that_gob_cannot_carry(kind: gob.Type, value: Any, problem: str) -> None:
    with pytest.raises(GobError, match=problem):
        Encoder(kind).stream(value)


# Bounds


def test_counts_beyond_the_data_are_refused_before_memory_is_taken() -> None:
    stream = Encoder(gob.Slice(gob.UINT))
    huge = stream.definitions() + bytes.fromhex("0aff8200f7") + b"\xff" * 5
    with pytest.raises(GobError):
        gob.decode(gob.Slice(gob.UINT), huge)
    announced = stream.definitions() + bytes.fromhex("0cff8200f8") + (2**60).to_bytes(8, "big")
    with pytest.raises(GobError, match="elements are announced, only 0 bytes are left"):
        gob.decode(gob.Slice(gob.UINT), announced)


def test_the_number_of_elements_in_a_stream_is_bounded() -> None:
    kind = gob.Slice(gob.BOOL)
    half = (False,) * (_reader.MAX_ELEMENTS // 2)
    encoder = Encoder(kind)
    one = encoder.message(half)
    assert len(gob.decode(kind, encoder.definitions() + one)) == len(half)
    reading = Decoder(encoder.definitions() + one * 3)
    assert reading.value(kind) == reading.value(kind) == half
    with pytest.raises(GobError, match="more than 524288 elements"):
        reading.value(kind)


def test_the_number_of_definitions_is_bounded() -> None:
    definitions = b"".join(
        Encoder(gob.Map(gob.STRING, gob.STRING), first_id=64 + number).definitions()
        for number in range(decoder.MAX_DEFINITIONS + 1)
    )
    with pytest.raises(GobError, match="more than 256 type definitions"):
        gob.decode(gob.UINT, definitions)


def test_skipping_goes_only_so_deep() -> None:
    """Type 70 is a slice of itself, in a field that nobody expects."""
    itself = bytes.fromhex("0dff8b020102ff8c0001ff8c0000")
    sent = gob.Struct("s", (("Known", gob.UINT), ("Unknown", gob.UINT)))
    definition = bytearray(Encoder(sent).definitions().replace(b"Unknown\x01\x06", b"Unknown\x01\xff\x8c"))
    definition[0] += 1
    known = gob.Struct("s", (("Known", gob.UINT),))
    for depth, is_fine in ((5, True), (_compiler.MAX_SKIPPED_DEPTH + 2, False)):
        body = bytes.fromhex("ff82") + b"\x02" + b"\x01" * depth + b"\x00" + b"\x00"
        stream = itself + definition + bytes([len(body)]) + body
        if is_fine:
            assert gob.decode(known, stream) == (0,)
        else:
            with pytest.raises(GobError, match="nested more than 32 deep"):
                gob.decode(known, stream)


def test_interface_values_are_refused() -> None:
    outer = gob.Struct("s", (("Known", gob.UINT), ("Any", gob.STRING)))
    stream = Encoder(outer).definitions().replace(b"Any\x01\x0c", b"Any\x01\x10") + bytes.fromhex("06ff820202610000")
    with pytest.raises(GobError, match="interface"):
        gob.decode(gob.Struct("s", (("Known", gob.UINT),)), stream)


def test_the_end_of_a_stream_is_an_error_where_a_value_is_wanted() -> None:
    for data in (b"", b"\x00", Encoder(gob.Slice(gob.UINT)).definitions()):
        with pytest.raises(GobError, match="the stream ends"):
            gob.decode(gob.Slice(gob.UINT), data)
