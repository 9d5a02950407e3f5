"""Entries merge the same in whatever order, however often, and in whatever parts they come."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.dns import codec
from plait.dns.database import Database
from plait.dns.entries import TOMBSTONE_LIFE, Entries, Entry, merge_lists
from plait.dns.service import NameService
from plait.mesh.name import PeerName

PEERS = [PeerName(1), PeerName(2), PeerName(3)]
HOSTNAMES = ["a.weave.local.", "A.weave.local.", "b.weave.local.", "x.example.com.", "..", ""]

some_entries = st.lists(
    st.builds(
        Entry,
        st.sampled_from(["c1", "c2"]),
        st.sampled_from(PEERS),
        st.integers(1, 3),
        st.sampled_from(HOSTNAMES),
        st.integers(0, 3),
        st.sampled_from([0, 0, 100, 200]),
    ),
    max_size=12,
)


def merged(*parts: Iterable[Entry]) -> Entries:
    whole = Entries()
    for part in parts:
        whole.merge(part)
    return whole


@given(some_entries, some_entries)
def test_merging_is_commutative(a: list[Entry], b: list[Entry]) -> None:
    assert list(merged(a, b)) == list(merged(b, a))
    assert merge_lists(a, b) == merge_lists(b, a)


@given(some_entries, some_entries, some_entries)
def test_merging_is_associative(a: list[Entry], b: list[Entry], c: list[Entry]) -> None:
    assert list(merged(merged(a, b), c)) == list(merged(a, merged(b, c)))
    assert merge_lists(merge_lists(a, b), c) == merge_lists(a, merge_lists(b, c))


@given(some_entries, st.randoms(use_true_random=False))
def test_merging_is_idempotent_and_knows_no_order(a: list[Entry], random: object) -> None:
    once = merged(a)
    assert once.merge(a) == []
    shuffled = a + a
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert list(merged(shuffled)) == list(once)


@given(some_entries, some_entries)
def test_only_news_are_told(a: list[Entry], b: list[Entry]) -> None:
    entries = merged(a)
    before = list(entries)
    news = entries.merge(b)
    assert list(merged(before, news)) == list(entries)


@given(some_entries, some_entries)
def test_indexes_agree_with_the_entries(a: list[Entry], b: list[Entry]) -> None:
    entries = merged(a)
    for hostname in HOSTNAMES:
        entries.lookup(hostname)
    entries.merge(b)
    entries.remove_origin(PEERS[0])
    entries.expire(100 + TOMBSTONE_LIFE + 1)
    living = [entry for entry in entries if not entry.tombstone]
    for hostname in HOSTNAMES:
        expected = [entry.address for entry in living if entry.hostname.lower() == hostname.lower()]
        assert entries.lookup(hostname) == expected
    for address in (1, 2, 3):
        named = [entry.hostname for entry in living if entry.address == address]
        assert entries.reverse(address) == (named[0] if named else None)
    assert not any(entry.origin == PEERS[0] or entry.tombstone == 100 for entry in entries)


@given(some_entries)
def test_no_payload_has_an_entry_twice(a: list[Entry]) -> None:
    written = codec.decode(codec.encode(7, a + a))
    assert written.timestamp == 7
    assert len({entry.identity for entry in written.entries}) == len(written.entries)
    assert list(merged(written.entries)) == list(merged(a))


@given(some_entries, some_entries)
def test_only_we_have_the_say_about_our_entries(mine: list[Entry], heard: list[Entry]) -> None:
    """Whatever others claim of our names: what we end with, merged with what they have, is what we said last."""
    us = PEERS[0]
    database = Database(us, set(PEERS))
    for entry in mine:
        database.add(entry.hostname, entry.container_id, entry.address)
    said = {entry.identity for entry in database.entries if not entry.tombstone}
    _, received = database.receive(codec.encode(1000, heard), 1000)
    alive = {entry.identity for entry in database.entries if entry.origin == us and not entry.tombstone}
    assert alive == said
    theirs = merged(heard, received.corrections)
    for entry in database.entries:
        if entry.origin == us and (other := theirs.get(entry.identity)) is not None:
            assert other.merged(entry) == entry


def test_there_is_a_bound_and_people_hear_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plait.dns.entries.MAX_ENTRIES", 2)
    said: list[str] = []
    service = NameService(PEERS[0], set(PEERS), "weave.local.", lambda news: None, lambda: 1000.0, said.append)
    told = [Entry("c", PEERS[1], number, "a.weave.local.") for number in range(3)]
    service.receive(codec.encode(1000, told[:2]), 0.0)
    assert said == []
    service.receive(codec.encode(1000, told), 0.0)
    assert len(service.database.entries) == 2
    assert len(said) == 1
    gone = [entry._replace(version=1, tombstone=900) for entry in told[:2]]
    service.receive(codec.encode(1000, gone), 0.0)  # what is known can still change
    assert service.lookup("a.weave.local.") == []
    assert len(said) == 1


def test_very_many_entries_are_told_in_several_payloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plait.dns.service.ENTRIES_PER_PAYLOAD", 2)
    service = NameService(PEERS[0], set(PEERS), "weave.local.", lambda news: None, lambda: 1000.0)
    for number in range(5):
        service.add("c", number, "a.weave.local.")
    everything = service.everything()
    assert everything is not None
    payloads = [codec.decode(payload) for payload in everything.encode()]
    assert [len(payload.entries) for payload in payloads] == [2, 2, 1]
    assert list(merged(*(payload.entries for payload in payloads))) == list(service.database.entries)


@given(some_entries, st.integers(1, 3))
def test_a_deletion_by_address_is_one_by_looking_at_all(a: list[Entry], address: int) -> None:
    narrow, wide = merged(a), merged(a)
    by_index = narrow.delete(lambda identity: identity[2] == address, 300, address)
    assert by_index == wide.delete(lambda identity: identity[2] == address, 300)
    assert list(narrow) == list(wide)
    assert all(entry.tombstone == 300 and narrow.get(entry.identity) == entry for entry in by_index)
