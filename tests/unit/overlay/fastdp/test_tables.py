from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.host.bpf.elf import BpfObject, read_object
from plait.mesh.shortids import SHORT_IDS
from plait.overlay.fastdp import tables
from plait.overlay.fastdp.tables import (
    DROP_REASONS,
    DROPS,
    NO_WAY,
    Conf,
    Container,
    Event,
    Fan,
    HopFlag,
    Neighbour,
    NextHop,
    PeerStats,
    Via,
    pack_address,
    unpack_address,
)

ADDRESSES = st.ip_addresses(v=4).map(str)
ENDS = st.tuples(ADDRESSES, ADDRESSES) | st.tuples(*[st.binary(min_size=16, max_size=16).map(unpack_address)] * 2)
U16, U32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
MAC = bytes.fromhex("020000000001")


@pytest.fixture(scope="module")
def compiled() -> BpfObject:
    return read_object(resources.files("plait.overlay.fastdp").joinpath("bpf", "fastdp.bpf.o").read_bytes())


def test_sizes_are_those_that_the_programs_were_compiled_with(compiled: BpfObject) -> None:
    number = len(tables.ID.pack(0))
    address, mac = 4, len(tables.mac_key(MAC))
    sizes = {name: (spec.key_size, spec.value_size) for name, spec in compiled.maps.items()}
    assert sizes == {
        "conf": (number, len(Conf(1, 2, 3, 4).pack())),
        "containers": (mac, len(Container(1, is_elsewhere=True).pack())),
        "learned": (mac, 16),
        "announced": (mac, number),
        "nexthops": (number, len(NO_WAY.pack())),
        "trees": (number, len(Fan().pack())),
        "neighbours": (address, len(Neighbour("192.0.2.1", 1).pack())),
        "neighbours6": (16, len(Neighbour("2001:db8::1", 1).pack())),
        "stats": (number, 32),
        "drops": (number, 8),
        "events": (0, 0),
    }
    assert compiled.maps["drops"].max_entries == len(DROPS) == len(DROP_REASONS)
    assert {compiled.maps[name].max_entries for name in ("nexthops", "trees", "stats")} == {SHORT_IDS}
    tables.unpack_learned(bytes(16))
    assert PeerStats.total([bytes(32)]) == PeerStats()
    assert tables.total_count([bytes(8)]) == 0


def test_programs_of_the_object(compiled: BpfObject) -> None:
    assert set(compiled.programs) == {"from_container", "from_underlay", "from_vxlan", "to_vxlan", "from_tap", "to_tap"}


@given(st.sampled_from(Via), U16, ENDS, U32, U16, st.sampled_from([HopFlag(n) for n in range(4)]))
def test_next_hops_come_back(
    via: Via, hop: int, ends: tuple[str, str], underlay: int, mtu: int, flags: HopFlag
) -> None:
    there = NextHop(via, hop, *ends, underlay, mtu, flags)
    assert NextHop.unpack(there.pack()) == there


@given(st.binary(min_size=52, max_size=52))
def test_any_bytes_are_some_next_hop(value: bytes) -> None:
    hop = NextHop.unpack(value)
    assert NextHop.unpack(hop.pack()) == hop
    assert hop == NO_WAY or pack_address(hop.remote) in value


@given(st.lists(U16, max_size=tables.MAX_FANOUT), st.booleans())
def test_fans_come_back(hops: list[int], has_pump: bool) -> None:
    assert Fan.unpack(Fan(tuple(hops), has_pump).pack()) == Fan(tuple(hops), has_pump)


def test_a_fan_that_is_too_wide_is_cut() -> None:
    assert Fan.unpack(Fan(tuple(range(300))).pack()).hops == tuple(range(tables.MAX_FANOUT))


@given(st.binary(min_size=408, max_size=408))
def test_any_bytes_are_some_fan(value: bytes) -> None:
    assert len(Fan.unpack(value).hops) <= tables.MAX_FANOUT


@given(U32, st.integers(1, (1 << 32) - 1), U32, U16)
def test_confs_come_back(our_id: int, vxlan: int, tap: int, port: int) -> None:
    assert Conf.unpack(Conf(our_id, vxlan, tap, port).pack()) == Conf(our_id, vxlan, tap, port)


@given(ENDS.map(min), U16)
def test_neighbours_come_back(local: str, short_id: int) -> None:
    assert Neighbour.unpack(Neighbour(local, short_id).pack()) == Neighbour(local, short_id)


def test_octets_of_each_value() -> None:
    hop = NextHop(Via.VXLAN, 7, "192.0.2.1", "192.0.2.2", 3, 1450, HopFlag.DIRECT)
    assert hop.pack().hex() == "c0000201c00002020300000001000100" + "0700aa05" + "00" * 32
    hop = NextHop(Via.VXLAN, 7, "2001:db8::1", "2001:db8::2", 3, 1430, HopFlag.DIRECT)
    ends = "20010db8000000000000000000000001" + "20010db8000000000000000000000002"
    assert hop.pack().hex() == "00" * 8 + "03000000" + "01000500" + "07009605" + ends
    assert Conf(1, 2, 3, 6784).pack().hex() == "0100000002000000030000001a800000"
    assert tables.mac_key(MAC) == bytes.fromhex("0200000000010000")
    assert tables.unpack_mac(tables.mac_key(MAC)) == MAC
    assert Container(5, is_elsewhere=True).pack().hex() == "0500000001000000"
    for container in (Container(5, is_elsewhere=True), Container(0, is_elsewhere=False)):
        assert Container.unpack(container.pack()) == container


def test_a_conf_that_was_never_written_has_no_id() -> None:
    assert Conf.unpack(bytes(16)).our_id == tables.NO_ID


def test_learned_addresses_of_this_host_and_of_a_peer() -> None:
    second = (10**9).to_bytes(8, "little")
    assert tables.unpack_learned(second + bytes.fromhex("0700" + "0100" + "00000000")) == (1.0, None)
    assert tables.unpack_learned(second + bytes.fromhex("0700" + "0200" + "00000000")) == (1.0, 7)


def test_counters_are_added_over_cpus() -> None:
    one, two = (b"".join(n.to_bytes(8, "little") for n in four) for four in ((1, 2, 3, 4), (10, 20, 30, 40)))
    assert PeerStats.total([one, two]) == PeerStats(11, 22, 33, 44)
    assert tables.total_count([(5).to_bytes(8, "little"), (1 << 40).to_bytes(8, "little")]) == (1 << 40) + 5


def test_heartbeats_that_came_in() -> None:
    record = bytes.fromhex("0700" + "0100" + "00" * 10 + "ffff" + "c0000201" + "3c000000") + bytes(range(60))
    assert Event.unpack(record) == Event(7, "192.0.2.1", 60, bytes(range(60)))
    assert Event.unpack(record + bytes(8)) == Event.unpack(record)
    assert Event.unpack(record[:-1]) is None
    by_ipv6 = record.replace(record[4:20], pack_address("2001:db8::1"))
    assert Event.unpack(by_ipv6) == Event(7, "2001:db8::1", 60, bytes(range(60)))
