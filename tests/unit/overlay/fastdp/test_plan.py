from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from plait.mesh.name import PeerName
from plait.overlay.fastdp.carrier import Carrier, Underlay, carrier_of
from plait.overlay.fastdp.own_ways import GRACE, HOLD
from plait.overlay.fastdp.plan import Planner, Tables, Topology
from plait.overlay.fastdp.session import FastdpSession
from plait.overlay.fastdp.tables import MAX_FANOUT, NO_ID, Fan, HopFlag, Neighbour, NextHop, Via
from unit.overlay.fastdp.carriers import FLAGS, by_pump, by_vxlan, ip

US, A, B, C = (PeerName(number) for number in (1, 2, 3, 4))
IDS = {US: 101, A: 102, B: 103, C: 104}


def hop(peer: PeerName, mtu: int = 1450) -> NextHop:
    return NextHop(Via.VXLAN, IDS[peer], ip(peer), "192.0.2.200", 3, mtu, FLAGS)


def star(*peers: PeerName, ids: Mapping[PeerName, int] = IDS) -> Topology:
    """We are joined to each, and they to nobody else."""
    trees: dict[PeerName, Iterable[PeerName]] = {each: [other for other in peers if other != each] for each in peers}
    return Topology(US, {peer: ids[peer] for peer in (US, *peers)}, {each: each for each in peers}, trees | {US: peers})


NEWS = star(A, B)
BOTH = {A: by_vxlan(A), B: by_vxlan(B)}


@pytest.fixture
def planner() -> Planner:
    """Of a node with two neighbours by VXLAN."""
    planner = Planner()
    planner.update(NEWS, BOTH, 0.0)
    return planner


def test_nothing_is_planned_at_first() -> None:
    planner = Planner()
    assert planner.tables == Tables(our_id=NO_ID)
    assert planner.next_deadline() is None
    assert planner.carried({}) == {}


def test_neighbours_by_vxlan(planner: Planner) -> None:
    assert planner.tables == Tables(
        101,
        {102: hop(A), 103: hop(B)},
        {101: Fan((102, 103)), 102: Fan((103,)), 103: Fan((102,))},
        {ip(A): Neighbour("192.0.2.200", 102), ip(B): Neighbour("192.0.2.200", 103)},
    )
    assert planner.next_deadline() is None
    assert set(planner.carried(IDS)) == {A, B}


def test_a_neighbour_by_the_pump() -> None:
    tables = Planner().update(NEWS, {A: by_vxlan(A), B: by_pump(B)}, 0.0)
    assert tables.nexthops[103] == NextHop(Via.PUMP, 103)
    assert tables.trees == {101: Fan((102,), True), 102: Fan((), True), 103: Fan((102,))}
    assert ip(B) in tables.neighbours, "what it still sends by VXLAN is taken"


def test_a_neighbour_whose_session_ended_may_send_nothing() -> None:
    tables = Planner().update(NEWS, {A: by_vxlan(A), B: Carrier(is_vxlan=False)}, 0.0)
    assert tables.neighbours.keys() == {ip(A)}


def test_a_peer_behind_a_neighbour() -> None:
    topology = Topology(US, IDS, {A: A, B: A}, {US: [A]})
    tables = Planner().update(topology, {A: by_vxlan(A)}, 0.0)
    assert tables.nexthops == {102: hop(A), 103: hop(A)}
    assert tables.trees == {101: Fan((102,))}


def test_peers_without_a_short_id_of_their_own_are_left_to_the_pump() -> None:
    ids = {peer: each for peer, each in IDS.items() if peer != B}
    topology = Topology(US, ids, {A: A, B: B}, {US: [A, B], A: [B], B: [A]})
    planner = Planner()
    tables = planner.update(topology, BOTH, 0.0)
    assert tables.nexthops.keys() == {102}
    assert tables.trees == {101: Fan((102,), True), 102: Fan((), True)}
    assert set(planner.carried(ids)) == {A}


