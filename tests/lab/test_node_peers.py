"""Peers that do not fit, strangers and limits: each is named with its cure, and the node lives on."""

import os
import random
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.node_lab import (
    check_logs,
    client,
    connections,
    established,
    log,
    pid,
    problems,
    report,
    told,
    wait_for_neighbours,
)
from plait.testing.lab import Host, Lab, wait_until
from plait.testing.lab.features import missing_features

PASSWORD = "correct horse"
PORT = 6783


@pytest.fixture(scope="module")
def shared() -> Iterator[Lab]:
    if missing := missing_features():
        pytest.skip("; ".join(missing))
    with Lab() as lab:
        yield lab
        check_logs(lab)


@pytest.fixture(scope="module")
def hub(shared: Lab) -> Host:
    """A node with a password, which trusts the underlay."""
    hub = shared.host("hub")
    hub.launch(password=PASSWORD, extra=["--trusted-subnets=10.99.0.0/24", "--log-level=debug"])
    return hub


@pytest.fixture(scope="module")
def friend(shared: Lab, hub: Host) -> Host:
    """A peer of the hub, which trusts nobody."""
    friend = shared.host("friend")
    friend.launch(hub, password=PASSWORD)
    wait_for_neighbours(friend, "hub")
    return friend


@contextmanager
def answering(host: Host, answer: bytes) -> Iterator[None]:
    """A TCP server in the place of a node: it says one thing to whoever calls."""
    with host.entered():
        listener = socket.create_server(("", PORT))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # the listener was shut down
            with connection:
                connection.sendall(answer)
                connection.settimeout(5)
                try:
                    while connection.recv(4096):
                        pass
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def say(host: Host, to: Host, *pieces: bytes) -> None:
    """Connect to a node, say this if anything, and wait until it hangs up."""
    with host.entered(), socket.socket() as caller:
        caller.settimeout(5)
        caller.connect((to.ip, PORT))
        try:
            for piece in pieces:
                caller.sendall(piece)
            while pieces and caller.recv(65536):
                pass
        except (ConnectionError, TimeoutError):
            pass  # it would not hear more


def still_works(one: Host, other: Host) -> None:
    """Both nodes live and their frames pass."""
    for host in (one, other):
        if not host.containers:
            number = 1 + (host is other)
            host.attach(host.container("c"), f"10.32.0.{number}/12")
    wait_until(lambda: one.containers[0].ping(other.containers[0], count=1).ok, "frames pass")


# Peers that do not fit


def test_another_password(shared: Lab, hub: Host) -> None:
    other = shared.host("other")
    other.launch(hub, password="wrong horse")
    for here, there in ((hub, other), (other, hub)):
        told(here, f"no connection with {there.ip}: ", "password", "WEAVE_PASSWORD")
    assert "password" in connections(other)[f"{hub.ip}:{PORT}"]["Info"]
    other.plait("stop")
    other.launch(hub, password=PASSWORD)
    wait_for_neighbours(other, "hub")
    assert not any("password" in problem for host in (hub, other) for problem in problems(host))
    other.plait("stop")


def test_a_password_on_one_side_only(shared: Lab, hub: Host) -> None:
    open_one = shared.host("open")
    open_one.launch(hub)
    told(hub, f"no connection with {open_one.ip}: ", "no password but this node does", "WEAVE_PASSWORD")
    told(open_one, f"no connection with {hub.ip}: ", "has a password but this node does not", "WEAVE_PASSWORD")
    open_one.plait("stop")


def test_the_same_name_twice(shared: Lab, hub: Host) -> None:
    clone = shared.host("clone")
    clone.launch(hub, name=hub.peer_name, password=PASSWORD)
    for here, there in ((hub, clone), (clone, hub)):
        told(here, "peer names collision", f"{there.name} at {there.ip}", hub.peer_name, "plait reset", "--name")
    assert connections(clone)[f"{hub.ip}:{PORT}"]["Info"].endswith("retry: never")
    clone.plait("stop")


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ("no Weave or plait peer", "HTTP/1.1 400", "address and the port")),
        (b"weave\x01\x01\x00", ("version 1 of the mesh protocol", "upgrade it to Weave Net 2 or plait")),
        (b"weave\x03\x04\x00", ("versions 3 to 4", "upgrade this node")),
        (b"weave\x02\x02\x09", ("encryption flag 9", "must be 0 or 1")),
    ],
    ids=["http", "protocol-1", "protocol-3", "bad-flag"],
)
def test_a_target_that_is_no_peer(shared: Lab, hub: Host, answer: bytes, parts: tuple[str, ...]) -> None:
    server = shared.host(f"s{len(shared.nodes)}")
    with answering(server, answer):
        hub.plait("connect", server.ip)
        told(hub, f"no connection with {server.ip}: ", *parts)
        wait_until(lambda: parts[0] in connections(hub)[f"{server.ip}:{PORT}"]["Info"], "the target's line says it")
    hub.plait("forget", server.ip)


def test_our_own_address_as_target(hub: Host) -> None:
    done = hub.plait("connect", hub.ip)
    assert done.stderr == f"warning: the target {hub.ip} is this node's own address, so it is not called\n"
    told(hub, f"the target {hub.ip} is this node's own address", f"plait forget {hub.ip}")
    assert "cannot connect to ourself" in connections(hub)[f"{hub.ip}:{PORT}"]["Info"]
    hub.plait("forget", hub.ip)
    assert not any("own address" in problem for problem in problems(hub))


