"""Nodes that cannot start, or find something amiss: one sentence with the cure, the right exit code, nothing left."""

import socket
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.node_lab import (
    PLAIT,
    check_logs,
    explained,
    filled,
    hidden_from,
    log,
    problems,
    same,
    snapshot,
    tiny_disk,
    told,
)
from plait.host.netlink import Netlink
from plait.testing.lab import Host, Lab
from plait.testing.lab.features import missing_features

AS_NOBODY = """
import os, sys
import plait.cli.main, plait.daemon, plait.startup
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(plait.cli.main.run(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Lab]:
    """For tests after which everything is as before."""
    if missing := missing_features():
        pytest.skip("; ".join(missing))
    with Lab() as lab:
        yield lab
        check_logs(lab)


@pytest.fixture(scope="module")
def bare(shared: Lab) -> Host:
    """A host on which no launch succeeds."""
    return shared.host("bare")


@pytest.fixture(scope="module")
def before(bare: Host) -> str:
    return snapshot(bare)


@pytest.fixture(scope="module")
def running(shared: Lab) -> Host:
    """A host with a node that tests leave alone."""
    host = shared.host("running")
    host.launch()
    return host


@pytest.fixture
def fresh(shared: Lab) -> Iterator[Host]:
    """A host for one test that launches."""
    host = shared.host(f"f{len(shared.nodes)}")
    yield host
    host.plait("stop")


# What is taken


@pytest.mark.parametrize(
    ("kind", "address", "parts"),
    [
        (socket.SOCK_STREAM, ("", 6783), ("TCP", "6783", "--port")),
        (socket.SOCK_DGRAM, ("", 6783), ("UDP port 6783", "--port")),
        (socket.SOCK_STREAM, ("127.0.0.1", 6784), ("127.0.0.1:6784", "--http-addr")),
        (socket.SOCK_STREAM, ("127.0.0.1", 6782), ("127.0.0.1:6782", "--status-addr")),
    ],
    ids=["tcp", "udp", "http", "status"],
)
def test_a_port_in_use(
    bare: Host, before: str, kind: socket.SocketKind, address: tuple[str, int], parts: tuple[str, ...]
) -> None:
    with bare.entered(), socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(address)
        if kind is socket.SOCK_STREAM:
            taken.listen()
        explained(bare.plait("launch", check=False), 6, *parts)
    assert same(before, snapshot(bare))


def test_the_same_in_the_foreground(bare: Host, before: str) -> None:
    with bare.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 6783))
        said = explained(bare.plait("daemon", check=False), 6, "UDP port 6783", "--port")
    assert len(said.splitlines()) == 1
    assert same(before, snapshot(bare))


@pytest.mark.parametrize(
    ("name", "status", "parts"),
    [
        ("weave", 6, ("weave", "veth, not a bridge", "ip link delete weave", "--weave-bridge")),
        ("vethwe-sleeve", 11, ("vethwe-sleeve", "another kind", "ip link delete vethwe-sleeve")),
    ],
)
def test_the_name_of_a_link_is_taken_by_another_kind(
    bare: Host, before: str, name: str, status: int, parts: tuple[str, ...]
) -> None:
    bare.run(["ip", "link", "add", name, "type", "veth", "peer", "other"])
    try:
        explained(bare.plait("launch", check=False), status, *parts)
    finally:
        bare.run(["ip", "link", "delete", name])
    assert same(before, snapshot(bare))


def test_a_second_node_here(running: Host) -> None:
    explained(running.plait("launch", check=False), 3, "already running", "plait stop")
    explained(running.plait("daemon", check=False), 10, "in use by the node with process id", "--state-dir")
    elsewhere = (f"--state-dir={running.directory}/s2", f"--run-dir={running.directory}/r2")
    explained(running.plait("launch", *elsewhere, check=False), 6, "UDP port 6783", "--port")


# What is missing


@pytest.mark.parametrize("words", [["launch"], ["status"], ["attach", "10.32.0.1/12", "1"], ["stop"], ["reset"]])
def test_without_root(running: Host, words: list[str]) -> None:
    done = running.run([sys.executable, "-c", AS_NOBODY, *words], check=False)
    explained(done, 5, "root", "sudo")
    assert running.status_json()["Ready"]


def test_without_root_and_without_a_node(bare: Host) -> None:
    explained(bare.run([sys.executable, "-c", AS_NOBODY, "launch"], check=False), 5, "root", "sudo")


def test_without_tun(bare: Host, before: str) -> None:
    explained(hidden_from(bare, "/dev/net", [*PLAIT, "launch"]), 8, "/dev/net/tun", "modprobe tun", "--device")
    assert same(before, snapshot(bare))


# What was kept


def test_a_damaged_state_file(fresh: Host) -> None:
    state = fresh.directory / "state"
    state.mkdir()
    (state / "plait.db").write_bytes(b"\x00no state of ours" * 500)
    done = fresh.plait("launch")
    kept = list(state.glob("plait.db.damaged-*"))
    assert len(kept) == 1
    assert done.stderr.startswith("warning: ")
    assert str(kept[0]) in done.stderr
    told(fresh, "was damaged", str(kept[0]), "attach")
    assert fresh.plait("status").stdout.count("Problem: ") == 1


def test_a_state_file_of_a_newer_version(fresh: Host) -> None:
    fresh.launch()
    fresh.plait("stop")
    database = Path(f"{fresh.directory}/state/plait.db")
    with ExitStack() as stack:
        state = sqlite3.connect(database)
        stack.callback(state.close)
        state.execute("PRAGMA user_version = 99")
    content = database.read_bytes()
    done = fresh.plait("launch", check=False)
    explained(done, 10, str(database), "newer plait (schema 99", "move the file away")
    assert database.read_bytes() == content


@pytest.mark.parametrize("spare", [0, 8192], ids=["full", "room-for-a-line"])
def test_a_full_disk(bare: Host, before: str, spare: int) -> None:
    state = bare.directory / "full"
    with tiny_disk(state), filled(state, spare):
        done = bare.plait("launch", f"--state-dir={state}", check=False)
        explained(done, 10, str(state), "o space left on", "free", "--state-dir")
    assert same(before, snapshot(bare))


def test_a_run_directory_that_cannot_be(bare: Host, before: str) -> None:
    (bare.directory / "file").write_text("")
    done = bare.plait("launch", f"--run-dir={bare.directory}/file/run", check=False)
    explained(done, 10, f"{bare.directory}/file/run", "--run-dir")
    assert same(before, snapshot(bare))


# What was said


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--port", "0"], "--port 0"),
        (["--trusted-subnets", "10.0.0.0/99"], "10.0.0.0/99"),
        (["--no-such-flag"], "--no-such-flag"),
        (["10.99.0.1:port"], "10.99.0.1:port"),
    ],
)
def test_bad_flags(bare: Host, words: list[str], part: str) -> None:
    explained(bare.plait("daemon", *words, check=False), 125, part)


def test_the_address_to_bind_is_not_ours(bare: Host, before: str) -> None:
    explained(bare.plait("launch", "--host=10.99.7.7", check=False), 1, "10.99.7.7", "--host")
    assert same(before, snapshot(bare))


def test_a_name_without_an_address_and_our_own_address(fresh: Host) -> None:
    done = fresh.plait("launch", "no.such.host.invalid", fresh.ip)
    assert "warning: lookup no.such.host.invalid: " in done.stderr
    assert f"warning: the target {fresh.ip} is this node's own address" in done.stderr
    told(fresh, "lookup no.such.host.invalid", "plait forget no.such.host.invalid")
    told(fresh, f"the target {fresh.ip} is this node's own address", f"'plait forget {fresh.ip}'")
    assert sorted(fresh.plait("status", "targets").stdout.split()) == [fresh.ip, "no.such.host.invalid"]
    fresh.plait("stop")
    fresh.plait("launch")  # both were kept
    told(fresh, "lookup no.such.host.invalid")
    fresh.plait("forget", "no.such.host.invalid", fresh.ip)
    assert problems(fresh) == []


def test_an_address_that_overlaps_a_route_of_the_host(fresh: Host) -> None:
    fresh.launch()
    container = fresh.container("c1")
    done = fresh.plait("attach", "10.99.0.77/16", container.spec)
    assert done.stdout == "10.99.0.77\n"
    assert "warning: Address 10.99.0.77 overlaps with existing route 10.99.0.0/24 on host (device eth0)" in done.stderr
    told(fresh, "Address 10.99.0.77 overlaps with existing route 10.99.0.0/24 on host")
    with Netlink(container.path) as inside:
        assert inside.link("ethwe") is not None


def test_what_a_launch_says_is_in_the_log_but_no_password(fresh: Host) -> None:
    fresh.launch(password="do not tell", extra=["--log-level=debug"])
    assert "launching: plait daemon " in log(fresh)
    assert "--log-level=debug" in log(fresh)
    assert "do not tell" not in log(fresh)