def test_without_an_id_of_ours_the_kernel_has_none(planner: Planner) -> None:
    topology = Topology(US, {A: 102}, {A: A}, {A: []})
    assert planner.update(topology, {A: by_vxlan(A)}, 1.0).our_id == NO_ID


def test_a_way_that_nothing_replaces_is_held(planner: Planner) -> None:
    tables = planner.update(star(B), {B: by_vxlan(B)}, 10.0)
    assert tables.nexthops[102] == hop(A)
    assert tables.neighbours[ip(A)] == Neighbour("192.0.2.200", 102)
    assert tables.trees[101] == Fan((102, 103)), "it still gets broadcasts"
    assert tables.trees[102] == Fan((103,)), "and passes its own on"
    assert planner.next_deadline() == 10.0 + HOLD


def test_a_held_way_ends(planner: Planner) -> None:
    planner.update(star(B), {B: by_vxlan(B)}, 10.0)
    assert planner.update(star(B), {B: by_vxlan(B)}, 10.0 + HOLD - 0.1).nexthops.keys() == {102, 103}
    tables = planner.update(star(B), {B: by_vxlan(B)}, 10.0 + HOLD)
    fresh = Planner()
    assert tables == fresh.update(star(B), {B: by_vxlan(B)}, 0.0)
    assert planner.next_deadline() is None


def test_news_do_not_prolong_a_held_way(planner: Planner) -> None:
    for seconds in range(30):
        planner.update(star(B), {B: by_vxlan(B)}, 10.0 + seconds)
    assert planner.next_deadline() == 10.0 + HOLD


def test_a_peer_that_is_back_in_time_is_held_no_longer(planner: Planner) -> None:
    planner.update(star(B), {B: by_vxlan(B)}, 10.0)
    tables = planner.update(NEWS, BOTH, 12.0)
    assert tables.nexthops == {102: hop(A), 103: hop(B)}
    assert planner.next_deadline() is None
    planner.update(star(B), {B: by_vxlan(B)}, 50.0)
    assert planner.next_deadline() == 50.0 + HOLD, "and is held anew"


def test_a_new_connection_keeps_the_way_until_it_knows_better(planner: Planner) -> None:
    planner.update(star(B), {B: by_vxlan(B)}, 10.0)
    tables = planner.update(NEWS, {A: by_pump(A, is_pending=True), B: by_vxlan(B)}, 11.0)
    assert tables.nexthops[102] == hop(A)
    assert tables.trees[101] == Fan((102, 103))
    assert set(planner.carried(IDS)) == {A, B}
    established = planner.update(NEWS, {A: by_vxlan(A, 1300), B: by_vxlan(B)}, 12.0)
    assert established.nexthops[102] == hop(A, 1300)
    assert planner.next_deadline() is None


def test_a_new_connection_that_fails_takes_the_way_at_once(planner: Planner) -> None:
    planner.update(NEWS, {A: by_pump(A, is_pending=True), B: by_vxlan(B)}, 11.0)
    tables = planner.update(NEWS, {A: by_pump(A), B: by_vxlan(B)}, 12.0)
    assert tables.nexthops[102] == NextHop(Via.PUMP, 102)
    assert tables.trees[101] == Fan((103,), True)
    assert planner.next_deadline() is None


def test_a_new_connection_that_never_finds_out_is_not_waited_for_without_end(planner: Planner) -> None:
    pending = {A: by_pump(A, is_pending=True), B: by_vxlan(B)}
    planner.update(NEWS, pending, 11.0)
    assert planner.next_deadline() == 11.0 + HOLD
    tables = planner.update(NEWS, pending, 11.0 + HOLD)
    assert tables.nexthops[102] == NextHop(Via.PUMP, 102)
    assert planner.next_deadline() is None


def test_a_new_connection_to_another_address_does_not_keep_the_old_way(planner: Planner) -> None:
    moved = Carrier(False, "198.51.100.9", "192.0.2.200", is_pending=True)
    tables = planner.update(NEWS, {A: moved, B: by_vxlan(B)}, 11.0)
    assert tables.nexthops[102] == NextHop(Via.PUMP, 102)
    assert tables.neighbours["198.51.100.9"] == Neighbour("192.0.2.200", 102)


