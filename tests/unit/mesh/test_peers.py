import random
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden import cases
from plait.errors import PlaitError
from plait.mesh import peers as peers_module
from plait.mesh.name import PeerName
from plait.mesh.peers import MAX_VERSION, Peers
from plait.mesh.records import ConnectionSummary, PeerRecord, PeerSummary
from plait.mesh.shortids import SHORT_IDS
from plait.mesh.topology import decode_topology

US, OTHER, THIRD, FOURTH = PeerName(10), PeerName(20), PeerName(30), PeerName(40)


def link(remote: PeerName, *, established: bool = True) -> ConnectionSummary:
    return ConnectionSummary(remote, f"192.0.2.{remote % 256}:6783", True, established)


def record(
    name: PeerName, *remotes: PeerName, uid: int = 1, version: int = 1, short_id: int | None = None
) -> PeerRecord:
    return PeerRecord(PeerSummary(name, f"n{int(name)}", uid, version, short_id), tuple(map(link, remotes)))


def table(short_id: int | None = 100) -> Peers:
    """Ourselves with one connection, to OTHER."""
    peers = Peers(PeerSummary(US, "us", 7, 0, short_id), random.Random(1))
    peers.enter_remote(PeerSummary(OTHER, "other", 1, 0, 200))
    peers.acquire(OTHER)
    peers.add_connection(link(OTHER))
    return peers


def version(peers: Peers) -> int:
    return peers.ourself.summary.version


# Golden merges


def _golden_record(entry: dict[str, Any]) -> PeerRecord:
    summary = entry["summary"]
    return PeerRecord(
        PeerSummary(
            PeerName.parse(entry["name"]),
            summary["NickName"],
            summary["UID"],
            summary["Version"],
            summary["ShortID"] if summary["HasShortID"] else None,
        ),
        tuple(
            ConnectionSummary(
                PeerName.parse(connection["Name"]),
                connection["RemoteTCPAddr"],
                connection["Outbound"],
                connection["Established"],
            )
            for connection in entry["connections"]
        ),
    )


def _golden_table(case: dict[str, Any]) -> Peers:
    """Come by the table before the update as a node would: one connection, then gossip."""
    records = {record.name: record for record in map(_golden_record, case["before"])}
    own = records.pop(PeerName.parse(case["ourself"]))
    peers = Peers(replace(own.summary, version=own.summary.version - 1), random.Random(3))
    for connection in own.connections:
        peers.enter_remote(records[connection.remote].summary)
        peers.acquire(connection.remote)
        peers.add_connection(connection)
    peers.merge(list(records.values()))
    return peers


def _content(records: Sequence[PeerRecord]) -> set[tuple[PeerSummary, frozenset[ConnectionSummary]]]:
    return {(record.summary, frozenset(record.connections)) for record in records}


def _owners(peers: Peers) -> dict[str, dict[str, object]]:
    claims = {short_id: [str(name) for name in peers.short_ids.claimants(short_id)] for short_id in range(SHORT_IDS)}
    return {str(short_id): {"principal": names[0], "others": names[1:]} for short_id, names in claims.items() if names}


def _forget_choice(case: dict[str, Any], peers: Peers) -> None:
    """Where the original drew another short ID at random, put ours in place of its choice."""
    own = peers.ourself.summary
    for entry in case["after"] + case["after_gc"]:
        if entry["name"] == case["ourself"]:
            drawn, entry["summary"]["ShortID"] = entry["summary"]["ShortID"], own.short_id
    case["short_id_owners_after_gc"][str(own.short_id)] = case["short_id_owners_after_gc"].pop(str(drawn))


MERGES = cases("mesh/topology_merge.json")


def test_all_golden_merges_are_there() -> None:
    assert len(MERGES) == 27


@pytest.mark.parametrize("case", MERGES, ids=lambda case: case["name"])
def test_golden_merge(case: dict[str, Any]) -> None:
    case = deepcopy(case)
    peers = _golden_table(case)
    before = peers.records()
    assert _content(before) == _content([_golden_record(entry) for entry in case["before"]])
    if "error" in case:
        with pytest.raises(PlaitError):
            decode_topology(bytes.fromhex(case["update_hex"]))
        return
    result = peers.merge(decode_topology(bytes.fromhex(case["update_hex"])))
    if case.get("our_short_id_reassigned"):
        assert peers.ourself.summary.short_id != _golden_record(case["before"][0]).summary.short_id
        _forget_choice(case, peers)
    assert sorted(map(str, result.names)) == case["update_names"]
    assert sorted(map(str, result.improved)) == case["improved_names"]
    assert _content(peers.records()) == _content([_golden_record(entry) for entry in case["after"]])
    assert result.own_record_changed == (peers.ourself not in before)
    peers.collect_garbage()
    assert _content(peers.records()) == _content([_golden_record(entry) for entry in case["after_gc"]])
    assert _owners(peers) == case["short_id_owners_after_gc"]


