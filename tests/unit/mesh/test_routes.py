import math
import random
from collections import deque
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import cases
from plait.mesh.name import UNKNOWN_PEER, PeerName
from plait.mesh.records import ConnectionSummary, PeerRecord, PeerSummary
from plait.mesh.routes import Routes


def link(remote: PeerName, established: bool = True) -> ConnectionSummary:
    return ConnectionSummary(remote, "192.0.2.9:6783", True, established)


def mesh(names: Iterable[PeerName], edges: Iterable[tuple[PeerName, str, PeerName, str]]) -> list[PeerRecord]:
    """Give records from edges with the view of either end: e established, p pending, - absent."""
    connections: dict[PeerName, list[ConnectionSummary]] = {name: [] for name in names}
    for one, one_view, other, other_view in edges:
        for near, far, view in ((one, other, one_view), (other, one, other_view)):
            if view != "-":
                connections[near].append(link(far, view == "e"))
    return [PeerRecord(PeerSummary(name, uid=1), tuple(links)) for name, links in connections.items()]


def chain(*numbers: int) -> list[PeerRecord]:
    names = [PeerName(number) for number in numbers]
    return mesh(names, [(one, "e", other, "e") for one, other in pairwise(names)])


def _golden_mesh(case: dict[str, Any]) -> list[PeerRecord]:
    first = PeerName.parse("02:00:00:00:00:01")
    return mesh(
        [PeerName(first + number) for number in range(case["peers"])],
        [
            (PeerName.parse(edge["a"]), edge["a_view"], PeerName.parse(edge["b"]), edge["b_view"])
            for edge in case["edges"] or []
        ],
    )


GRAPHS = cases("mesh/routes.json")


def test_all_golden_graphs_are_there() -> None:
    assert len(GRAPHS) == 15


@pytest.mark.parametrize("case", GRAPHS, ids=lambda case: case["name"])
def test_every_peer_of_a_golden_graph_routes_like_weave(case: dict[str, Any]) -> None:
    records = _golden_mesh(case)
    assert len(case["per_ourself"]) == case["peers"]
    for our_name, view in case["per_ourself"].items():
        routes = Routes.compute(PeerName.parse(our_name), records)
        assert {str(name): str(hop) for name, hop in routes.unicast_table().items()} == view["unicast"]
        all_hops = {str(record.name): routes.unicast_all(record.name) for record in records}
        assert {name: str(hop) for name, hop in all_hops.items() if hop is not None} == view["unicast_all"]
        for lookup, key in ((routes.broadcast, "broadcast"), (routes.broadcast_all, "broadcast_all")):
            assert {source: sorted(map(str, lookup(PeerName.parse(source)))) for source in view[key]} == view[key]


@pytest.mark.parametrize("case", GRAPHS, ids=lambda case: case["name"])
def test_golden_numbers_of_random_neighbours(case: dict[str, Any]) -> None:
    records = _golden_mesh(case)
    for our_name, view in case["per_ourself"].items():
        routes = Routes.compute(PeerName.parse(our_name), records)
        for excluded, count in view["random_neighbours_count"].items():
            chosen = routes.choose_neighbours(random.Random(1), PeerName.parse(excluded))
            assert len(chosen) == len(set(chosen)) == count
            assert PeerName.parse(excluded) not in chosen


def test_without_any_record_we_reach_only_ourselves() -> None:
    routes = Routes.compute(PeerName(1), [])
    assert routes.unicast_table() == {PeerName(1): UNKNOWN_PEER}
    assert routes.broadcast(PeerName(1)) == frozenset()
    assert routes.choose_neighbours(random.Random(1)) == []


def test_unreachable_and_unknown_peers_have_no_route() -> None:
    routes = Routes.compute(PeerName(1), [*chain(1, 2), *chain(3, 4)])
    for stranger in (PeerName(3), PeerName(99)):
        assert routes.unicast(stranger) is None
        assert routes.unicast_all(stranger) is None
        assert routes.broadcast(stranger) == frozenset()
        assert routes.broadcast_all(stranger) == frozenset()


def test_a_connection_to_a_peer_without_record_does_not_count() -> None:
    records = [PeerRecord(PeerSummary(PeerName(1)), (link(PeerName(2)),))]
    routes = Routes.compute(PeerName(1), records)
    assert routes.unicast_all(PeerName(2)) is None
    assert routes.broadcast_all(PeerName(1)) == frozenset()


