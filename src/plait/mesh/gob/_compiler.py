"""Turns (expected type, received definition) into a function that reads such values fast, and checks that they agree.

Like Go's decoder: structs match by field name, everything else must agree in kind, even if it is never sent.
"""

from collections.abc import Callable, Mapping
from typing import Any

from plait.mesh.gob._definitions import (
    COMPLEX_ID,
    INTERFACE_ID,
    SCALAR_IDS,
    Definition,
    MapDefinition,
    OpaqueDefinition,
    SliceDefinition,
    StructDefinition,
)
from plait.mesh.gob._reader import Reader
from plait.mesh.gob.error import GobError
from plait.mesh.gob.types import Int, Map, Opaque, Pointer, Scalar, Slice, Struct, Type, Uint

Read = Callable[[Reader], Any]

# Values inside values that nobody expects are skipped by recursion. Weave's types nest five deep.
MAX_SKIPPED_DEPTH = 32

_READ_SCALAR: dict[int, Read] = {
    1: Reader.read_bool,
    2: Reader.read_int,
    3: Reader.read_uint,
    4: Reader.read_float,
    5: Reader.read_bytes,
    6: Reader.read_string,
}


def zero_value(expected: Type) -> Any:
    """Give what a field holds that was not sent."""
    match expected:
        case Scalar():
            return expected.zero
        case Opaque():
            return b""
        case Slice():
            return ()
        case Struct():
            return expected.make([zero_value(field_type) for _, field_type in expected.fields])
        case Map() | Pointer():
            return None


class Compiler:
    """Makes readers for the types that one stream has defined so far."""

    def __init__(self, definitions: Mapping[int, Definition]) -> None:
        self._definitions = definitions

    def compile(self, expected: Type, type_id: int) -> Read:
        """Give the reader of values of the received type; raises GobError (without offset) if it is another kind."""
        if isinstance(expected, Pointer):
            expected = expected.target
        definition = self._definitions.get(type_id)
        match expected, definition:
            case Scalar(), None if type_id == expected.wire_id:
                return _scalar_reader(expected)
            case Opaque(), OpaqueDefinition():
                return Reader.read_bytes
            case Slice(), SliceDefinition(element, is_array=False):
                return _slice_reader(self.compile(expected.element, element))
            case Map(), MapDefinition(key, element):
                return _map_reader(self.compile(expected.key, key), self.compile(expected.element, element))
            case Struct(), StructDefinition(fields):
                return self._struct_reader(expected, fields)
        self._check_defined(type_id)
        received = _KIND_OF_ID.get(type_id) or type(definition).__name__.removesuffix("Definition").lower()
        raise GobError(f"{_kind(expected)} is expected, {received} was sent", 0)

    def _struct_reader(self, expected: Struct, fields: tuple[tuple[str, int], ...]) -> Read:
        slots = {name: (slot, field_type) for slot, (name, field_type) in enumerate(expected.fields)}
        table: list[tuple[str, int, Read]] = []
        for name, type_id in fields:
            if not name:
                raise GobError(f"a field without a name in the definition of {expected.name}", 0)
            if name in slots:
                slot, field_type = slots[name]
                table.append((name, slot, self._compile_field(name, field_type, type_id)))
            else:
                self._check_defined(type_id)
                table.append((name, len(slots), self._skipper(type_id)))
        if fields and not any(slot < len(slots) for _, slot, _ in table):
            raise GobError(f"none of the sent fields is one of {expected.name}", 0)
        return _struct_reader(expected, table)

    def _compile_field(self, name: str, expected: Type, type_id: int) -> Read:
        try:
            return self.compile(expected, type_id)
        except GobError as error:
            error.add_field(name)
            raise

    def _check_defined(self, type_id: int) -> None:
        """All types that a value may hold must be defined before it, even if it holds none."""
        seen: set[int] = set()
        waiting = [type_id]
        while waiting:
            current = waiting.pop()
            if current in seen or current in _KIND_OF_ID:
                continue
            seen.add(current)
            match self._definitions.get(current):
                case StructDefinition(fields):
                    waiting.extend(field_id for _, field_id in fields)
                case SliceDefinition(element):
                    waiting.append(element)
                case MapDefinition(key, element):
                    waiting += (key, element)
                case OpaqueDefinition():
                    pass
                case None:
                    raise GobError(f"type {current} was never defined", 0)

    def _skipper(self, type_id: int) -> Read:
        def skip(reader: Reader) -> None:
            self._skip(reader, type_id, 0)

        return skip

    def _skip(self, reader: Reader, type_id: int, depth: int) -> None:
        if depth > MAX_SKIPPED_DEPTH:
            raise reader.error(f"values nested more than {MAX_SKIPPED_DEPTH} deep")
        match self._definitions.get(type_id):
            case StructDefinition(fields):
                index = -1
                while reader.position < reader.limit and (delta := reader.read_uint()):
                    index += delta
                    if index >= len(fields):
                        raise reader.error("a field number beyond the struct's definition")
                    self._skip(reader, fields[index][1], depth + 1)
            case SliceDefinition(element):
                for _ in range(reader.read_count()):
                    self._skip(reader, element, depth + 1)
            case MapDefinition(key, element):
                for _ in range(reader.read_count()):
                    self._skip(reader, key, depth + 1)
                    self._skip(reader, element, depth + 1)
            case OpaqueDefinition():
                reader.read_bytes()
            case None:
                _skip_scalar(reader, type_id)


