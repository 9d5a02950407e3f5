"""Reads the values of one gob stream, one after the other.

Accepts and refuses what Go's decoder does; in addition it bounds memory and nesting.
"""

from typing import Any

from plait.mesh.gob._compiler import Compiler, Read
from plait.mesh.gob._definitions import (
    BUILT_IN,
    MAX_DEFINED_ID,
    MIN_DEFINED_ID,
    WIRE_TYPE,
    WIRE_TYPE_ID,
    Definition,
    StructDefinition,
    definition_from,
)
from plait.mesh.gob._reader import Reader
from plait.mesh.gob.error import GobError
from plait.mesh.gob.types import Type

# Definitions in one stream: the richest of Weave's types (IP allocation's state) takes ten.
MAX_DEFINITIONS = 256

_read_wire_type = Compiler(BUILT_IN).compile(WIRE_TYPE, WIRE_TYPE_ID)


def decode(expected: Type, data: bytes) -> Any:
    """Read the first value of a stream; what follows it is ignored, as by Go. Raises GobError."""
    return Decoder(data).value(expected)


class Decoder:
    """A stream and the types that it has defined so far. After a GobError it is of no further use."""

    def __init__(self, data: bytes, position: int = 0) -> None:
        self._reader = Reader(data, position)
        self._definitions: dict[int, Definition] = {}
        self._compiler = Compiler(self._definitions)
        self._compiled: dict[tuple[int, int], tuple[Type, Read]] = {}

    def has_more(self) -> bool:
        """Tell whether anything follows: only between values may a stream end."""
        return self._reader.has_message()

    def value(self, expected: Type) -> Any:
        """Read the next value, and the definitions before it; raises GobError, also at the end of the stream."""
        reader = self._reader
        type_id = self._read_type_id()
        read = self._reader_of(expected, type_id)
        if not isinstance(self._definitions.get(type_id), StructDefinition) and reader.read_uint() != 0:
            raise reader.error("a value that is no struct does not start with 0")
        value = read(reader)
        reader.leave_message()
        return value

    def _read_type_id(self) -> int:
        """Enter messages up to one with a value, and take in the definitions on the way."""
        reader = self._reader
        while True:
            reader.enter_message()
            type_id = reader.read_int()
            if type_id >= 0:
                return type_id
            self._define(-type_id)
            if reader.position != reader.limit:
                raise reader.error("something follows a type definition in its message")
            reader.leave_message()

    def _define(self, type_id: int) -> None:
        reader = self._reader
        if not MIN_DEFINED_ID <= type_id <= MAX_DEFINED_ID:
            raise reader.error(f"a definition of type {type_id}; numbers go from {MIN_DEFINED_ID} to {MAX_DEFINED_ID}")
        if type_id in self._definitions:
            raise reader.error(f"a second definition of type {type_id}")
        if len(self._definitions) >= MAX_DEFINITIONS:
            raise reader.error(f"more than {MAX_DEFINITIONS} type definitions")
        self._definitions[type_id] = definition_from(_read_wire_type(reader), reader.position)

    def _reader_of(self, expected: Type, type_id: int) -> Read:
        known = self._compiled.get((id(expected), type_id))
        if known is not None:
            return known[1]
        try:
            read = self._compiler.compile(expected, type_id)
        except GobError as error:
            error.offset = self._reader.position
            raise
        self._compiled[id(expected), type_id] = (expected, read)  # kept, so that the id stays its own
        return read
