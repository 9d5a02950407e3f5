"""The pure parts of the lab: ways between segments, rules of faults."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from plait.host import firewall
from plait.testing.lab import faults
from plait.testing.lab.faults import Detour, Fault
from plait.testing.lab.topology import Gateway, Port, Segment, next_hops


def segment(number: int, bridge: str | None = "sw") -> Segment:
    return Segment(f"s{number}", IPv4Network(f"10.99.{number}.0/24"), 1500, bridge)


def gateway(*segments: Segment, one_way_from: Segment | None = None) -> Gateway:
    return Gateway({each: each.next_router().ip for each in segments}, one_way_from)


def port(on: Segment, outer: str | None) -> Port:
    return Port(on, "eth0", outer, on.next_host())


def rules(*wrong: Fault) -> list[str]:
    (chain,) = faults.table(wrong).chains
    return [rule.text for rule in chain.rules]


def test_hosts_count_up_and_routers_down() -> None:
    one = segment(0)
    assert [str(one.next_host()), str(one.next_host())] == ["10.99.0.1/24", "10.99.0.2/24"]
    assert [str(one.next_router()), str(one.next_router())] == ["10.99.0.254/24", "10.99.0.253/24"]


def test_way_through_two_routers_begins_at_the_first() -> None:
    left, middle, right = segment(0), segment(1), segment(2)
    first, second = gateway(left, middle), gateway(middle, right)
    hop = IPv4Address("10.99.0.254")
    assert next_hops([left], [second, first]) == {middle.subnet: hop, right.subnet: hop}
    assert next_hops([middle], [first, second]) == {
        left.subnet: IPv4Address("10.99.1.254"),
        right.subnet: IPv4Address("10.99.1.253"),
    }
    assert next_hops([left, right], [first]) == {middle.subnet: hop}


def test_nat_leads_out_only() -> None:
    inside, outside = segment(0), segment(1)
    nat = gateway(inside, outside, one_way_from=inside)
    assert next_hops([inside], [nat]) == {outside.subnet: IPv4Address("10.99.0.254")}
    assert next_hops([outside], [nat]) == {}


def test_nothing_is_reached_without_a_gateway() -> None:
    assert next_hops([segment(0)], []) == {}


def test_fault_on_one_switch_is_told_by_its_ports() -> None:
    one = segment(0)
    fault = Fault((port(one, "p0"),), (port(one, "p1"),))
    assert rules(fault) == ['iifname "p0" oifname "p1" ether type != arp drop']


def test_fault_across_switches_is_told_by_addresses() -> None:
    fault = Fault((port(segment(0), "p0"),), (port(segment(1), "p1"),), one_in=10)
    assert rules(fault) == [
        'iifname "p0" ip daddr 10.99.1.1 numgen random mod 10 0 drop',
        'oifname "p1" ip saddr 10.99.0.1 numgen random mod 10 0 drop',
    ]


def test_fault_on_ipv6_leaves_neighbours_their_discovery() -> None:
    here, there = (Segment("s", IPv6Network(f"fd00:99:0:{number}::/64"), 1500, "sw") for number in (0, 1))
    discovery = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"
    assert rules(Fault((port(here, "p0"),), (port(here, "p1"),)))[0] == discovery
    assert rules(Fault((port(here, "p0"),), (port(there, "p1"),))) == [
        discovery,
        'iifname "p0" ip6 daddr fd00:99:0:1::1 drop',
        'oifname "p1" ip6 saddr fd00:99::3 drop',
    ]


def test_fault_of_ports_names_each_at_either_end() -> None:
    one = segment(0)
    fault = Fault((port(one, "p0"),), (port(one, "p1"),), udp=(6783,), tcp=(22,))
    path = 'iifname "p0" oifname "p1" ether type != arp'
    assert rules(fault) == [
        f"{path} udp dport 6783 drop",
        f"{path} udp sport 6783 drop",
        f"{path} tcp dport 22 drop",
        f"{path} tcp sport 22 drop",
    ]


def test_cable_has_no_place_for_a_fault() -> None:
    cable = segment(0, bridge=None)
    with pytest.raises(ValueError, match="no switch"):
        rules(Fault((port(cable, None),), (port(cable, None),)))


def test_table_without_faults_is_empty() -> None:
    assert firewall.render(faults.table([])).count("drop") == 0


def test_what_takes_a_detour_goes_no_other_way() -> None:
    one = segment(0)
    detour = Detour(port(one, "p0"), port(one, "p1"), "02:00:00:00:00:01")
    (chain,) = faults.table([], [detour]).chains
    assert [rule.text for rule in chain.rules] == [
        'iifname "p0" oifname "p1" ether daddr 02:00:00:00:00:01 ip protocol udp drop'
    ]