# Our own record


def test_every_change_of_our_connections_raises_our_version() -> None:
    peers = Peers(PeerSummary(US, "us", 7, 0, 100), random.Random(1))
    assert version(peers) == 0
    peers.add_connection(link(OTHER, established=False))
    assert version(peers) == 1
    peers.establish_connection(OTHER)
    assert version(peers) == 2
    assert peers.ourself.connections == (link(OTHER),)
    peers.remove_connection(OTHER)
    assert version(peers) == 3
    assert not peers.ourself.connections


def test_a_second_connection_to_a_peer_replaces_the_first() -> None:
    peers = table()
    newer = ConnectionSummary(OTHER, "192.0.2.20:50000", False, False)
    peers.add_connection(newer)
    assert peers.ourself.connections == (newer,)


def test_what_is_not_connected_cannot_be_established_or_removed() -> None:
    peers = table()
    with pytest.raises(ValueError, match="no connection"):
        peers.establish_connection(THIRD)
    with pytest.raises(ValueError, match="no connection"):
        peers.remove_connection(THIRD)
    assert version(peers) == 1


def test_a_new_remote_starts_at_version_0_and_a_known_one_stays() -> None:
    peers = table()
    peers.enter_remote(PeerSummary(THIRD, "third", 5, 99, 300))
    peers.enter_remote(PeerSummary(THIRD, "changed", 6, 99, 301))
    third = peers.get(THIRD)
    assert third == PeerRecord(PeerSummary(THIRD, "third", 5, 0, 300))


def test_an_earlier_incarnation_is_outdone_only_if_it_is_not_older() -> None:
    peers = table()
    assert not peers.merge([record(US, uid=8, version=0)]).own_record_changed
    result = peers.merge([record(US, FOURTH, uid=8, version=50)])
    assert result.own_record_changed
    assert not result.improved
    assert version(peers) == 51
    assert peers.ourself.connections == (link(OTHER),)
    assert not peers.merge([record(US, uid=7, version=90)]).own_record_changed


def test_a_version_beyond_64_bits_is_never_made() -> None:
    peers = table()
    result = peers.merge([record(US, uid=8, version=MAX_VERSION)])
    assert version(peers) == MAX_VERSION
    assert "highest version" in result.notices[0]
    peers.remove_connection(OTHER)
    assert version(peers) == MAX_VERSION


# Short IDs


def test_a_lower_name_with_our_short_id_makes_us_choose_another() -> None:
    peers = table(short_id=100)
    result = peers.merge([record(PeerName(1), uid=3, short_id=100)])
    assert result.own_record_changed
    assert version(peers) == 2
    ours = peers.ourself.summary.short_id
    assert ours not in (None, 100)
    assert ours is not None
    assert peers.short_ids.owner(ours) == US
    assert peers.short_ids.claimants(100) == (PeerName(1),)
    assert 100 in peers.short_ids.take_changes()


def test_a_new_neighbour_with_a_lower_name_and_our_short_id_does_too() -> None:
    peers = table(short_id=100)
    peers.enter_remote(PeerSummary(PeerName(1), "one", 3, 0, 100))
    assert version(peers) == 2
    assert peers.ourself.summary.short_id not in (None, 100)


def test_a_higher_name_with_our_short_id_does_not() -> None:
    peers = table(short_id=100)
    assert not peers.merge([record(THIRD, short_id=100)]).own_record_changed
    assert peers.short_ids.claimants(100) == (US, THIRD)


def _crowd() -> list[PeerRecord]:
    """One peer per short ID, all with names lower than ours, in a row that begins at OTHER."""
    names = [PeerName(1 << 20 | number) for number in range(SHORT_IDS)]
    rows = [record(name, short_id=number) for number, name in enumerate(names)]
    return [record(OTHER, *names, version=5, short_id=0), *rows]


