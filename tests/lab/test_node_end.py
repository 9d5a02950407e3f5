"""How a node ends, what it leaves and what not, and what a service manager hears of it."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.node_lab import (
    PLAIT,
    check_logs,
    kill,
    log,
    problems,
    report,
    same,
    snapshot,
    wait_for_neighbours,
    without_link,
)
from plait.overlay.bridge import TAP
from plait.testing.lab import Host, Lab, wait_until
from plait.testing.lab.features import missing_features
from plait.testing.lab.hosts import Container

STATES = ("running", "stopped", "killed")


@pytest.fixture(scope="module")
def shared() -> Iterator[Lab]:
    if missing := missing_features():
        pytest.skip("; ".join(missing))
    with Lab() as lab:
        for name in ("peer", "stopping", *(f"reset-{state}" for state in STATES), "never", "service"):
            lab.host(name)  # at once, as addresses of IPv6 are probed for a second before anything is left alone
        yield lab
        check_logs(lab)


def find(lab: Lab, name: str) -> Host:
    return next(node for node in lab.nodes if isinstance(node, Host) and node.name == name)


@pytest.fixture(scope="module")
def peer(shared: Lab) -> Host:
    """A node that the others call."""
    peer = find(shared, "peer")
    peer.launch()
    return peer


def equip(host: Host, number: int) -> Container:
    """Attach a container and expose the host."""
    container = host.containers[0] if host.containers else host.container("c1")
    host.attach(container, f"10.32.0.{number}/12", f"fd00::{number}/64")
    host.plait("expose", f"10.32.1.{number}/12", f"fd00::1:{number}/64")
    return container


def test_stop_leaves_what_containers_have(shared: Lab, peer: Host) -> None:
    host = find(shared, "stopping")
    host.launch(peer)
    container = equip(host, 1)
    wait_for_neighbours(host, "peer")
    before = [snapshot(node) for node in (host, container)]
    assert host.plait("stop").stderr == ""
    assert same(without_link(before[0], TAP), without_link(snapshot(host), TAP))
    assert same(before[1], snapshot(container))
    assert container.ping("10.32.1.1", count=1).ok
    assert not os.listdir(f"{host.directory}/run")
    wait_until(lambda: "(stopping) at" in log(peer) and "ended: " in log(peer), "the peer notices")
    assert not problems(peer)  # a node that is stopped is no fault
    assert host.plait("stop").status == 0  # once more does no harm


@pytest.mark.parametrize("state", STATES)
def test_reset_leaves_nothing(shared: Lab, peer: Host, state: str) -> None:
    host = find(shared, f"reset-{state}")
    container = host.container("c1")
    before = [snapshot(node) for node in (host, container)]
    host.launch(peer)
    equip(host, 2)
    gone = host.container("c2")
    host.attach(gone, "10.32.0.12/12")
    if state == "stopped":
        host.plait("stop")
    elif state == "killed":
        kill(host)
    done = host.plait("reset")
    assert (done.stdout, done.stderr) == ("", "")
    for node, listing in zip((host, container), before, strict=True):
        assert same(listing, snapshot(node))
    assert "ethwe" not in gone.run(["ip", "link"]).stdout
    left = {path.name for name in ("run", "state") for path in Path(f"{host.directory}/{name}").iterdir()}
    assert left <= {"plait.lock"}
    if state == "running":
        host.plait("launch", "--nickname=again")
        assert report(host)["Router"]["Name"] != host.peer_name  # the name went, too
        assert not report(host)["Router"]["Targets"]


def test_reset_without_a_node_does_no_harm(shared: Lab) -> None:
    host = find(shared, "never")
    before = snapshot(host)
    done = host.plait("reset")
    assert (done.stdout, done.stderr) == ("", "")
    assert same(before, snapshot(host))


@contextmanager
def service_manager(path: Path) -> Iterator[socket.socket]:
    """The socket at which systemd listens to its services."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(20)
        yield listener


def test_a_service_manager_is_told(shared: Lab) -> None:
    host = find(shared, "service")
    path = host.directory / "notify"
    with service_manager(path) as listener:
        node = host.spawn(
            [*PLAIT, "daemon", "--name", host.peer_name],
            env={"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "100000"},
        )
        ready = listener.recv(4096).decode().splitlines()
        while ready == ["WATCHDOG=1"]:
            ready = listener.recv(4096).decode().splitlines()
        assert ready == ["READY=1", f"STATUS=node {host.peer_name} of 0 targets"]
        assert host.status_json()["Ready"]
        for _ in range(3):
            assert listener.recv(4096) == b"WATCHDOG=1"
        pump = report(host)["Plait"]["Pump"]["pid"]
        os.kill(pump, signal.SIGSTOP)
        drain(listener)
        assert report(host)["Plait"]["Pump"]["answers"] == "no"
        assert len(drain(listener)) <= 1  # one may have been on its way; it is none of health when no frames pass
        os.kill(pump, signal.SIGCONT)
        os.kill(node.pid, signal.SIGTERM)
        while listener.recv(4096) != b"STOPPING=1":
            pass
    assert node.wait() == 0
    assert "Traceback" not in node.output
    assert f" INFO plait: node {host.peer_name}" in node.output


def drain(listener: socket.socket) -> list[bytes]:
    """What waits now."""
    said: list[bytes] = []
    listener.setblocking(False)
    try:
        while True:
            said.append(listener.recv(4096))
    except BlockingIOError:
        return said
    finally:
        listener.settimeout(20)
