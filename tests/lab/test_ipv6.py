"""Nodes whose hosts have nothing but IPv6 between them, alone and beside others that have IPv4."""

import pytest

from lab.fastdp_lab import BROADCAST, PATIENCE, attach, broadcasts_arrive_once, wait_for_overlay
from lab.node_lab import check_logs, connections, report
from lab.path_lab import USER_SPACE, both_ways, wait_for_path
from plait.testing.lab import Container, Host, Lab, wait_until

MULTICAST = bytes.fromhex("01005e000105")
SIZE = 5_000_000
PORT = 6783


def pair(lab: Lab, *options: str, password: str | None = None, mtu: int | None = None) -> tuple[Host, Host]:
    """Two nodes; the second calls the first."""
    wire = lab.switch(ipv6=True, mtu=mtu)
    one, other = lab.host("one", on=[wire]), lab.host("other", on=[wire])
    one.launch(extra=options, password=password)
    other.launch(one, extra=options, password=password)
    return one, other


def containers(*hosts: Host) -> list[Container]:
    """One on each host; waits until the first reaches all others."""
    made = [attach(host, host.container("c"), number) for number, host in enumerate(hosts, 1)]
    for each in made[1:]:
        wait_until(lambda each=each: made[0].ping(each, count=1).ok, "frames pass", PATIENCE)  # type: ignore[misc]
    return made


@pytest.mark.parametrize("password", [None, "secret"], ids=["plain", "encrypted"])
def test_two_nodes_in_user_space(lab: Lab, password: str | None) -> None:
    one, other = pair(lab, *USER_SPACE, password=password)
    here, there = containers(one, other)
    wait_for_path(one, other, lambda mtu: mtu == 1500, "it carries 1500")
    said = wait_for_overlay(one, other, "plait1")
    overhead = 92 if password is None else 124
    assert (said["Mtu"], said["Encrypted"]) == (1500 - overhead, password is not None)
    assert said["Remote"] == f"[{other.ip}]:{PORT}"
    assert report(one)["Plait"]["Mtu"] == 1500 - overhead, "containers have what fits"
    assert connections(other)[f"[{one.ip}]:{PORT}"]["State"] == "established"
    both_ways(here, there, SIZE)
    assert here.ping(there, count=50, size=1500 - overhead - 28, dont_fragment=True).ok
    broadcasts_arrive_once(here, there, groups=(BROADCAST, MULTICAST))
    check_logs(lab)
