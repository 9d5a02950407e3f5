"""Writers of gob's values: one function per type, made once."""

import struct
from collections.abc import Callable
from typing import Any

from plait.mesh.gob.error import GobError
from plait.mesh.gob.types import Int, Map, Opaque, Pointer, Scalar, Slice, Struct, Type, Uint

Write = Callable[[bytearray, Any], None]


def write_uint(out: bytearray, value: int) -> None:
    """Write an unsigned integer of at most 64 bits."""
    if 0 <= value < 0x80:
        out.append(value)
        return
    if not 0 <= value < 1 << 64:
        raise GobError(f"{value} does not fit an unsigned integer of 64 bits")
    size = (value.bit_length() + 7) >> 3
    out.append(256 - size)
    out += value.to_bytes(size, "big")


def write_int(out: bytearray, value: int) -> None:
    """Write a signed integer of at most 64 bits."""
    write_uint(out, ~value << 1 | 1 if value < 0 else value << 1)


def write_bytes(out: bytearray, value: bytes) -> None:
    """Write a length and the bytes."""
    write_uint(out, len(value))
    out += value


def write_string(out: bytearray, value: str) -> None:
    """Write a text as UTF-8, surrogate escapes as the bytes that they stand for."""
    try:
        write_bytes(out, value.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError as error:
        raise GobError(f"the text {value!r} holds what UTF-8 cannot carry") from error


def writer_of(kind: Type) -> Write:
    """Give the function that appends a value of this type."""
    match kind:
        case Uint() | Int():
            return _integer_writer(kind)
        case Scalar():
            return _WRITE_SCALAR[kind.wire_id]
        case Opaque():
            return write_bytes
        case Slice():
            return _slice_writer(writer_of(kind.element))
        case Map():
            return _map_writer(writer_of(kind.key), writer_of(kind.element))
        case Struct():
            return _struct_writer(kind)
        case Pointer():
            return writer_of(kind.target)


def _write_bool(out: bytearray, value: bool) -> None:
    out.append(1 if value else 0)


def _write_float(out: bytearray, value: float) -> None:
    write_uint(out, int.from_bytes(struct.pack("<d", value), "big"))


_WRITE_SCALAR: dict[int, Write] = {1: _write_bool, 4: _write_float, 5: write_bytes, 6: write_string}


def _integer_writer(kind: Uint | Int) -> Write:
    """A width below 64 bits is the receiver's: it would end the connection, so it is checked here."""
    signed = isinstance(kind, Int)
    lowest, highest = (-1 << (kind.bits - 1), (1 << (kind.bits - 1)) - 1) if signed else (0, (1 << kind.bits) - 1)
    write = write_int if signed else write_uint

    def write_integer(out: bytearray, value: int) -> None:
        if not lowest <= value <= highest:
            raise GobError(f"{value} does not fit {kind.name}")
        write(out, value)

    return write_integer


def _slice_writer(write_element: Write) -> Write:
    def write_slice(out: bytearray, value: Any) -> None:
        write_uint(out, len(value))
        for element in value:
            write_element(out, element)

    return write_slice


def _map_writer(write_key: Write, write_element: Write) -> Write:
    def write_map(out: bytearray, value: Any) -> None:
        write_uint(out, len(value))
        for key, element in value.items():
            write_key(out, key)
            write_element(out, element)

    return write_map


def _is_always_sent(kind: Type) -> bool:
    return isinstance(kind, Struct)


def _is_sent_unless_none(kind: Type) -> bool:
    return isinstance(kind, Map | Pointer)


def _struct_writer(kind: Struct) -> Write:
    """Go leaves out zero fields, except structs, and maps that exist though they are empty."""
    fields = [
        (index, name, _is_always_sent(field_type), _is_sent_unless_none(field_type), writer_of(field_type))
        for index, (name, field_type) in enumerate(kind.fields, start=1)
    ]

    def write_struct(out: bytearray, value: Any) -> None:
        previous = 0
        for (index, name, always, unless_none, write), item in zip(fields, value, strict=True):
            if not (always or (item is not None if unless_none else item)):
                continue
            write_uint(out, index - previous)
            previous = index
            try:
                write(out, item)
            except GobError as error:
                error.add_field(name)
                raise
        out.append(0)

    return write_struct
