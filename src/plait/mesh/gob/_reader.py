"""Bounded reader of gob's scalars: owns position and limit, so that no other code slices received bytes."""

import struct

from plait.mesh.gob.error import GobError

# Elements of all slices and maps of a stream together, and fields of type definitions. The largest message, 10 MiB,
# holds about 350 000 real connection records; more elements than this are empty ones, sent to exhaust memory.
MAX_ELEMENTS = 1 << 19

_MAX_UINT_BYTES = 8


class Reader:
    """Reads forward from `position` and never past `limit`; every method raises GobError."""

    __slots__ = ("_elements_left", "data", "limit", "position")

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position
        self.limit = len(data)
        self._elements_left = MAX_ELEMENTS

    def error(self, problem: str) -> GobError:
        """Give an error that points at the current position."""
        return GobError(problem, self.position)

    def read_uint(self) -> int:
        """Read an unsigned integer of at most 64 bits."""
        position = self.position
        if position >= self.limit:
            raise self.error("the data ends where a number should follow")
        first = self.data[position]
        if first < 0x80:
            self.position = position + 1
            return first
        end = position + 1 + 256 - first
        if 256 - first > _MAX_UINT_BYTES:
            raise self.error(f"a number of {256 - first} bytes; at most {_MAX_UINT_BYTES} are allowed")
        if end > self.limit:
            raise self.error("the data ends inside a number")
        self.position = end
        return int.from_bytes(self.data[position + 1 : end], "big")

    def read_int(self) -> int:
        """Read a signed integer of at most 64 bits."""
        unsigned = self.read_uint()
        return ~(unsigned >> 1) if unsigned & 1 else unsigned >> 1

    def read_bool(self) -> bool:
        """Read a boolean: every number but 0 is true."""
        return self.read_uint() != 0

    def read_float(self) -> float:
        """Read a double, sent with its bytes reversed so that short fractions are short numbers."""
        value: float = struct.unpack("<d", self.read_uint().to_bytes(8, "big"))[0]
        return value

    def read_bytes(self) -> bytes:
        """Read a length and so many bytes."""
        size = self.read_uint()
        start = self.position
        end = start + size
        if end > self.limit:
            raise self.error(f"{size} bytes are announced, {self.limit - start} are left")
        self.position = end
        return self.data[start:end]

    def read_string(self) -> str:
        """Read a text; bytes that are not UTF-8 become surrogate escapes, as senders do not check either."""
        return str(self.read_bytes(), "utf-8", "surrogateescape")

    def read_count(self) -> int:
        """Read the number of elements of a slice or map; each takes a byte at least."""
        count = self.read_uint()
        if count > self.limit - self.position:
            raise self.error(f"{count} elements are announced, only {self.limit - self.position} bytes are left")
        self._elements_left -= count
        if self._elements_left < 0:
            raise self.error(f"more than {MAX_ELEMENTS} elements in one stream")
        return count

    def has_message(self) -> bool:
        """Tell whether a message follows; one of length 0 ends a stream, for Go too."""
        return self.position < self.limit and self.data[self.position] != 0

    def enter_message(self) -> None:
        """Read a message's length and narrow the limit to it."""
        if not self.has_message():
            raise self.error("the stream ends where a value should follow")
        size = self.read_uint()
        if size > self.limit - self.position:
            raise self.error(f"a message of {size} bytes is announced, only {self.limit - self.position} are left")
        self.limit = self.position + size

    def leave_message(self) -> None:
        """Skip the rest of the message and widen the limit to the whole data again."""
        self.position = self.limit
        self.limit = len(self.data)
