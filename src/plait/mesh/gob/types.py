"""Descriptions of what a receiver expects and a sender sends; plain data, no code of the format.

Python values: int, bool, float, bytes, str (undecodable bytes as surrogate escapes), tuple for slices, dict for maps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Scalar:
    """A built-in type; `wire_id` is its number in every gob stream."""

    name: str
    wire_id: int
    zero: Any


@dataclass(frozen=True, slots=True)
class Uint(Scalar):
    """An unsigned integer of so many bits: the wire knows no width, the receiver checks it."""

    bits: int = 64


@dataclass(frozen=True, slots=True)
class Int(Scalar):
    """A signed integer of so many bits."""

    bits: int = 64


BOOL = Scalar("bool", 1, False)
INT = Int("int", 2, 0)
UINT = Uint("uint", 3, 0)
UINT16 = Uint("uint16", 3, 0, 16)
UINT32 = Uint("uint32", 3, 0, 32)
FLOAT = Scalar("float", 4, 0.0)
BYTES = Scalar("bytes", 5, b"")
STRING = Scalar("string", 6, "")


@dataclass(frozen=True, slots=True)
class Opaque:
    """A Go type that encodes itself: bytes whose meaning gob does not know."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class Slice:
    """A list; its value is a tuple. `name` is only told to the receiver, which ignores it."""

    element: "Type"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Map:
    """A map; a field that was not sent is None, which means something else than an empty map."""

    key: "Type"
    element: "Type"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct: (field name, type) pairs in Go's order of declaration.

    Its value is a sequence of the fields' values in that order; a decoder passes it, as a list, through `make`,
    so `make=SomeNamedTuple._make` gives names to both directions.
    """

    name: str
    fields: tuple[tuple[str, "Type"], ...]
    make: Callable[[Sequence[Any]], Any] = field(default=tuple)


@dataclass(frozen=True, slots=True)
class Pointer:
    """A pointer to a struct: None or the struct's value; on the wire only that differs from a struct."""

    target: Struct


Type = Scalar | Opaque | Slice | Map | Struct | Pointer
