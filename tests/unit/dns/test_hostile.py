"""Damaged questions, answers and gossip: nothing raises but PlaitError, no error is longer than its question.

PLAIT_FUZZ is the number of messages (100,000 without): `PLAIT_FUZZ=10000000 make test TESTS=<this file>`.
"""

import os
import random
from collections import Counter

import dns.message
import dns.rrset
import pytest

from plait.dns import codec
from plait.dns.entries import MAX_VERSION, Entries, Entry, memory_order
from plait.dns.responder import Forward, Responder
from plait.dns.service import NameService
from plait.dns.upstream import check_answer
from plait.errors import PlaitError
from plait.mesh.gossip import GossipData
from plait.mesh.name import PeerName

MESSAGES = int(os.environ.get("PLAIT_FUZZ", "100000"))
SECONDS_PER_MILLION = 1200
"""For pytest's own watchdog only, on a slow machine."""

LIMIT = pytest.mark.timeout(120 + SECONDS_PER_MILLION * MESSAGES // 1_000_000)
US, THEM, STRANGER = PeerName(1), PeerName(2), PeerName(3)


def damaged(rng: random.Random, whole: bytes) -> bytes:
    """Flip, cut, lengthen, repeat, or leave as it is."""
    data = bytearray(whole)
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        position = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0 if position < len(data):
                data[position] ^= 1 << rng.randrange(8)
            case 1 if position < len(data):
                data[position] = rng.choice((0, 1, 63, 64, 0xC0, 0xFF, rng.randrange(256)))
            case 2:
                del data[position:]
            case 3:
                data[position:position] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                del data[position : position + rng.randrange(1, 9)]
            case 5:
                data += data[position : position + rng.randrange(60)]
    return bytes(data)


def questions() -> list[bytes]:
    made = []
    for name in ("foo.weave.local.", "foo.", ".", "nosuch.weave.local.", "one.example.", "1.0.0.0.in-addr.arpa."):
        for rdtype in ("A", "AAAA", "PTR", "DS", "ANY"):
            made.append(dns.message.make_query(name, rdtype, use_edns=False).to_wire())
            made.append(dns.message.make_query(name, rdtype, use_edns=0, payload=600, want_dnssec=True).to_wire())
    many = dns.message.make_query("foo.weave.local.", "A")
    many.question = many.question * 3
    return [*made, many.to_wire()]


@LIMIT
def test_questions() -> None:
    rng = random.Random(20)
    entries = Entries([Entry("c", US, address, "foo.weave.local.") for address in range(1, 60)])
    entries.merge([Entry("c", US, 1, "x.weave.local."), Entry("c", US, 2, "\udcff\udcfe..x"), Entry("", US, 3, "")])
    responder = Responder(entries, "weave.local.", 1, rng)
    wholes = questions()
    done: Counter[str] = Counter()
    for number in range(MESSAGES // 2):
        query = damaged(rng, rng.choice(wholes)) if rng.randrange(50) else rng.randbytes(rng.randrange(80))
        reply = responder.answer(query, is_tcp=bool(number & 1))
        if isinstance(reply, Forward):
            done["forwarded"] += 1
            assert len(reply.refusal) <= len(query)
        elif reply is None:
            done["silent"] += 1
        else:
            has_records = reply[6:8] != b"\0\0"
            done["records" if has_records else f"rcode {reply[3] & 15}"] += 1
            assert has_records or len(reply) <= max(len(query), 12), query.hex()
            assert len(query) < 12 or reply[:2] == query[:2]
            assert number & 1 or len(reply) <= 65535
            dns.message.from_wire(bytes([reply[0], reply[1], reply[2] & 0x87]) + reply[3:])
    print(dict(done))
    assert {"forwarded", "silent", "records", "rcode 0", "rcode 1", "rcode 2", "rcode 3"} <= set(done)


@LIMIT
def test_answers_from_upstream() -> None:
    rng = random.Random(21)
    query = dns.message.make_query("one.example.", "A")
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text("one.example.", 60, "IN", "A", "192.0.2.1", "192.0.2.2"))
    asked, whole = query.to_wire(), response.to_wire()
    assert check_answer(asked, whole)
    taken = 0
    for _ in range(MESSAGES // 4):
        data = damaged(rng, whole)
        if check_answer(asked, data):
            taken += 1
            assert dns.message.from_wire(data, ignore_trailing=True).id == query.id
    assert 0 < taken < MESSAGES // 4


@LIMIT
def test_gossip() -> None:
    rng = random.Random(22)
    sent: list[GossipData] = []
    service = NameService(US, {US, THEM}, "weave.local.", sent.append, lambda: 1000.0)
    done: Counter[str] = Counter()
    for number in range(MESSAGES // 4):
        if number % 1000 == 0:
            service.database.entries = Entries()
            service.add("ours", 7, "ours.weave.local")
        told = [
            Entry(
                rng.choice(("ours", "c", "")),
                rng.choice((US, THEM, STRANGER)),
                rng.choice((0, 7, 0xFFFFFFFF)),
                rng.choice(("ours.weave.local.", "OURS.weave.local.", "", "..", "\udc80.", "a" * 2000)),
                rng.choice((0, 1, 2, 1000, -1, MAX_VERSION, MAX_VERSION + 1, (1 << 63) - 1)),
                rng.choice((0, 0, 1000, -5, (1 << 63) - 1)),
            )
            for _ in range(rng.randrange(5))
        ]
        payload = codec.encode(rng.choice((1000, 1000, 1899, 1901, -(1 << 63))), told)
        if rng.randrange(2):
            payload = damaged(rng, payload)
        sent.clear()
        try:
            news = service.receive(payload, 0.0) if number & 1 else service.receive_broadcast(THEM, payload, 0.0)
        except PlaitError:
            done["refused"] += 1
            continue
        done["taken"] += 1
        for each in (*sent, *([news] if news else [])):
            for said in each.encode():
                assert not any(entry.origin == STRANGER for entry in codec.decode(said).entries)
    print(dict(done))
    assert min(done["refused"], done["taken"]) > MESSAGES // 50
    kept = list(service.database.entries)
    assert kept == sorted(kept, key=memory_order)
    assert all(entry.origin in (US, THEM) and len(entry.hostname) < 2000 for entry in kept)
    assert service.lookup("ours.weave.local")
    for said in service.everything().encode():  # type: ignore[union-attr]
        codec.decode(said)
