"""Addresses that nodes choose: distinct ones on all hosts, kept over restarts and crashes, given back by the dead."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_network

import pytest

from lab import ipam_lab
from lab.ipam_lab import owners
from lab.node_lab import check_logs, explained, kill, problems, report, told
from plait.testing.lab import Host, Lab, wait_until
from plait.testing.lab.errors import CommandFailed
from plait.testing.lab.features import missing_features
from plait.testing.lab.hosts import Container

RANGE = "10.32.0.0/12"
ON = ("--ipalloc-range", RANGE)


@pytest.fixture
def lab() -> Iterator[Lab]:
    if missing := missing_features():
        pytest.skip("; ".join(missing))
    with Lab() as lab:
        yield lab
        check_logs(lab)


def launched(lab: Lab, *names: str, extra: tuple[str, ...] = ON) -> list[Host]:
    return ipam_lab.launched(lab, *names, extra=extra)


def attached(host: Host, name: str) -> tuple[Container, str]:
    container = host.container(name)
    return container, host.attach(container)


def answers(container: Container, address: str) -> None:
    """Launching and attaching end before the nodes are connected."""
    wait_until(lambda: container.ping(address, count=1).ok, f"{address} answers")


def test_containers_get_distinct_addresses_and_keep_them(lab: Lab) -> None:
    hosts = launched(lab, "h1", "h2", "h3")
    containers = {}
    for host in hosts:
        for name in ("a", "b"):
            container, address = attached(host, name)
            assert ip_address(address) in ip_network(RANGE)
            containers[address] = (host, container)
    assert len(containers) == 6
    _, first = next(iter(containers.values()))
    for address in list(containers)[1:]:
        answers(first, address)
    host, container = containers[list(containers)[2]]
    address = list(containers)[2]

    host.plait("stop")
    host.launch(hosts[0], extra=ON)
    assert host.attach(container) == address
    kill(host)
    host.launch(hosts[0], extra=ON)
    assert host.attach(container) == address
    _, fresh = attached(host, "fresh")
    assert fresh not in containers
    answers(first, address)

    assert host.plait("detach", container.spec).stdout.strip() == address
    _, again = attached(host, "again")
    assert again == address, "a released address is the lowest free one"
    assert host.plait("expose").stdout.strip() not in {*containers, fresh}
    assert host.plait("hide").stdout.strip()


def test_a_dead_peer_is_taken_over_and_one_that_leaves_hands_over(lab: Lab) -> None:
    hosts = launched(lab, "h1", "h2", "h3")
    for host in hosts:
        attached(host, "a")
    size = ip_network(RANGE).num_addresses
    wait_until(lambda: set(owners(hosts[0])) == {"h1", "h2", "h3"}, "all own a part")
    kill(hosts[2])
    wait_until(lambda: "unreachable!" in hosts[0].plait("status", "ipam").stdout, "its end is noticed", 60)
    explained(hosts[0].plait("rmpeer", "h2", check=False), 1, "h2 is in the network")
    lost = owners(hosts[0])["h3"]
    found = hosts[0].plait("ipam", "check", check=False)
    assert (found.status, f"{lost} addresses are owned by peer {hosts[2].peer_name}(h3)" in found.stdout) == (1, True)
    assert hosts[0].plait("rmpeer", "h3").stdout == f"{lost} IPs taken over from h3\n"
    hosts[1].plait("reset")
    wait_until(lambda: owners(hosts[0]) == {"h1": size}, "all is here")
    assert "ready" in hosts[0].plait("status").stdout
    assert hosts[0].plait("ipam", "check").stdout == ""


def test_who_cannot_have_an_address_is_told_why(lab: Lab) -> None:
    [host] = launched(lab, "small", extra=("--ipalloc-range", "10.32.0.0/30"))
    (first, _), _ = attached(host, "a"), attached(host, "b")
    late = host.container("late")
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(host.attach, late)
        told(host, f"{late.spec} waits for an address of 10.32.0.0/30", "none is free", "--ipalloc-range")
        assert "waiting for IP(s) to become available" in host.plait("status").stdout
        host.plait("detach", first.spec)
        assert waiting.result() in ("10.32.0.1", "10.32.0.2")
    wait_until(lambda: not problems(host), "nothing is wrong any more")

    other = lab.host("lonely")
    other.launch("10.255.255.1", extra=ON)
    container = other.container("a")
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(other.attach, container)
        told(other, "2 peers must agree", "1 are heard of", "--ipalloc-init consensus=N")
        other.plait("stop")
        with pytest.raises(CommandFailed):
            waiting.result()


def test_different_ranges_part_two_hosts_and_both_are_named(lab: Lab) -> None:
    one, two = lab.host("one"), lab.host("two")
    seed = f"--ipalloc-init=seed={one.peer_name}"
    one.launch(extra=(*ON, seed))
    two.launch(extra=("--ipalloc-range", "10.48.0.0/12", seed))
    two.plait("connect", one.ip)
    for host in (one, two):
        told(host, "Incompatible IP allocation ranges", "10.32.0.0/12", "10.48.0.0/12")


def test_different_seeds_part_two_hosts_and_both_are_named(lab: Lab) -> None:
    one, two = lab.host("one"), lab.host("two")
    for host in (one, two):
        host.launch(extra=(*ON, f"--ipalloc-init=seed={host.peer_name}"))
    two.plait("connect", one.ip)
    for host in (one, two):
        told(host, "IP allocation was seeded by different peers", str(one.peer_name), str(two.peer_name))


def test_a_range_that_hides_a_network_of_the_host_is_refused(lab: Lab) -> None:
    host = lab.host("h")
    host.run(["ip", "link", "add", "lan", "type", "veth", "peer", "name", "far"])
    host.run(["ip", "address", "add", "10.33.0.1/16", "dev", "lan"])
    host.run(["sh", "-c", "ip link set lan up && ip link set far up"])
    done = host.plait("launch", check=False)
    explained(done, 9, "10.32.0.0/12 overlaps with existing route 10.33.0.0/16 on host (device lan)", "--ipalloc-range")
    host.launch(extra=("--ipalloc-range", "10.33.0.0/20"))
    told(host, "10.33.0.0/20 overlaps with existing route 10.33.0.0/16 on host (device lan)")


def test_addresses_of_dead_containers_are_released(lab: Lab) -> None:
    [host] = launched(lab, "h", extra=("--ipalloc-range", "10.32.0.0/29"))
    container, address = attached(host, "a")
    path = f"/run/netns/{container.netns}"
    host.run(["sh", "-c", f"umount {path} && rm {path}"])
    wait_until(lambda: report(host)["IPAM"]["ActiveIPs"] == 0, "it is released", 60)
    assert attached(host, "b")[1] == address