def test_a_peer_that_lists_itself_harms_nobody() -> None:
    first, second = chain(1, 2)
    loop = PeerRecord(second.summary, (*second.connections, link(PeerName(2))))
    routes = Routes.compute(PeerName(2), [first, loop])
    assert routes.broadcast(PeerName(2)) == {PeerName(1)}
    assert routes.choose_neighbours(random.Random(1)) == [PeerName(1)]


def test_the_broadcast_table_lists_the_sources_asked_for_that_are_peers() -> None:
    routes = Routes.compute(PeerName(2), chain(1, 2, 3))
    assert routes.broadcast_table() == {}
    routes.broadcast(PeerName(1))
    routes.broadcast(PeerName(99))
    assert routes.broadcast_table() == {PeerName(1): frozenset({PeerName(3)})}


def test_neighbours_are_chosen_in_proportion_to_the_peers_behind_them() -> None:
    """Of 20 neighbours, 8 or 9 are chosen; the one with 12 peers behind it nearly always."""
    spokes = [PeerName(number) for number in range(2, 22)]
    behind = [PeerName(number) for number in range(100, 112)]
    edges = [(PeerName(1), "e", spoke, "e") for spoke in spokes] + [(spokes[0], "e", leaf, "e") for leaf in behind]
    routes = Routes.compute(PeerName(1), mesh([PeerName(1), *spokes, *behind], edges))
    rng = random.Random(42)
    rounds = [routes.choose_neighbours(rng) for _ in range(200)]
    assert {len(chosen) for chosen in rounds} == {math.floor(2 * math.log2(33))}
    assert all(len(set(chosen)) == len(chosen) for chosen in rounds)
    assert sum(spokes[0] in chosen for chosen in rounds) > 190
    assert set().union(*map(set, rounds)) == set(spokes)


@given(st.integers(1, 600))
def test_the_number_of_neighbours_follows_the_logarithm(peers: int) -> None:
    names = [PeerName(number) for number in range(1, peers + 1)]
    routes = Routes.compute(names[0], mesh(names, [(names[0], "e", other, "e") for other in names[1:]]))
    chosen = routes.choose_neighbours(random.Random(peers))
    assert len(chosen) == min(math.floor(2 * math.log2(peers)), peers - 1)


# Random meshes on which all peers agree


@st.composite
def symmetric_meshes(draw: st.DrawFn) -> list[PeerRecord]:
    """A mesh in which both ends of every link list it, some links not established yet."""
    size = draw(st.integers(1, 12))
    names = [PeerName(number * 37 % 1009 + 1) for number in range(size)]
    pairs = [(one, other) for at, one in enumerate(names) for other in names[at + 1 :]]
    views = draw(st.lists(st.sampled_from("-eeep"), min_size=len(pairs), max_size=len(pairs)))
    return mesh(names, [(one, view, other, view) for (one, other), view in zip(pairs, views, strict=True)])


def _distances(records: list[PeerRecord], start: PeerName, *, only_established: bool) -> dict[PeerName, int]:
    links = {
        record.name: [c.remote for c in record.connections if c.established or not only_established]
        for record in records
    }
    distances = {start: 0}
    queue = deque([start])
    while queue:
        name = queue.popleft()
        for remote in links[name]:
            if remote not in distances:
                distances[remote] = distances[name] + 1
                queue.append(remote)
    return distances


@settings(max_examples=60)
@given(symmetric_meshes(), st.booleans())
def test_following_next_hops_leads_to_every_peer_by_a_shortest_way(records: list[PeerRecord], is_data: bool) -> None:
    routes = {record.name: Routes.compute(record.name, records) for record in records}
    for start in routes:
        distances = _distances(records, start, only_established=is_data)
        for destination in routes:
            at, steps = start, 0
            while at != destination:
                hop = routes[at].unicast(destination) if is_data else routes[at].unicast_all(destination)
                if hop is None:
                    break
                at, steps = hop, steps + 1
                assert steps <= len(records)
            assert (steps if at == destination else None) == distances.get(destination)


@settings(max_examples=60)
@given(symmetric_meshes(), st.booleans())
def test_every_reachable_peer_gets_one_copy_of_a_broadcast(records: list[PeerRecord], is_data: bool) -> None:
    routes = {record.name: Routes.compute(record.name, records) for record in records}
    for source in routes:
        copies = dict.fromkeys(routes, 0)
        queue = deque([source])
        while queue:
            at = queue.popleft()
            copies[at] += 1
            assert copies[at] == 1
            queue.extend(routes[at].broadcast(source) if is_data else routes[at].broadcast_all(source))
        reachable = _distances(records, source, only_established=is_data)
        assert {name for name, count in copies.items() if count} == set(reachable)
