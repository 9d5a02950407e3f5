"""A peer's name: 48 bits, unique in the mesh, written like a MAC address."""

import re
from typing import Self

from plait.errors import PlaitError

NAME_BYTES = 6
_GROUP = re.compile(r" *[0-9a-fA-F]{1,2}\Z")  # Weave too overlooks blanks before a group


class InvalidPeerName(PlaitError):
    """A text that is no peer name."""


class PeerName(int):
    """A peer name as number; `str()` gives six lower-case hex groups. 0 stands for "unknown peer"."""

    __slots__ = ()

    def __new__(cls, value: int) -> Self:
        """Raise InvalidPeerName unless 0 <= value < 2**48."""
        if not 0 <= value < 1 << 48:
            raise InvalidPeerName(f"peer name {value:#x} does not fit 48 bits")
        return super().__new__(cls, value)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read six groups of one or two hex digits; one `::` may stand for two or more zero groups, never for all."""
        head, gap, tail = text.partition("::")
        before = head.split(":") if head else []
        after = tail.split(":") if tail else []
        missing = NAME_BYTES - len(before) - len(after)
        well_formed = (missing >= 2 and missing < NAME_BYTES) if gap else missing == 0
        if not well_formed or not all(_GROUP.match(group) for group in before + after):
            raise InvalidPeerName(f"{text!r} is not a peer name; write six hex groups like 7a:00:00:00:00:01")
        return cls.from_bytes6(bytes(int(group, 16) for group in before + ["0"] * missing + after))

    @classmethod
    def from_bytes6(cls, raw: bytes) -> Self:
        """Read the six bytes used in topology records and UDP overlays."""
        if len(raw) != NAME_BYTES:
            raise InvalidPeerName(f"a peer name has {NAME_BYTES} bytes, not {len(raw)}")
        return cls(int.from_bytes(raw, "big"))

    def to_bytes6(self) -> bytes:
        """Give the six bytes used in topology records and UDP overlays."""
        return int.to_bytes(self, NAME_BYTES, "big")

    def __str__(self) -> str:
        return self.to_bytes6().hex(":")

    def __repr__(self) -> str:
        return f"PeerName({self})"


UNKNOWN_PEER = PeerName(0)