_KIND_OF_ID = {
    1: "bool",
    2: "int",
    3: "uint",
    4: "float",
    5: "bytes",
    6: "string",
    COMPLEX_ID: "complex number",
    INTERFACE_ID: "interface",
}


def _kind(expected: Type) -> str:
    return expected.name if isinstance(expected, Scalar | Struct) else type(expected).__name__.lower()


def _skip_scalar(reader: Reader, type_id: int) -> None:
    if type_id in SCALAR_IDS:
        _READ_SCALAR[type_id](reader)
    elif type_id == COMPLEX_ID:
        reader.read_uint()
        reader.read_uint()
    else:
        raise reader.error("an interface value, which Weave's messages never hold")


def _scalar_reader(expected: Scalar) -> Read:
    read = _READ_SCALAR[expected.wire_id]
    match expected:
        case Uint(bits=bits) if bits < 64:
            lowest, highest = 0, (1 << bits) - 1
        case Int(bits=bits) if bits < 64:
            lowest, highest = -1 << (bits - 1), (1 << (bits - 1)) - 1
        case _:
            return read

    def read_in_range(reader: Reader) -> Any:
        value = read(reader)
        if not lowest <= value <= highest:
            raise reader.error(f"{value} is out of range for {expected.name}")
        return value

    return read_in_range


def _slice_reader(read_element: Read) -> Read:
    def read_slice(reader: Reader) -> tuple[Any, ...]:
        return tuple([read_element(reader) for _ in range(reader.read_count())])

    return read_slice


def _map_reader(read_key: Read, read_element: Read) -> Read:
    def read_map(reader: Reader) -> dict[Any, Any]:
        result = {}
        for _ in range(reader.read_count()):
            key = read_key(reader)
            result[key] = read_element(reader)
        return result

    return read_map


def _struct_reader(expected: Struct, table: list[tuple[str, int, Read]]) -> Read:
    """Read fields into slots; what nobody expects lands in one slot more, which is dropped."""
    zeros = [zero_value(field_type) for _, field_type in expected.fields]
    size, count, make = len(zeros), len(table), expected.make
    zeros.append(None)
    readers = [(slot, read) for _, slot, read in table]

    def read_struct(reader: Reader) -> Any:
        values = zeros.copy()
        index = -1
        try:
            while reader.position < reader.limit:
                delta = reader.read_uint()
                if not delta:
                    break
                index += delta
                if index >= count:
                    raise reader.error(f"field {index} of a struct that has {count}")
                slot, read = readers[index]
                values[slot] = read(reader)
        except GobError as error:
            error.add_field(table[index][0] if 0 <= index < count else expected.name)
            raise
        del values[size:]
        return make(values)

    return read_struct
