"""What a name server says to one message: pure (spec: dns 7 to 12).

Names of our domain and addresses that have names are answered here, the rest is for servers upstream.
"""

import random
from dataclasses import dataclass

from plait.dns import message, names
from plait.dns.entries import Entries
from plait.dns.message import Flag, Malformed, Query, Rcode

DEFAULT_TTL = 1
"""Seconds: Weave's, so that a container that moves is found."""

MAX_TCP = 65535
"""Bytes of a message over TCP: its length has two of them."""

_REVERSE = b"\x07in-addr\x04arpa\0"
_ROOT = b"\0"
# Flags RD, or RD and AD, one question, no records: what resolvers of libc send.
_ORDINARY_HEADS = (b"\x01\x00\x00\x01" + bytes(6), b"\x01\x20\x00\x01" + bytes(6))
_ORDINARY_FLAGS = int(Flag.QR | Flag.AA | Flag.RD | Flag.RA)
_A_IN = b"\x00\x01\x00\x01"
_HEADER_BYTES = message.HEADER.size
# Questions whose names are remembered to be ours, in any of their two forms (with and without the domain).
_MAX_LEARNED = 200_000


@dataclass(frozen=True, slots=True)
class Forward:
    """A question for others. `limit`: bytes that the client takes as an answer; `refusal`: if nobody answers."""

    limit: int
    refusal: bytes


Reply = bytes | Forward | None
"""An answer, a question to pass on, or silence."""


