"""IPv4 addresses as numbers, half-open ranges of them, and CIDRs; in 32 bits, as peers on the wire reckon.

A CIDR keeps its host bits. The error texts are Weave's, which scripts read (spec: ipam 2).
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, Self

from plait.errors import PlaitError

MIN_SUBNET_SIZE = 4
"""Addresses in the smallest subnet: the first and the last are never handed out, and one would be pointless."""

_MASK = 0xFFFFFFFF


class InvalidAddress(PlaitError):
    """A text that is no address, CIDR or subnet."""


@lru_cache(maxsize=4096)
def text(address: int) -> str:
    """Write an address as four octets."""
    return ".".join(map(str, address.to_bytes(4, "big")))


def parse_ip(given: str) -> int:
    """Read an address; raises InvalidAddress. An IPv6 address that holds no IPv4 one reads as 0.0.0.0, as by Weave."""
    address = _parse(given)
    if address is None:
        raise InvalidAddress(f"invalid IP Address: {given}")
    return 0 if isinstance(address, ipaddress.IPv6Address) and not address.ipv4_mapped else int(address) & _MASK


def reverse(address: int) -> int:
    """Swap the octets, as names of reverse look-ups do."""
    return int.from_bytes(address.to_bytes(4, "little"), "big")


class Range(NamedTuple):
    """Addresses from `start` up to, without, `end`."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """How many addresses it holds."""
        return self.end - self.start

    def __str__(self) -> str:
        return f"{text(self.start)}-{text((self.end - 1) & _MASK)}"

    def __contains__(self, address: object) -> bool:
        return isinstance(address, int) and self.start <= address < self.end

    def overlaps(self, other: "Range") -> bool:
        """Tell whether an address lies in both."""
        return self.start < other.end and other.start < self.end

    def cut(self, other: "Range") -> "Range":
        """Give the part inside `other`; without any its size is not positive."""
        return Range(max(self.start, other.start), min(self.end, other.end))

    def as_cidr_text(self) -> str:
        """Write `first/length` if the size is a power of two, wherever it starts, else `first-last`."""
        if self.size <= 0 or self.size & (self.size - 1):
            return str(self)
        return f"{text(self.start)}/{33 - self.size.bit_length()}"

    def biggest_block(self) -> "Range":
        """Give the biggest aligned power-of-two block of a range that is not empty."""
        block = 1 << (self.size.bit_length() - 1)
        offset = self.start % block
        if offset == 0:
            start = self.start
        elif block - offset <= self.size % block:
            start = self.start + block - offset
        elif block // 2 >= offset:
            block //= 2
            start = self.start + block - offset
        else:
            start, block = self.start + block - offset, block // 2
        return Range(start, start + block)

    def blocks(self) -> list["Cidr"]:
        """Split into the fewest aligned blocks, ascending."""
        found, start = [], self.start
        while start < self.end:
            size = 1 << ((self.end - start).bit_length() - 1)
            if start:
                size = min(size, start & -start)
            found.append(Cidr(start, 33 - size.bit_length()))
            start += size
        return found


class Cidr(NamedTuple):
    """An address and the length of its network prefix."""

    address: int
    prefix_length: int

    @classmethod
    def parse(cls, given: str) -> Self:
        """Read `address/length`; raises InvalidAddress."""
        head, slash, tail = given.partition("/")
        address = _parse(head) if slash else None
        if address is None or not (tail.isascii() and tail.isdigit()) or int(tail) > address.max_prefixlen:
            raise InvalidAddress(f"invalid CIDR address: {given}")
        if isinstance(address, ipaddress.IPv6Address) and not address.ipv4_mapped:
            raise InvalidAddress(f"invalid Non-IPv4 address not supported: {given}")
        return cls(int(address) & _MASK, int(tail))

    @classmethod
    def parse_subnet(cls, given: str) -> Self:
        """Read a CIDR without host bits and of at least MIN_SUBNET_SIZE addresses; raises InvalidAddress."""
        cidr = cls.parse(given)
        if not cidr.is_subnet:
            raise InvalidAddress(f"invalid subnet - bits after network prefix are not all zero: {given}")
        if cidr.size < MIN_SUBNET_SIZE:
            raise InvalidAddress(f"invalid subnet - smaller than minimum size {MIN_SUBNET_SIZE}: {given}")
        return cidr

    @property
    def size(self) -> int:
        """How many addresses it spans; in 32 bits, so 0 for /0."""
        return 1 << (32 - self.prefix_length) if 0 < self.prefix_length <= 32 else 0

    @property
    def is_subnet(self) -> bool:
        """True if no host bit is set."""
        if self.prefix_length > 32:
            return False
        return self.address & (_MASK >> self.prefix_length) == 0

    @property
    def range(self) -> Range:
        """All addresses of a subnet."""
        return Range(self.address, (self.address + self.size) & _MASK)

    @property
    def host_range(self) -> Range:
        """The addresses of a subnet that can be handed out: all but the first and the last."""
        return Range((self.address + 1) & _MASK, (self.address + self.size - 1) & _MASK)

    def __str__(self) -> str:
        return f"{text(self.address)}/{self.prefix_length}"


def glued(ranges: Iterable[Range]) -> list[Range]:
    """Join ranges that touch or overlap; the answer is ascending."""
    joined: list[Range] = []
    for piece in sorted(ranges):
        if joined and piece.start <= joined[-1].end:
            joined[-1] = Range(joined[-1].start, max(joined[-1].end, piece.end))
        else:
            joined.append(piece)
    return joined


def _parse(given: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if "%" in given:  # a zone: Go's reader refuses it
        return None
    try:
        return ipaddress.ip_address(given)
    except ValueError:
        return None
