"""Ranges of hosts that are gone go to one heir; a host in the minority gives none out; who comes back is told."""

from collections.abc import Iterator

import pytest

from lab import ipam_lab
from lab.ipam_lab import owners
from lab.node_lab import check_logs, explained, kill, problems, report, told
from plait.testing.lab import Host, Lab, wait_until
from plait.testing.lab.features import missing_features

RANGE = "10.32.0.0/24"
ON = ("--ipalloc-range", RANGE, "--reclaim-after", "15s")


@pytest.fixture
def lab() -> Iterator[Lab]:
    if missing := missing_features():
        pytest.skip("; ".join(missing))
    with Lab() as lab:
        yield lab
        check_logs(lab)


def launched(lab: Lab, *names: str, extra: tuple[str, ...] = ON) -> list[Host]:
    return ipam_lab.launched(lab, *names, extra=extra)


def launched_with_electors(lab: Lab) -> list[Host]:
    """Three hosts that each have a container, and decide about each other."""
    hosts = launched(lab, "h1", "h2", "h3")
    for host in hosts:
        host.attach(host.container("a"))
    wait_until(lambda: all(electors(host) == 3 for host in hosts), "all decide about all", 30)
    return hosts


def electors(host: Host) -> int:
    return int(report(host)["Plait"]["Figures"]["Addresses"]["Electors"])


def test_the_dead_are_inherited_by_one_and_learn_of_it(lab: Lab) -> None:
    hosts = launched_with_electors(lab)
    dead = hosts[2]
    lost, kept = dead.container("lost"), dead.container("kept")
    address, other = dead.attach(lost), dead.attach(kept)
    kill(dead)
    wait_until(lambda: "h3" not in owners(hosts[0]) == owners(hosts[1]), "h3 has one heir", 90)
    assert sum(owners(hosts[0]).values()) == 256
    taker = hosts[0].container("taker")
    hosts[0].plait("attach", f"ip:{address}/24", taker.spec)

    dead.launch(hosts[0], extra=ON)
    told(dead, f"{lost.spec} has the address {address}, which went to peer", f"plait detach {address}/24", timeout=60)
    found = hosts[1].plait("ipam", "check", "--all", check=False)
    assert (found.status, f"the address {address} is that of" in found.stdout) == (1, True)
    dead.plait("detach", lost.spec)
    assert dead.attach(lost) not in (address, other), "it gives out again, and not what others have"
    wait_until(lambda: hosts[1].plait("ipam", "check", "--all", check=False).stdout == "", "all is well", 30)
    assert dead.attach(kept) == other, "what nobody else had is its own again"


def test_a_minority_gives_nothing_out_and_says_so(lab: Lab) -> None:
    hosts = launched_with_electors(lab)
    kill(hosts[1])
    kill(hosts[2])
    told(hosts[0], "no addresses are given out", "1 of the 3 peers", hosts[1].peer_name, timeout=60)
    done = hosts[0].plait("ipam", "reclaim", check=False)
    explained(done, 1)
    assert "not reclaimed" in done.stdout
    hosts[1].launch(hosts[0], extra=ON)
    wait_until(lambda: "no addresses" not in "".join(problems(hosts[0])), "it gives out again", 60)
    assert hosts[0].attach(hosts[0].container("b"))


def test_different_durations_are_named_and_all_are_looked_at(lab: Lab) -> None:
    one, two = lab.host("one"), lab.host("two")
    one.launch(extra=ON)
    two.launch(one, extra=(*ON[:3], "20s"))
    told(one, "--reclaim-after differs: 15 s here", f"{two.peer_name} 20 s", timeout=30)
    told(two, "--reclaim-after differs: 20 s here", f"{one.peer_name} 15 s", timeout=30)
    same = ("10.99.0.7/24", "10.99.0.7/24")
    for host, cidr in zip((one, two), same, strict=True):
        container = host.container("a")
        host.plait("attach", cidr, container.spec)
    done = one.plait("ipam", "check", "--all", check=False)
    assert (done.status, "the address 10.99.0.7 is that of" in done.stdout) == (1, True)
