"""Type definitions as they travel: the `wireType` value, and what a decoder keeps of one."""

from dataclasses import dataclass
from typing import Any

from plait.mesh.gob.error import GobError
from plait.mesh.gob.types import INT, STRING, Pointer, Slice, Struct

# Go's decoder takes no definition of a number outside this range.
MIN_DEFINED_ID = 64
MAX_DEFINED_ID = 2**31 - 1

SCALAR_IDS = range(1, 7)
COMPLEX_ID = 7
INTERFACE_ID = 8


@dataclass(frozen=True, slots=True)
class StructDefinition:
    """A struct of the sender: (name, type id) of each field."""

    fields: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class SliceDefinition:
    """A slice, or an array, of the sender."""

    element: int
    is_array: bool = False


@dataclass(frozen=True, slots=True)
class MapDefinition:
    """A map of the sender."""

    key: int
    element: int


@dataclass(frozen=True, slots=True)
class OpaqueDefinition:
    """A type of the sender that encodes itself."""


Definition = StructDefinition | SliceDefinition | MapDefinition | OpaqueDefinition

_COMMON = Struct("CommonType", (("Name", STRING), ("Id", INT)))
_FIELD = Struct("fieldType", (("Name", STRING), ("Id", INT)))
_OPAQUE = Pointer(Struct("gobEncoderType", (("CommonType", _COMMON),)))
WIRE_TYPE = Struct(
    "wireType",
    (
        ("ArrayT", Pointer(Struct("arrayType", (("CommonType", _COMMON), ("Elem", INT), ("Len", INT))))),
        ("SliceT", Pointer(Struct("sliceType", (("CommonType", _COMMON), ("Elem", INT))))),
        ("StructT", Pointer(Struct("structType", (("CommonType", _COMMON), ("Field", Slice(_FIELD)))))),
        ("MapT", Pointer(Struct("mapType", (("CommonType", _COMMON), ("Key", INT), ("Elem", INT))))),
        ("GobEncoderT", _OPAQUE),
        ("BinaryMarshalerT", _OPAQUE),
        ("TextMarshalerT", _OPAQUE),
    ),
)

WIRE_TYPE_ID = 16
_OPAQUE_TYPE_ID = 24
BUILT_IN: dict[int, Definition] = {
    WIRE_TYPE_ID: StructDefinition(
        (
            ("ArrayT", 17),
            ("SliceT", 19),
            ("StructT", 20),
            ("MapT", 23),
            ("GobEncoderT", _OPAQUE_TYPE_ID),
            ("BinaryMarshalerT", _OPAQUE_TYPE_ID),
            ("TextMarshalerT", _OPAQUE_TYPE_ID),
        )
    ),
    17: StructDefinition((("CommonType", 18), ("Elem", 2), ("Len", 2))),
    18: StructDefinition((("Name", 6), ("Id", 2))),
    19: StructDefinition((("CommonType", 18), ("Elem", 2))),
    20: StructDefinition((("CommonType", 18), ("Field", 22))),
    21: StructDefinition((("Name", 6), ("Id", 2))),
    22: SliceDefinition(21),
    23: StructDefinition((("CommonType", 18), ("Key", 2), ("Elem", 2))),
    _OPAQUE_TYPE_ID: StructDefinition((("CommonType", 18),)),
}
"""The types of the definition language, numbered as Go does."""


def definition_from(wire_type: tuple[Any, ...], offset: int) -> Definition:
    """Read the value of a `WIRE_TYPE`; raises GobError unless exactly one kind is present."""
    present = [(name, part) for (name, _), part in zip(WIRE_TYPE.fields, wire_type, strict=True) if part is not None]
    if len(present) != 1:
        raise GobError(f"a type definition of {len(present)} kinds instead of one", offset)
    match present[0]:
        case "ArrayT", (_, element, _):
            return SliceDefinition(element, is_array=True)
        case "SliceT", (_, element):
            return SliceDefinition(element)
        case "StructT", (_, fields):
            return StructDefinition(fields)
        case "MapT", (_, key, element):
            return MapDefinition(key, element)
        case _:
            return OpaqueDefinition()