class Responder:
    """Answers from `entries`. `domain` is ours, with trailing dot; `ttl` in seconds; `rng` turns addresses around."""

    def __init__(self, entries: Entries, domain: str, ttl: int, rng: random.Random) -> None:
        self._entries = entries
        self._domain = names.key(domain)
        self._ttl = ttl
        self._rng = rng
        self._keys: dict[bytes, bytes] = {}
        self._tail = message.record_head(b"", message.A, ttl, 4)

    def answer(self, query: bytes, is_tcp: bool = False) -> Reply:
        """Answer any bytes; never raises. An answer without records is never longer than its question."""
        return self._ordinary(query, is_tcp) or self.thorough(query, is_tcp)

    def _ordinary(self, query: bytes, is_tcp: bool) -> bytes | None:
        """Answer what nearly everybody asks: the addresses of a name that was asked for before; None for the rest.

        The name needs no reading: its lower case is that of a name that was read before, and so are its lengths.
        """
        if query[2:_HEADER_BYTES] not in _ORDINARY_HEADS or query[-4:] != _A_IN:
            return None
        name = query[_HEADER_BYTES:-4]
        key = self._keys.get(name.lower())
        if key is None:
            return None
        records = self._entries.records(key)
        if not records:
            return None
        limit = MAX_TCP if is_tcp else message.MAX_UDP
        return self._with_addresses(
            query[0] << 8 | query[1], _ORDINARY_FLAGS, query[_HEADER_BYTES:], name, records, limit
        )

    def thorough(self, query: bytes, is_tcp: bool = False) -> Reply:
        """Answer any bytes, by reading all of them."""
        if len(query) < _HEADER_BYTES:
            return message.header_only(0, Flag.QR | Rcode.FORMERR) if is_tcp and query else None
        ident, flags = message.HEADER.unpack_from(query)[:2]
        if flags & Flag.QR:
            return None
        if flags & Flag.TC:
            return message.header_only(ident, Flag.QR | Rcode.FORMERR)
        unreadable = message.header_only(ident, Flag.QR | flags & Flag.RD | Rcode.SERVFAIL)
        try:
            read = message.parse(query)
        except Malformed:
            return unreadable
        if not read.questions:
            return unreadable
        limit = MAX_TCP if is_tcp else message.MAX_UDP if read.payload is None else read.payload
        reply = self._route(read, limit)
        if reply is None:
            return Forward(max(limit, message.MAX_UDP), _at_most(len(query), _failed(read, Rcode.SERVFAIL)))
        return reply if reply[6:8] != b"\0\0" else _at_most(len(query), reply)

    def _route(self, query: Query, limit: int) -> bytes | None:
        """Answer, or give None for a question for others."""
        lower = query.name.lower()
        if query.rdtype != message.DS:
            if _is_in(lower, self._domain):
                return self._local(query, lower, lower, limit)
            if _is_in(lower, _REVERSE):
                return self._reverse(query, lower)
        if query.questions == 1 and _is_single(lower):
            key = lower[:-1] + self._domain if lower != _ROOT else b""
            return self._local(query, lower, key, limit)
        return None

    def _local(self, query: Query, lower: bytes, key: bytes, limit: int) -> bytes:
        records = self._entries.records(key) if query.questions == 1 else ()
        if not records:
            return _failed(query, Rcode.NXDOMAIN)
        flags = message.header_flags(query.flags, Rcode.NOERROR, is_authoritative=True)
        question = message.question_of(query)
        if query.rdtype != message.A:
            return message.with_question(query.ident, flags, question)
        if len(self._keys) >= _MAX_LEARNED:
            self._keys.clear()
        self._keys[lower] = key
        return self._with_addresses(query.ident, flags, question, query.name, records, limit)

    def _with_addresses(
        self, ident: int, flags: int, question: bytes, name: bytes, records: tuple[bytes, ...], limit: int
    ) -> bytes:
        """Give one record for each address, in a new order; as many as fit, and TC if not all do."""
        count = len(records)
        head = name + self._tail
        if count == 1:
            return message.HEADER.pack(ident, flags, 1, 1, 0, 0) + question + head + records[0]
        shuffled = list(records)
        self._rng.shuffle(shuffled)
        room = max((limit - _HEADER_BYTES - len(question)) // (len(head) + 4), 0)
        if count > room:
            del shuffled[room:]
            flags |= Flag.TC
        body = b"".join([head + record for record in shuffled])
        return message.HEADER.pack(ident, flags, 1, len(shuffled), 0, 0) + question + body

    def _reverse(self, query: Query, lower: bytes) -> bytes | None:
        address = _address_in(lower) if query.questions == 1 and query.rdtype == message.PTR else None
        if address is None:
            return _failed(query, Rcode.NXDOMAIN)
        hostname = self._entries.reverse(address)
        target = names.wire(hostname) if hostname is not None else None
        if target is None:
            return None
        flags = message.header_flags(query.flags, Rcode.NOERROR, is_authoritative=True)
        head = message.record_head(query.name, message.PTR, self._ttl, len(target))
        return message.HEADER.pack(query.ident, flags, 1, 1, 0, 0) + message.question_of(query) + head + target


def _failed(query: Query, rcode: Rcode) -> bytes:
    flags = message.header_flags(query.flags, rcode, is_authoritative=False)
    return message.with_question(query.ident, flags, message.question_of(query))


def _at_most(length: int, reply: bytes) -> bytes:
    """Leave the question out of an answer without records that is longer: its name came compressed."""
    return reply if len(reply) <= length else reply[:4] + bytes(8)


def _is_in(lower: bytes, domain: bytes) -> bool:
    """Tell if a name is a domain or below it; both in wire form and lower case."""
    if not lower.endswith(domain):
        return False
    start = len(lower) - len(domain)
    position = 0
    while position < start:
        position += lower[position] + 1
    return position == start


def _is_single(lower: bytes) -> bool:
    """Tell if a name has one label, or none."""
    return lower == _ROOT or lower[0] + 2 == len(lower)


def _address_in(lower: bytes) -> int | None:
    """Read `4.3.2.1.in-addr.arpa.`, as 1.2.3.4; None if it is not four numbers."""
    labels = []
    position = 0
    while position < len(lower) - len(_REVERSE):
        length = lower[position]
        labels.append(lower[position + 1 : position + 1 + length])
        position += length + 1
    if len(labels) != 4:
        return None
    address = 0
    for label in reversed(labels):
        if not label.isdigit() or len(label) > 3 or int(label) > 255 or (label[0] == ord("0") and len(label) > 1):
            return None
        address = address << 8 | int(label)
    return address