def test_without_a_free_short_id_we_have_none_until_one_is_freed() -> None:
    peers = Peers(PeerSummary(PeerName(1 << 40), "us", 7, 0, 100), random.Random(1))
    peers.enter_remote(PeerSummary(OTHER))
    peers.add_connection(link(OTHER))
    result = peers.merge(_crowd())
    assert peers.ourself.summary.short_id is None
    assert version(peers) == 2
    assert "short IDs are taken" in result.notices[0]
    assert not peers.merge([]).notices
    assert peers.collect_garbage() == []
    assert version(peers) == 2
    peers.merge([record(OTHER, *(PeerName(1 << 20 | number) for number in range(1, SHORT_IDS)), version=6)])
    assert [each.summary.short_id for each in peers.collect_garbage()] == [0]
    assert peers.ourself.summary.short_id == 0
    assert version(peers) == 3
    assert peers.short_ids.take_changes() == {0, 100}


def test_a_node_without_short_id_takes_no_part() -> None:
    peers = table(short_id=None)
    peers.merge([record(PeerName(1), short_id=100)])
    peers.collect_garbage()
    assert peers.ourself.summary.short_id is None
    assert version(peers) == 1


def test_a_short_id_that_does_not_fit_is_kept_in_the_record_but_owned_by_nobody() -> None:
    peers = table()
    peers.merge([record(THIRD, short_id=SHORT_IDS)])
    third = peers.get(THIRD)
    assert third is not None
    assert third.summary.short_id == SHORT_IDS
    assert peers.short_ids.owner(SHORT_IDS) is None


# Garbage


def test_a_referenced_peer_stays_until_it_is_released() -> None:
    peers = table()
    peers.acquire(OTHER)
    peers.remove_connection(OTHER)
    peers.release(OTHER)
    assert peers.collect_garbage() == []
    peers.release(OTHER)
    assert [each.name for each in peers.collect_garbage()] == [OTHER]
    assert list(peers) == [US]
    assert peers.short_ids.owner(200) is None


def test_a_reference_can_be_given_back_only_once() -> None:
    peers = table()
    peers.release(OTHER)
    with pytest.raises(ValueError, match="released"):
        peers.release(OTHER)


def test_what_is_reached_over_pending_and_one_sided_connections_stays() -> None:
    peers = table()
    pending = PeerRecord(PeerSummary(OTHER, "other", 1, 1), (link(THIRD, established=False),))
    peers.merge([pending, record(FOURTH, US)])
    assert [each.name for each in peers.collect_garbage()] == [FOURTH]
    assert set(peers) == {US, OTHER, THIRD}


def test_a_loop_of_peers_that_we_do_not_reach_goes() -> None:
    peers = table()
    peers.merge([record(THIRD, FOURTH), record(FOURTH, THIRD)])
    assert {each.name for each in peers.collect_garbage()} == {THIRD, FOURTH}


# Lookups


def test_lookups() -> None:
    peers = table()
    peers.merge([record(OTHER, THIRD)])
    assert len(peers) == 3
    assert OTHER in peers
    assert FOURTH not in peers
    assert peers.get(FOURTH) is None
    assert {each.name for each in peers.records()} == set(peers) == {US, OTHER, THIRD}
    assert [each.name for each in peers.records([FOURTH, OTHER])] == [OTHER]


def test_nicknames_are_not_unique() -> None:
    peers = table()
    twin = PeerRecord(PeerSummary(FOURTH, "other", 1, 1))
    peers.merge([twin])
    assert peers.nickname_matches("other") == [OTHER, FOURTH]
    assert peers.nickname_matches("nobody") == []


def test_labels() -> None:
    peers = table()
    assert peers.label(OTHER) == "00:00:00:00:00:14(other)"
    assert peers.label(FOURTH) == "00:00:00:00:00:28"


# Limits


def test_of_two_connections_to_one_peer_in_a_record_the_last_counts() -> None:
    peers = table()
    connections = (link(US, established=False), link(THIRD), link(US))
    peers.merge([PeerRecord(PeerSummary(OTHER, "other", 1, 9), connections)])
    other = peers.get(OTHER)
    assert other is not None
    assert other.connections == (link(US), link(THIRD))


def test_a_full_table_takes_no_more_peers_from_gossip_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_module, "MAX_PEERS", 3)
    peers = table()
    update = [record(OTHER, THIRD, FOURTH, version=2), record(FOURTH, OTHER)]
    result = peers.merge(update)
    assert set(peers) == {US, OTHER, FOURTH}
    assert result.refused == {THIRD}
    assert result.improved == {OTHER, FOURTH}
    assert "table is full" in result.notices[0]
    again = peers.merge(update)
    assert again.refused == {THIRD}
    assert again.notices == ()


def test_a_refused_peer_comes_in_when_others_have_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_module, "MAX_PEERS", 3)
    peers = table()
    peers.merge([record(FOURTH)])
    assert peers.merge([record(OTHER, THIRD, version=2), record(THIRD)]).refused == {THIRD}
    peers.collect_garbage()
    assert peers.merge([record(OTHER, THIRD, version=2), record(THIRD)]).improved == {THIRD}


