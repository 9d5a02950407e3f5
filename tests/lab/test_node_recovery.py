"""What dies, is removed or fills up under a node: it is said, and put right as soon as it can be."""

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.node_lab import (
    changes,
    check_logs,
    client,
    explained,
    filled,
    kill,
    log,
    pid,
    problems,
    report,
    same,
    snapshot,
    tiny_disk,
    told,
    wait_for_neighbours,
    without_link,
)
from plait.host.netlink import Netlink
from plait.overlay.bridge import TAP
from plait.testing.lab import Host, Lab, wait_until
from plait.testing.lab.features import missing_features
from plait.testing.lab.hosts import Container


@dataclass
class Pair:
    """Two nodes with a container each; the first host is exposed, and calls the second."""

    one: Host
    other: Host
    here: Container
    there: Container

    def wait_until_they_meet(self) -> None:
        wait_until(lambda: self.here.ping(self.there, count=1).ok, "the containers meet", 20)
        wait_until(lambda: self.there.ping("10.32.0.100", count=1).ok, "the exposed host answers", 20)


@pytest.fixture(scope="module")
def shared() -> Iterator[Lab]:
    if missing := missing_features():
        pytest.skip("; ".join(missing))
    with Lab() as lab:
        yield lab
        check_logs(lab)


@pytest.fixture(scope="module")
def pair(shared: Lab) -> Pair:
    one, other = shared.host("one"), shared.host("other")
    other.launch()
    one.launch(other)
    one.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])  # else `expose` says that it is off
    pair = Pair(one, other, one.container("c1"), other.container("c2"))
    one.attach(pair.here, "10.32.0.1/12", "fd00::1/64")
    other.attach(pair.there, "10.32.0.2/12", "fd00::2/64")
    one.plait("expose", "10.32.0.100/12")
    pair.wait_until_they_meet()
    return pair


def test_a_killed_node_comes_back_as_it_was(pair: Pair) -> None:
    before = [snapshot(node) for node in (pair.one, pair.here)]
    names = [report(pair.one)["Router"][key] for key in ("Name", "Targets")]
    kill(pair.one)
    assert "not present" in pair.one.plait("status", check=False).stderr
    wait_until(lambda: TAP not in pair.one.run(["ip", "link"]).stdout, "its tap went with it")
    assert same(before[1], snapshot(pair.here))
    assert same(without_link(before[0], TAP), without_link(snapshot(pair.one), TAP))
    pair.one.plait("launch", "--nickname=one")  # neither its name nor its targets are said again
    assert [report(pair.one)["Router"][key] for key in ("Name", "Targets")] == names
    pair.wait_until_they_meet()
    after = snapshot(pair.one)
    assert same(without_link(before[0], TAP), without_link(after, TAP))
    assert after.count(f": {TAP}: ") == before[0].count(f": {TAP}: ")
    assert same(before[1], snapshot(pair.here))
    assert not problems(pair.one)


@pytest.fixture
def by_pump(shared: Lab) -> Pair:
    """Two nodes whose pumps carry the frames."""
    one, other = shared.host("one-pump"), shared.host("other-pump")
    other.launch(extra=["--no-fastdp"])
    one.launch(other, extra=["--no-fastdp"])
    pair = Pair(one, other, one.container("c3"), other.container("c4"))
    one.attach(pair.here, "10.32.0.3/12")
    other.attach(pair.there, "10.32.0.4/12")
    one.plait("expose", "10.32.0.100/12")
    pair.wait_until_they_meet()
    return pair


def test_a_killed_pump_is_replaced_and_tcp_survives(by_pump: Pair) -> None:
    pair = by_pump
    pump = report(pair.one)["Plait"]["Pump"]["pid"]
    results: list[int] = []
    stream = threading.Thread(
        target=lambda: results.append(pair.here.transfer(pair.there, 200_000_000).transferred_bytes)
    )
    stream.start()
    wait_until(lambda: report(pair.one)["Router"]["OverlayDiagnostics"]["sleeve"]["captured"] > 500, "it flows")
    os.kill(pump, signal.SIGKILL)
    assert stream.is_alive()
    told(pair.one, f"the pump (process {pump}) was killed by SIGKILL", "starts again by itself")
    wait_until(lambda: report(pair.one)["Plait"]["Pump"]["answers"] == "yes", "another pump works")
    state = report(pair.one)["Plait"]["Pump"]
    assert state["pid"] not in (pump, None)
    assert state["restarts"] == 1
    stream.join(60)
    assert results == [200_000_000]
    pair.wait_until_they_meet()


