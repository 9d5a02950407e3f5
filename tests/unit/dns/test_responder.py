"""What is answered to one message: the original's answers byte for byte, up to the random order of addresses."""

import random
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
from plait.dns import names
from plait.dns.entries import Entries, Entry
from plait.dns.responder import Forward, Responder
from plait.mesh.name import PeerName
from unit.dns.vectors import address

DOMAIN = "weave.local."
# Of these the answer came from upstream, though their description does not say so.
FOREIGN = {
    "PTR of a tombstoned entry",
    "version.bind CH TXT",
    "similar suffix: notweave.local",
    "name that only ends in local",
}
ELSE = {
    "truncated question": "the class is missing: that is no message, and is told so",
    "--dns-domain Corp.Local (upper case): registered name, asked in lower case: goes upstream": "domains have no case",
    "same, asked with capitals": "domains have no case",
    "same, single label": "needs the other domain; test_a_domain_with_capitals has it",
}


def setup_entries() -> Entries:
    """The registrations that the questions were asked after."""
    entries = Entries()
    for exchange in golden.cases("dns/dns_setup.json", "exchanges"):
        container, *ip = exchange["path"].split("/")[2:]
        if exchange["method"] == "PUT":
            hostname = exchange["form"][0].removeprefix("fqdn=") + "."
            entries.add(hostname, container, PeerName(1), address(ip[0]))
        else:
            entries.delete(lambda identity, here=container: identity[0] == here, 1)  # type: ignore[misc]
    for number in range(1, 31):  # made for the questions about EDNS sizes that fit exactly
        entries.add("mid.weave.local.", "mid", PeerName(1), address(f"10.32.1.{number}"))
    return entries


@pytest.fixture(scope="module")
def responder() -> Responder:
    return Responder(setup_entries(), DOMAIN, 1, random.Random(1))


def records_of(answer: bytes) -> tuple[bytes, list[bytes]]:
    """Header and question, and the records (all of one length) in some fixed order."""
    count = int.from_bytes(answer[6:8], "big")
    if not count:
        return answer, []
    end = answer.index(b"\0", 12) + 5
    size, rest = divmod(len(answer) - end, count)
    assert rest == 0
    return answer[:end], sorted(answer[start : start + size] for start in range(end, len(answer), size))


def all_queries() -> list[Any]:
    """Those to run."""
    found = []
    for path in ("dns/dns_queries.json", "dns/dns_queries_more.json"):
        for case in golden.cases(path, "queries"):
            if case["desc"] in ELSE:
                golden.left_out(path, f"{case['proto']} {case['desc']}", ELSE[case["desc"]])
            else:
                found.append(case)
    return found


@pytest.mark.parametrize("case", all_queries(), ids=lambda case: f"{case['proto']} {case['desc']}")
def test_answers(case: dict[str, Any], responder: Responder) -> None:
    query = bytes.fromhex(case["query_hex"])
    expected = bytes.fromhex(case["response_hex"]) if case["response_hex"] else None
    is_foreign = ("upstream" in case["desc"] and "never asked" not in case["desc"]) or case["desc"] in FOREIGN
    for _ in range(2):  # the second one may take the short way
        answer = responder.answer(query, case["proto"] == "tcp")
        if is_foreign:
            assert isinstance(answer, Forward)
        elif expected is None:
            assert answer is None
        else:
            assert isinstance(answer, bytes)
            ours, theirs = records_of(answer), records_of(expected)
            if len(theirs[1]) > 1:  # a random choice, where not all fit
                assert (ours[0], len(ours[1]), len(ours[1][0])) == (theirs[0], len(theirs[1]), len(theirs[1][0]))
            else:
                assert ours == theirs or len(answer) < len(query)


def test_round_robin_gives_all_orders(responder: Responder) -> None:
    query = dns.message.make_query("multi.weave.local.", "A").to_wire()
    seen = set()
    for _ in golden.cases("dns/dns_queries.json", "round_robin_40_times"):
        answer = responder.answer(query)
        assert isinstance(answer, bytes)
        seen.add(tuple(str(record) for rrset in read(answer).answer for record in rrset))
    assert len(seen) == 6


def read(answer: bytes) -> dns.message.Message:
    return dns.message.from_wire(answer, one_rr_per_rrset=True)


def test_a_domain_with_capitals() -> None:
    entries = Entries([Entry("c", PeerName(1), 1, "foo.Corp.Local.")])
    responder = Responder(entries, "Corp.Local.", 30, random.Random(1))
    for name in ("foo.corp.local.", "FOO.CORP.LOCAL.", "foo."):
        answer = responder.answer(dns.message.make_query(name, "A").to_wire())
        assert isinstance(answer, bytes)
        assert str(read(answer).answer[0]) == f"{name} 30 IN A 0.0.0.1"