def test_a_name_that_nobody_knows(hub: Host) -> None:
    done = hub.plait("connect", "no.such.host.invalid", "10.99.0.250", check=False)
    assert (done.status, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("lookup no.such.host.invalid: ")
    assert report(hub)["Router"]["Targets"] == ["10.99.0.250"]
    hub.plait("forget", "10.99.0.250")


# Strangers


def test_garbage_on_the_control_port(shared: Lab, hub: Host, friend: Host) -> None:
    stranger = shared.host("stranger")
    rng = random.Random(1)
    say(stranger, hub)
    assert not any(stranger.ip in problem for problem in problems(hub))  # it only looked whether the port is open
    for _ in range(5):
        say(stranger, hub, rng.randbytes(100_000))
    told(hub, f"no connection with {stranger.ip}: ", "no Weave or plait peer")
    say(stranger, hub, b"weave\x02\x02\x01", rng.randbytes(100_000))
    say(stranger, hub, b"weave\x02\x02\x01", bytes(32))
    say(stranger, friend, b"weave\x02\x02\x01" + rng.randbytes(32), b"\xff\xff\xff\xff", rng.randbytes(10_000))
    assert len([line for line in log(hub).splitlines() if stranger.ip in line]) == 1
    still_works(hub, friend)


def test_garbage_on_the_frames_port(shared: Lab, hub: Host, friend: Host) -> None:
    still_works(hub, friend)
    before = report(hub)["Router"]["OverlayDiagnostics"]["sleeve"]
    rng = random.Random(2)
    names = [bytes.fromhex(name.replace(":", "")) for name in (friend.peer_name, hub.peer_name, "00:00:00:00:00:00")]
    with friend.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
        for number in range(600):
            body = rng.randbytes(rng.choice((0, 1, 5, 8, 20, 100, 1400)))
            caller.sendto(names[number % 3] + body if number % 4 else body, (hub.ip, PORT))

    def refused() -> int:
        now = report(hub)["Router"]["OverlayDiagnostics"]["sleeve"]
        return sum(now[name] - before[name] for name in ("malformed", "forged", "unknown_hop"))

    wait_until(lambda: refused() == 600, "all garbage is counted")
    still_works(hub, friend)
    assert report(hub)["Plait"]["Pump"]["restarts"] == 0


def test_a_pump_killed_under_encryption_gets_new_keys_on_the_same_connection(hub: Host, friend: Host) -> None:
    still_works(hub, friend)
    before = [each["EstablishedSince"] for each in report(friend)["Plait"]["Connections"] if each["Encrypted"]]
    os.kill(report(hub)["Plait"]["Pump"]["pid"], signal.SIGKILL)
    told(hub, "the pump (process", "was killed by SIGKILL", "starts again by itself")
    wait_for_neighbours(friend, "hub")
    still_works(hub, friend)
    after = [each["EstablishedSince"] for each in report(friend)["Plait"]["Connections"] if each["Encrypted"]]
    assert after == before
    assert report(hub)["Router"]["OverlayDiagnostics"]["sleeve"]["replayed"] == 0


# Limits, discovery, trust


def test_no_discovery_and_a_limit_of_connections(shared: Lab) -> None:
    left, middle, right = (shared.host(name) for name in ("left", "middle", "right"))
    left.launch(extra=["--no-discovery", "--conn-limit=1"])
    middle.launch(left, extra=["--no-discovery"])
    right.launch(middle, extra=["--no-discovery"])
    for host, number in ((left, 1), (right, 2)):
        host.attach(host.container("c"), f"10.32.0.{number}/12")
    wait_until(lambda: left.containers[0].ping(right.containers[0], count=1).ok, "the middle relays")
    assert [established(host) for host in (left, middle, right)] == [{"middle"}, {"left", "right"}, {"middle"}]
    assert "PeerDiscovery: disabled" in left.plait("status").stdout
    right.plait("connect", left.ip)
    told(left, "connection limit reached (1)", f"right at {right.ip}", "--conn-limit")
    assert established(left) == {"middle"}


def test_trusted_subnets(shared: Lab, hub: Host, friend: Host) -> None:
    trusting = shared.host("trusting")
    trusting.launch(hub, password=PASSWORD, extra=["--trusted-subnets=10.99.0.0/24"])
    wait_for_neighbours(trusting, "hub", "friend")
    for ours in report(trusting)["Plait"]["Connections"]:
        assert ours["Encrypted"] == (ours["NickName"] == "friend")
    lines = [line.split() for line in trusting.plait("status", "connections").stdout.splitlines()]
    assert sorted(words[3] for words in lines) == ["encrypted", "unencrypted"]
    assert "TrustedSubnets: 10.99.0.0/24" in trusting.plait("status").stdout
    trusting.attach(trusting.container("c"), "10.32.0.9/12")
    still_works(hub, friend)
    still_works(hub, trusting)
    still_works(friend, trusting)
    trusting.plait("stop")


def test_the_password_is_nowhere_to_be_seen(hub: Host, friend: Host) -> None:
    node, pump = pid(hub), report(hub)["Plait"]["Pump"]["pid"]
    seen = [Path("/proc", str(process), "cmdline").read_text() for process in (node, pump)]
    assert all("plait" in words for words in seen)
    seen += [log(hub), log(friend)]
    seen += [client(hub).text(path) for path in ("/status", "/status/peers", "/status/connections", "/metrics")]
    seen += [hub.plait("report").stdout, str(os.listdir(hub.directory))]
    assert not any(PASSWORD in text or PASSWORD.replace(" ", "+") in text for text in seen)
    state = Path(f"{hub.directory}/state/plait.db").read_bytes()
    assert PASSWORD.encode() not in state
