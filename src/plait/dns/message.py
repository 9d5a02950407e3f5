"""DNS messages as far as a name server for few record types writes them (RFC 1035, 4); pure.

Questions are read by dnspython. Answers are written here, without compression as Weave's are, so that an answer is
equal whichever way its question was read.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

import dns.message
import dns.rdatatype

HEADER = struct.Struct("!6H")
"""ID, flags, and the numbers of questions, answers, authorities and additional records."""

MAX_UDP = 512
"""Bytes of an answer over UDP to a client without EDNS (RFC 1035, 4.2.1)."""

IN = 1
A = dns.rdatatype.A.value
PTR = dns.rdatatype.PTR.value
DS = dns.rdatatype.DS.value

_OPCODE_MASK = 0x7800
_RCODE_MASK = 0x000F


class Flag(IntFlag):
    """Bits of the second word of a header."""

    QR = 0x8000
    AA = 0x0400
    TC = 0x0200
    RD = 0x0100
    RA = 0x0080
    CD = 0x0010


class Rcode(IntEnum):
    """How a question ended."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3


class Malformed(Exception):
    """Bytes that are no DNS message."""


@dataclass(frozen=True, slots=True)
class Query:
    """What a client asks. `name` is the first question's in wire form, as spelt; the numbers are that question's.

    `questions` is how many there are; with 0 the question's fields are empty. `payload` is the size that EDNS offers,
    taken literally, or None without EDNS.
    """

    ident: int
    flags: int
    questions: int
    name: bytes
    rdtype: int
    rdclass: int
    payload: int | None


def parse(query: bytes) -> Query:
    """Read a query with a whole header. Raises Malformed."""
    ident, flags, questions, *_ = HEADER.unpack_from(query)
    # For dnspython other opcodes have other grammars; they are answered by the same rules.
    plain = query[:2] + struct.pack("!H", flags & ~_OPCODE_MASK & ~_RCODE_MASK) + query[4:]
    try:
        message = dns.message.from_wire(plain, keyring=False, ignore_trailing=True)
    except Exception as error:  # its readers of record data promise no particular one
        raise Malformed(str(error)) from error
    payload = message.payload if message.edns >= 0 else None
    if not message.question:
        return Query(ident, flags, 0, b"", 0, 0, payload)
    first = message.question[0]
    return Query(ident, flags, questions, first.name.to_wire() or b"", first.rdtype, first.rdclass, payload)


def header_flags(query_flags: int, rcode: Rcode, *, is_authoritative: bool) -> int:
    """Give the flags of an answer to a query with these flags: RD and CD come back for ordinary queries only."""
    opcode = query_flags & _OPCODE_MASK
    kept = 0 if opcode else query_flags & (Flag.RD | Flag.CD)
    return Flag.QR | Flag.RA | opcode | kept | (Flag.AA if is_authoritative else 0) | rcode


def header_only(ident: int, flags: int) -> bytes:
    """Give an answer without question."""
    return HEADER.pack(ident, flags, 0, 0, 0, 0)


def with_question(ident: int, flags: int, question: bytes) -> bytes:
    """Give an answer without records; `question` is a name, type and class in wire form."""
    return HEADER.pack(ident, flags, 1, 0, 0, 0) + question


def question_of(query: Query) -> bytes:
    """Give the first question in wire form."""
    return query.name + struct.pack("!2H", query.rdtype, query.rdclass)


def record_head(name: bytes, rdtype: int, ttl: int, length: int) -> bytes:
    """Give what precedes the data of a record; `ttl` in seconds, `length` in bytes."""
    return name + struct.pack("!HHIH", rdtype, IN, ttl, length)
