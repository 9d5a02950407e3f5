import pytest

from bench.systems.crowd import CONTAINERS_EACH, Neighbourhood, entries
from plait.mesh.shortids import SHORT_IDS
from plait.overlay.fastdp.tables import (
    ID,
    HopFlag,
    Neighbour,
    NextHop,
    Via,
    unpack_learned,
)

WAY = NextHop(Via.VXLAN, 7, "10.99.0.2", "10.99.0.1", underlay=3, mtu=1450, flags=HopFlag.DIRECT)
AROUND = Neighbourhood({0, 7}, WAY)


@pytest.mark.parametrize("count", [0, 9, 999])
def test_every_host_more_has_an_entry_in_each_map_and_containers(count: int) -> None:
    found = entries(AROUND, count, 0.0)
    sizes = {name: len(dict(items)) for name, items in found.items()}
    addresses = count * CONTAINERS_EACH
    assert sizes == {"nexthops": count, "neighbours": count, "learned": addresses, "announced": addresses}


def test_real_hosts_keep_their_entries() -> None:
    ids = {ID.unpack(key)[0] for key, _ in entries(AROUND, SHORT_IDS, 0.0)["nexthops"]}
    assert ids == {*range(SHORT_IDS)} - {0, 7}


def test_the_others_are_reached_as_the_real_one_is_but_elsewhere() -> None:
    found = entries(AROUND, 1, 0.0)
    way = NextHop.unpack(found["nexthops"][0][1])
    assert way == NextHop(Via.VXLAN, 1, "10.98.0.1", "10.99.0.1", underlay=3, mtu=1450, flags=HopFlag.DIRECT)
    assert Neighbour.unpack(found["neighbours"][0][1]) == Neighbour("10.99.0.1", 1)


def test_learned_addresses_are_behind_their_peers_and_outlast_a_run() -> None:
    seen, peer = unpack_learned(entries(AROUND, 1, 100.0)["learned"][0][1])
    assert peer == 1
    assert seen > 100.0 + 3600.0