def test_the_far_end_of_a_connection_of_ours_always_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_module, "MAX_PEERS", 1)
    peers = table()
    assert OTHER in peers


def test_connections_of_all_peers_are_limited_and_nothing_is_lost_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_module, "MAX_CONNECTIONS", 4)
    peers = table()
    update = [record(OTHER, US, THIRD, version=2), record(THIRD, OTHER, FOURTH)]
    result = peers.merge(update)
    assert result.improved == {OTHER}
    assert result.refused == {THIRD}
    assert "more than 4 connections" in result.notices[0]
    peers.merge([record(OTHER, THIRD, version=3)])
    assert peers.merge(update).improved == {THIRD}


@pytest.mark.parametrize(
    "monster",
    [
        PeerRecord(PeerSummary(OTHER, "x" * 1025, 1, 9)),
        PeerRecord(PeerSummary(OTHER, "x", 1, 9), (ConnectionSummary(THIRD, "1" * 129, True, True),)),
        PeerRecord(PeerSummary(OTHER, "x", 1, 9), (link(THIRD),) * 8193),
    ],
    ids=["nickname", "address", "connections"],
)
def test_a_record_larger_than_any_honest_one_is_refused_whole(monster: PeerRecord) -> None:
    peers = table()
    before = peers.records()
    result = peers.merge([monster])
    assert peers.records() == before
    assert result.names == result.refused == {OTHER}
    assert result.improved == frozenset()
    assert str(OTHER) in result.notices[0]


# Properties

_NAMES = [PeerName(number) for number in range(20, 26)]


def _told(name: PeerName, uid: int, version: int, has_short_id: bool) -> PeerRecord:
    """What a peer says at one moment of its life is fixed by name, UID and version; old peers learn short IDs late."""
    rng = random.Random(f"{name} {uid} {version}")
    short_id = rng.randrange(8)
    remotes = rng.sample([US, *_NAMES], rng.randrange(4))
    return record(name, *remotes, uid=uid, version=version, short_id=short_id if has_short_id else None)


_updates = st.lists(
    st.lists(
        st.builds(_told, st.sampled_from(_NAMES), st.integers(1, 3), st.integers(0, 4), st.booleans()), max_size=6
    ),
    max_size=5,
)


def _merged(updates: Sequence[Sequence[PeerRecord]]) -> Peers:
    peers = Peers(PeerSummary(US, "us", 7), random.Random(1))
    for update in updates:
        peers.merge(update)
    return peers


def _age(record: PeerRecord) -> tuple[int, int, bool]:
    return record.summary.version, record.summary.uid, record.summary.short_id is not None


@given(_updates)
def test_merging_again_changes_nothing(updates: list[list[PeerRecord]]) -> None:
    for update in updates:
        peers = _merged(updates)
        before = peers.records()
        result = peers.merge(update)
        assert result.improved == frozenset()
        assert peers.records() == before


@given(_updates, st.randoms(use_true_random=False))
def test_the_order_of_updates_does_not_matter(updates: list[list[PeerRecord]], rng: random.Random) -> None:
    shuffled = [rng.sample(update, len(update)) for update in rng.sample(updates, len(updates))]
    one, other = _merged(updates), _merged(shuffled)
    assert _content(one.records()) == _content(other.records())
    assert _owners(one) == _owners(other)


@given(_updates)
def test_no_record_grows_older_and_improved_names_are_those_that_changed(updates: list[list[PeerRecord]]) -> None:
    peers = _merged([])
    for update in updates:
        before = {each.name: each for each in peers.records()}
        result = peers.merge(update)
        for each in peers.records():
            known = before.get(each.name)
            if known is not None:
                assert _age(each) >= _age(known)
                assert (each != known) == (each.name in result.improved)
            else:
                assert each.name in result.improved or each == PeerRecord(PeerSummary(each.name))


@given(_updates)
def test_what_is_left_after_garbage_collection_is_what_we_reach(updates: list[list[PeerRecord]]) -> None:
    peers = _merged([])
    peers.enter_remote(PeerSummary(_NAMES[0], "", 1))
    peers.add_connection(link(_NAMES[0]))
    for update in updates:
        peers.merge(update)
    removed = {each.name for each in peers.collect_garbage()}
    assert not removed & set(peers)
    reached = {US}
    while more := {c.remote for name in reached for c in (peers.get(name) or record(name)).connections} - reached:
        reached |= more
    assert set(peers) == reached
    assert peers.collect_garbage() == []