def test_names_outside_of_the_domain_are_not_ours_even_if_a_peer_says_them() -> None:
    entries = Entries([Entry("c", PeerName(1), 1, "www.example.com."), Entry("c", PeerName(1), 1, "a.weave.local.")])
    responder = Responder(entries, DOMAIN, 1, random.Random(1))
    assert isinstance(responder.answer(dns.message.make_query("www.example.com.", "A").to_wire()), Forward)


def test_an_ipv6_question_for_a_known_name_is_answered_at_once(responder: Responder) -> None:
    answer = responder.answer(dns.message.make_query("foo.weave.local.", "AAAA").to_wire())
    assert isinstance(answer, bytes)
    assert read(answer).rcode() == dns.rcode.NOERROR
    assert not read(answer).answer
    assert read(answer).flags & dns.flags.AA


def test_changes_show_at_once() -> None:
    entries = Entries()
    responder = Responder(entries, DOMAIN, 1, random.Random(1))
    query = dns.message.make_query("a.weave.local.", "A").to_wire()

    def addresses() -> list[str]:
        answer = responder.answer(query)
        assert isinstance(answer, bytes)
        return sorted(str(record) for rrset in read(answer).answer for record in rrset)

    assert addresses() == []
    entries.add("a.weave.local.", "c1", PeerName(1), 1)
    assert addresses() == addresses() == ["0.0.0.1"]
    entries.add("A.weave.local.", "c2", PeerName(2), 2)
    entries.add("A.weave.local.", "c3", PeerName(2), 2)
    assert addresses() == ["0.0.0.1", "0.0.0.2"]
    entries.delete(lambda identity: identity[0] == "c1", 1)
    assert addresses() == ["0.0.0.2"]
    entries.remove_origin(PeerName(2))
    assert addresses() == []


def test_an_error_is_never_longer_than_its_question() -> None:
    """A name that points into the header, where it finds bytes that are longer than the pointer."""
    responder = Responder(Entries(), DOMAIN, 1, random.Random(1))
    query = b"\x04abc" + b"\0\x01" + bytes(6) + b"\xc0\x00\0\x01\0\x01"
    answer = responder.answer(query)
    assert answer is None or (isinstance(answer, bytes) and len(answer) <= len(query))


def test_more_addresses_than_a_message_over_tcp_can_hold() -> None:
    entries = Entries(Entry("c", PeerName(1), number, f"{'a' * 60}.weave.local.") for number in range(1, 2001))
    responder = Responder(entries, DOMAIN, 1, random.Random(1))
    answer = responder.answer(dns.message.make_query(f"{'a' * 60}.weave.local.", "A").to_wire(), is_tcp=True)
    assert isinstance(answer, bytes)
    assert 65_000 < len(answer) <= 65_535
    assert read(answer).flags & dns.flags.TC


known_names = st.sampled_from(["foo", "multi", "web", "a.b.c", "big", "nosuch", "weave"])
spellings = st.sampled_from([str.upper, str.lower, str.title])


@given(
    known_names,
    spellings,
    st.sampled_from([".weave.local.", ".", ".example.com.", ".weave.local.x."]),
    st.integers(0, 0xFFFF),
    st.sampled_from([0x0100, 0x0120, 0x0110, 0x0000, 0x2100, 0x8100]),
    st.sampled_from([1, 28, 255]),
    st.sampled_from([1, 3]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_the_short_way_and_the_long_way_give_equal_answers(
    label: str, spell: Any, domain: str, ident: int, flags: int, rdtype: int, rdclass: int, is_tcp: bool, seed: int
) -> None:
    name = names.wire(spell(label) + domain)
    assert name is not None
    head = ident.to_bytes(2, "big") + flags.to_bytes(2, "big") + b"\0\x01" + bytes(6)
    query = head + name + rdtype.to_bytes(2, "big") + rdclass.to_bytes(2, "big")
    entries = setup_entries()
    short, long = (Responder(entries, DOMAIN, 1, random.Random(seed)) for _ in range(2))
    assert short.thorough(query, is_tcp) == long.thorough(query, is_tcp)  # and learns the name
    for _ in range(2):
        assert short.answer(query, is_tcp) == long.thorough(query, is_tcp)


@given(st.binary(min_size=13, max_size=60), st.sampled_from([b"\x01\x00", b"\x01\x20"]))
def test_bytes_that_only_look_ordinary(noise: bytes, flags: bytes) -> None:
    entries = setup_entries()
    responders = [Responder(entries, DOMAIN, 1, random.Random(1)) for _ in range(2)]
    query = b"\x12\x34" + flags + b"\0\x01" + bytes(6) + noise + b"\0\x01\0\x01"
    assert responders[0].answer(query) == responders[1].thorough(query)


def test_the_short_way_is_taken(responder: Responder, monkeypatch: pytest.MonkeyPatch) -> None:
    query = bytes.fromhex("123401000001000000000000" + "03666f6f057765617665056c6f63616c0000010001")
    first = responder.answer(query)
    monkeypatch.setattr(responder, "thorough", None)
    assert responder.answer(query) == first
    assert responder.answer(query.replace(b"foo", b"fOO")) is not None
