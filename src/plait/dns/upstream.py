"""Which servers know the rest of the names, and whether what they say is an answer; pure (spec: dns 11)."""

from ipaddress import ip_address

import dns.message

from plait.dns.message import HEADER, Flag

PORT = 53
CHECK_INTERVAL = 5.0
"""Seconds between looks at resolv.conf: Weave's."""

DEFAULT_TIMEOUT = 5.0
"""Seconds to wait for one server: Weave's."""

MAX_SERVERS = 8
"""Servers that are asked: libc takes 3, and each that is silent costs the client the whole time-out."""


def parse_resolv_conf(text: str, own_address: str) -> tuple[str, ...]:
    """Give the name servers in their order, without ourselves. Words that are no addresses are passed over."""
    servers: dict[str, None] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver" and words[1] != own_address and _is_address(words[1]):
            servers[words[1]] = None
    return tuple(servers)[:MAX_SERVERS]


def check_answer(query: bytes, answer: bytes) -> bool:
    """Tell if this is a well-formed answer to the query, which has the same ID; also one that tells of an error."""
    if len(answer) < HEADER.size or answer[:2] != query[:2]:
        return False
    flags = int.from_bytes(answer[2:4], "big")
    if not flags & Flag.QR:
        return False
    try:
        said = dns.message.from_wire(answer, keyring=False, ignore_trailing=True)
        asked = dns.message.from_wire(query, keyring=False, ignore_trailing=True, question_only=True)
    except Exception:  # its readers of record data promise no particular one
        return False
    # An error may come without the question (RFC 1035 leaves that open, and servers of old do so).
    return not said.question or said.question[0] == asked.question[0]


def fitted(answer: bytes, limit: int, refusal: bytes) -> bytes:
    """Give an answer of at most `limit` bytes: where not all fits none of it and TC, so that the client asks by TCP.

    `refusal` is an answer without records to the same question.
    """
    if len(answer) <= limit:
        return answer
    flags = int.from_bytes(answer[2:4], "big") | Flag.TC
    return answer[:2] + flags.to_bytes(2, "big") + refusal[4:]


def _is_address(text: str) -> bool:
    """Link-local addresses of IPv6 come with their interface behind a `%`."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
