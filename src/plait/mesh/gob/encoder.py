"""Writes gob streams: fixed type definitions, made once, and values.

Numbers and orders the definitions as Go does, so that streams without maps equal Go's but for the first number.
"""

from typing import Any

from plait.mesh.gob._definitions import WIRE_TYPE
from plait.mesh.gob._writer import Write, write_int, write_uint, writer_of
from plait.mesh.gob.types import Map, Opaque, Pointer, Scalar, Slice, Struct, Type

# The first number that a Go process gives to a type of its own.
FIRST_ID = 65

_write_wire_type = writer_of(WIRE_TYPE)


class Encoder:
    """Writes values of these types; each type's definitions precede the first value of it in a stream."""

    def __init__(self, *types: Type, first_id: int = FIRST_ID) -> None:
        self._types = types
        self._ids: dict[Type, int] = {}
        self._next_id = first_id
        self._defined: set[Type] = set()
        self._definitions: dict[int, bytes] = {}
        self._messages: dict[int, tuple[bytes, Write]] = {}
        for index, kind in enumerate(types):
            self._number(kind)
            self._definitions[index] = b"".join(self._define(kind))
            head = bytearray()
            write_int(head, self._id(kind))
            if not isinstance(kind, Struct):
                head.append(0)
            self._messages[index] = (bytes(head), writer_of(kind))

    def definitions(self, index: int = 0) -> bytes:
        """Give the definition messages that the type at `index` needs beyond those of the types before it."""
        return self._definitions[index]

    def message(self, value: Any, index: int = 0) -> bytes:
        """Give one value of the type at `index` as a message, without definitions; raises GobError."""
        head, write = self._messages[index]
        body = bytearray(head)
        write(body, value)
        return _message(body)

    def stream(self, *values: Any) -> bytes:
        """Give a whole stream: one value of each type; raises GobError."""
        return b"".join(
            part
            for index, (_, value) in enumerate(zip(self._types, values, strict=True))
            for part in (self._definitions[index], self.message(value, index))
        )

    def _id(self, kind: Type) -> int:
        if isinstance(kind, Scalar):
            return kind.wire_id
        return self._ids[kind.target if isinstance(kind, Pointer) else kind]

    def _number(self, kind: Type) -> None:
        """Go numbers a struct before its fields, a slice or map after its elements."""
        if isinstance(kind, Pointer):
            kind = kind.target
        if isinstance(kind, Scalar) or kind in self._ids:
            return
        if isinstance(kind, Struct | Opaque):
            self._ids[kind] = self._take_id()
        for part in _parts(kind):
            self._number(part)
        if isinstance(kind, Slice | Map):
            self._ids[kind] = self._take_id()

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _define(self, kind: Type) -> list[bytes]:
        """Give the definition of a type and, after it, those of its parts, each once in the encoder's life."""
        if isinstance(kind, Pointer):
            kind = kind.target
        if isinstance(kind, Scalar) or kind in self._defined:
            return []
        self._defined.add(kind)
        body = bytearray()
        write_int(body, -self._ids[kind])
        _write_wire_type(body, self._wire_type(kind))
        messages = [_message(body)]
        for part in _parts(kind):
            messages += self._define(part)
        return messages

    def _wire_type(self, kind: Slice | Map | Struct | Opaque) -> tuple[Any, ...]:
        common = (kind.name, self._ids[kind])
        match kind:
            case Slice():
                return (None, (common, self._id(kind.element)), None, None, None, None, None)
            case Struct():
                fields = tuple((name, self._id(field_type)) for name, field_type in kind.fields)
                return (None, None, (common, fields), None, None, None, None)
            case Map():
                return (None, None, None, (common, self._id(kind.key), self._id(kind.element)), None, None, None)
            case Opaque():
                return (None, None, None, None, (common,), None, None)


def _parts(kind: Type) -> tuple[Type, ...]:
    match kind:
        case Slice():
            return (kind.element,)
        case Map():
            return (kind.key, kind.element)
        case Struct():
            return tuple(field_type for _, field_type in kind.fields)
        case _:
            return ()


def _message(body: bytearray) -> bytes:
    out = bytearray()
    write_uint(out, len(body))
    out += body
    return bytes(out)