def test_an_earlier_node_s_tables_are_held(planner: Planner) -> None:
    left = planner.tables
    heir = Planner()
    heir.adopt(left, 100.0)
    assert heir.tables == left
    assert heir.next_deadline() == 100.0 + HOLD
    alone = Topology(US, {US: 101}, {}, {US: []})
    tables = heir.update(alone, {}, 101.0)
    assert (tables.our_id, tables.nexthops, tables.neighbours) == (101, left.nexthops, left.neighbours)
    assert tables.trees == left.trees
    assert heir.update(alone, {}, 100.0 + HOLD) == Tables(101)
    assert heir.next_deadline() is None


def test_an_heir_s_neighbours_replace_what_is_held(planner: Planner) -> None:
    heir = Planner()
    heir.adopt(planner.tables, 100.0)
    tables = heir.update(NEWS, BOTH, 101.0)
    assert tables == planner.tables
    assert heir.next_deadline() is None


def test_the_own_way_precedes_others_for_a_moment(planner: Planner) -> None:
    by_b = Topology(US, star(A, B).ids, {A: B, B: B}, {US: [B]})
    carriers = {B: by_vxlan(B)}
    tables = planner.update(by_b, carriers, 10.0)
    assert tables.nexthops[102] == hop(A), "perhaps B has not yet heard that A is gone"
    assert tables.trees[101] == Fan((103,)), "broadcasts have one way only"
    assert planner.next_deadline() == 10.0 + GRACE
    assert planner.update(by_b, carriers, 10.0 + GRACE).nexthops[102] == hop(B), "B reaches it"
    tables = planner.update(star(B), carriers, 10.0 + GRACE)
    assert tables.nexthops[102] == hop(A), "nobody reaches it: B may hold a way by us"
    assert tables.trees[101] == Fan((102, 103))
    assert 102 not in planner.update(star(B), carriers, 10.0 + GRACE + HOLD).nexthops


def test_a_way_that_was_known_to_fail_precedes_nothing(planner: Planner) -> None:
    planner.update(NEWS, {A: by_pump(A), B: by_vxlan(B)}, 9.0)
    by_b = Topology(US, star(A, B).ids, {A: B, B: B}, {US: [B]})
    assert planner.update(by_b, {B: by_vxlan(B)}, 10.0).nexthops[102] == hop(B)


def test_a_way_does_not_precede_that_of_a_peer_which_took_the_short_id(planner: Planner) -> None:
    ids = {US: 101, C: 102, B: 103}
    tables = planner.update(Topology(US, ids, {C: B, B: B}, {US: [B]}), {B: by_vxlan(B)}, 10.0)
    assert tables.nexthops[102] == hop(B)


def test_a_relay_serves_a_new_neighbour_until_its_connection_knows_more(planner: Planner) -> None:
    by_b = Topology(US, IDS, {A: A, B: B, C: B}, {US: [A, B]})
    assert planner.update(by_b, BOTH, 10.0).nexthops[104] == hop(B)
    carriers = BOTH | {C: by_pump(C, is_pending=True)}
    tables = planner.update(star(A, B, C), carriers, 20.0)
    assert tables.nexthops[104] == hop(B)
    assert tables.trees[101] == Fan((102, 103), True), "the pump has the broadcasts"
    assert planner.next_deadline() == 20.0 + GRACE
    assert planner.update(star(A, B, C), carriers, 20.0 + GRACE).nexthops[104] == NextHop(Via.PUMP, 104)
    assert planner.next_deadline() is None
    assert planner.update(star(A, B, C), BOTH | {C: by_vxlan(C)}, 30.0).nexthops[104] == hop(C)


