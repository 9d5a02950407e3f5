"""Addresses that nodes choose: distinct ones on all hosts, kept over restarts and crashes, given back by the dead."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest

from lab.node_lab import check_logs, client, explained, kill, report, told, wait_for_neighbours
from plait.testing.lab import Host, Lab, wait_until
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
    """Hosts of which all call the first."""
    hosts = [lab.host(name) for name in names]
    for number, host in enumerate(hosts):
        host.launch(*hosts[:1] if number else (), extra=extra)
    for host in hosts[1:]:
        wait_until(lambda: len(report(host)["Router"]["Peers"]) == len(hosts), "all know all")
    return hosts


def attached(host: Host, name: str) -> tuple[Container, str]:
    container = host.container(name)
    return container, host.attach(container)


def owners(host: Host) -> dict[str, int]:
    """How many addresses each peer owns, by nickname, as this host sees it."""
    found: dict[str, int] = {}
    for entry in report(host)["IPAM"]["Entries"] or []:
        found[entry["Nickname"]] = found.get(entry["Nickname"], 0) + entry["Size"]
    return found


def test_containers_get_distinct_addresses_and_keep_them(lab: Lab) -> None:
    hosts = launched(lab, "h1", "h2", "h3")
    containers = {}
    for host in hosts:
        for name in ("a", "b"):
            container, address = attached(host, name)
            assert ip_address(address) in ip_network(RANGE)
            containers[address] = (host, container)
    assert len(containers) == 6
    (_, first), *others = containers.values()
    for address in list(containers)[1:]:
        first.run(["ping", "-c", "1", "-W", "5", address])
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
    first.run(["ping", "-c", "1", "-W", "10", address])

    assert host.plait("detach", container.spec).stdout.strip() == address
    _, again = attached(host, "again")
    assert again == address, "a released address is the lowest free one"
    assert host.plait("expose").stdout.strip() not in {*containers, fresh}
    assert host.plait("hide").stdout.strip()