def test_what_other_tools_take_away_comes_back(pair: Pair) -> None:
    before = [snapshot(node) for node in (pair.one, pair.here)]
    pair.one.run(["nft", "flush", "ruleset"])
    pair.one.run(["ip", "link", "set", TAP, "nomaster"])
    told(pair.one, f"tap {TAP} was not in bridge weave: put it there")
    wait_until(lambda: not changes(before[0], snapshot(pair.one)), "all is as before")
    pair.wait_until_they_meet()
    pair.one.run(["ip", "link", "delete", "weave"])
    pair.one.run(["ip", "link", "delete", TAP])
    told(pair.one, "bridge weave was absent: made it")
    told(pair.one, f"the tap {TAP} was gone: made it again")
    pair.wait_until_they_meet()
    assert same(before[1], snapshot(pair.here))
    with Netlink(pair.one.path) as netlink:
        assert {port.name for port in netlink.ports("weave")} >= {TAP}
        assert [str(found.cidr) for found in netlink.addresses("weave") if found.cidr.version == 4] == [
            "10.32.0.100/12"
        ]
    assert "plait_expose" in pair.one.run(["nft", "list", "tables"]).stdout


def test_a_hundred_attaches_and_detaches_leave_nothing(pair: Pair) -> None:
    containers = [pair.one.container(f"h{number}") for number in range(4)]
    api = client(pair.one)
    process = Path("/proc", str(pid(pair.one)))

    def attach_and_detach() -> None:
        for number, container in enumerate(containers):
            api.call("attach", container=container.spec, cidrs=[f"10.33.0.{number + 1}/12", f"fd00::33:{number}/64"])
            api.call("detach", container=container.spec)

    attach_and_detach()
    before = [snapshot(node) for node in (pair.one, *containers)]
    open_files = len(os.listdir(process / "fd"))
    threads = len(os.listdir(process / "task"))
    for _ in range(25):
        attach_and_detach()
    for node, listing in zip((pair.one, *containers), before, strict=True):
        assert same(listing, snapshot(node))
    assert len(os.listdir(process / "fd")) <= open_files + 2  # our own connections
    # Python's pool of threads grows to its size as it is needed; one left by each operation would be 100.
    assert len(os.listdir(process / "task")) <= threads + 10
    assert report(pair.one)["Plait"]["Attached"] == 1


def test_a_disk_that_fills_up_while_the_node_runs(shared: Lab, pair: Pair) -> None:
    host = shared.host("full")
    state = host.directory / "state"
    with tiny_disk(state):
        host.launch()
        kept, refused = host.container("c1"), host.container("c2")
        host.attach(kept, "10.32.0.51/12")
        with filled(state):
            said = explained(host.plait("connect", pair.one.ip, check=False), 10, "not kept over a restart", str(state))
            assert len(said.splitlines()) == 1
            wait_for_neighbours(host, "one", "other")  # it is called all the same
            explained(host.plait("attach", "10.32.0.52/12", refused.spec, check=False), 10, str(state), "free")
            explained(host.plait("detach", kept.spec, check=False), 10, str(state), "free")
            explained(host.plait("expose", "10.32.0.53/12", check=False), 10, str(state), "free")
            assert any("no space left on the device" in problem for problem in problems(host))
            assert "ethwe" not in refused.run(["ip", "link"]).stdout
            wait_until(lambda: kept.ping(pair.there, count=1).ok, "what was attached works on")
        wait_until(lambda: not problems(host), "the list of targets is kept, now that it can be")
        assert "no space left on the device" in log(host)  # these lines waited
        kill(host)
        host.launch()
        assert report(host)["Router"]["Targets"] == [pair.one.ip]
        assert report(host)["Plait"]["Attached"] == 1
        host.plait("stop")
        check_logs(shared)