def test_a_relay_that_is_lost_serves_nobody(planner: Planner) -> None:
    by_b = Topology(US, IDS, {A: A, B: B, C: B}, {US: [A, B]})
    planner.update(by_b, BOTH, 10.0)
    carriers = {A: by_vxlan(A), B: by_pump(B), C: by_pump(C, is_pending=True)}
    assert planner.update(star(A, B, C), carriers, 20.0).nexthops[104] == NextHop(Via.PUMP, 104)


def test_ways_by_the_pump_are_not_held() -> None:
    planner = Planner()
    planner.update(NEWS, {A: by_pump(A), B: by_vxlan(B)}, 0.0)
    assert planner.update(star(B), {B: by_vxlan(B)}, 1.0).nexthops.keys() == {103}


def test_more_neighbours_than_a_tree_holds_do_not_break_the_others() -> None:
    peers = [PeerName(number) for number in range(2, MAX_FANOUT + 20)]
    ids = {peer: int(peer) for peer in (US, *peers)}
    carriers = {peer: Carrier(True, f"10.0.{int(peer) // 256}.{int(peer) % 256}", "10.1.0.1", 3) for peer in peers}
    tables = Planner().update(star(*peers, ids=ids), carriers, 0.0)
    assert len(Fan.unpack(tables.trees[1].pack()).hops) == MAX_FANOUT


def test_neighbours_that_a_tree_has_no_room_for_are_the_pumps() -> None:
    us = PeerName(1)
    others = [PeerName(number) for number in range(2, MAX_FANOUT + 4)]
    ids = {peer: int(peer) for peer in (us, *others)}
    topology = Topology(us, ids, {peer: peer for peer in others}, {us: others})
    carriers = {peer: Carrier(True, f"192.0.2.{int(peer) % 250}", "192.0.2.251", 1, 1450) for peer in others}
    planner = Planner()
    tables = planner.update(topology, carriers, 0.0)
    served = planner.carried(ids)
    assert len(served) == MAX_FANOUT
    assert tables.trees[1] == Fan(tuple(sorted(map(int, served))), has_pump=True)
    left = [hop for hop in tables.nexthops.values() if hop.via is Via.PUMP]
    assert [hop.hop for hop in left] == [int(peer) for peer in others[MAX_FANOUT:]]


def fast(*, mtu: int = 1450) -> FastdpSession:
    """A session towards a Weave peer, begun."""
    session = FastdpSession(
        connection_uid=1,
        is_encrypted=False,
        remote_ip="192.0.2.2",
        is_plait=False,
        heartbeat_interval=10.0,
        local_mtu=mtu,
    )
    session.confirm(0.0)
    return session


def test_a_neighbour_is_pending_until_its_session_or_its_underlay_is_known() -> None:
    underlay = Underlay(3, "eth0", 1500, is_direct=True)
    pending = Carrier(False, "192.0.2.2", "192.0.2.1", is_pending=True)
    session = fast()
    assert carrier_of(None, underlay, "192.0.2.1", is_best=True) == Carrier(False)
    assert carrier_of(session, underlay, "192.0.2.1", is_best=True) == pending
    session.control_received(0, b"", 1.0)
    assert carrier_of(session, None, "192.0.2.1", is_best=True) == pending
    assert carrier_of(session, underlay, "192.0.2.1", is_best=False) == replace(pending, is_pending=False)
    session.unavailable("no")
    assert carrier_of(session, underlay, "192.0.2.1", is_best=True) == Carrier(False)


@pytest.mark.parametrize(
    ("interface", "is_direct", "flags"),
    [(1500, True, HopFlag.DIRECT | HopFlag.KERNEL_ANSWERS), (9000, True, HopFlag.DIRECT), (9000, False, HopFlag.NONE)],
)
def test_the_kernel_answers_only_where_the_interface_is_the_limit(
    interface: int, is_direct: bool, flags: HopFlag
) -> None:
    session = fast()
    session.control_received(0, b"", 1.0)
    underlay = Underlay(3, "eth0", interface, is_direct)
    found = carrier_of(session, underlay, "192.0.2.1", is_best=True)
    assert found == Carrier(True, "192.0.2.2", "192.0.2.1", 3, 1450, flags)
