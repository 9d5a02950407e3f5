"""Metrics of real nodes: all of them are there, promtool accepts them, and no route tells the password."""

import os
import signal
from itertools import chain

import pytest

from lab.metrics_lab import names, value
from lab.node_lab import client, log, report, wait_for_neighbours
from lab.path_lab import PATIENCE, USER_SPACE, attach
from plait.api import metrics
from plait.api.routes import Routes
from plait.testing.lab import Lab, wait_until
from plait.testing.lab.hosts import Host
from plait.testing.promtool import lint
from unit.api.nodes import MemoryNode

PASSWORD = "open-sesame-and-nobody-sees-it"
RANGE = "--ipalloc-range=10.32.0.0/24"
# Where a program written in Go, or a careless one, shows its command line, its environment and its variables.
DEBUG = (
    *("/debug/pprof/", "/debug/pprof/cmdline", "/debug/vars", "/debug/requests", "/debug", "/env", "/config"),
    *("/plait/debug", "/plait/config"),
)


def services(host: Host) -> list[str]:
    return [RANGE, f"--dns-listen-address={host.ip}:53", "--resolv-conf="]


def test_a_node_with_all_services_has_all_metrics(lab: Lab) -> None:
    one, two = lab.host("h1"), lab.host("h2")
    one.launch(extra=services(one))
    two.launch(one, extra=services(two))
    here, there = one.container("c1"), two.container("c2")
    one.attach(here)
    address = two.attach(there).partition("/")[0]
    wait_until(lambda: here.ping(address, count=1).ok, "a ping")
    defined = {each.name for each in chain.from_iterable(metrics.GROUPS.values())}
    wait_until(lambda: defined <= names(one), "all metrics have samples")
    processes = {f"{prefix}{each}" for prefix in ("", "plait_pump_") for each in metrics.PROCESS_METRICS}
    assert names(one) == defined | processes
    peer = two.peer_name
    overlay = {"peer": peer, "overlay": "fastdp", "reason": "first_choice"}
    wait_until(lambda: value(one, "plait_connection_overlay", **overlay) == 1, "fastdp is in use")
    assert value(one, "plait_mesh_peer_info", peer=peer, nickname="h2") == 1
    assert value(one, "weave_ips", state="local-used") == 1
    sent = {"peer": peer, "overlay": "fastdp", "direction": "sent"}
    before = value(one, "plait_peer_frames_total", **sent)
    assert here.ping(address, count=5).ok
    after = value(one, "plait_peer_frames_total", **sent)
    assert before is not None
    assert after is not None
    assert after >= before + 5
    complaints = lint(client(one).text("/metrics").encode())
    if complaints is None:
        pytest.skip("promtool is missing: 'scripts/setup test' brings it")
    assert [line for line in complaints if not line.startswith("weave_")] == []


def test_a_fall_to_user_space_is_what_the_alert_looks_for(lab: Lab) -> None:
    one, two = lab.host("h1"), lab.host("h2")
    one.launch()
    two.launch(one)
    here, there = attach(one, two)
    peer = two.peer_name
    kernel = {"peer": peer, "overlay": "fastdp", "reason": "first_choice"}
    fallen = {"peer": peer, "overlay": "plait1", "reason": "better_unhealthy"}
    sent = {"peer": peer, "overlay": "plait1", "direction": "sent"}
    wait_until(lambda: value(one, "plait_connection_overlay", **kernel) == 1, "the kernel carries frames")
    before = value(one, "plait_connection_falls_total") or 0
    lab.cut(one, two, udp=[6784])
    wait_until(lambda: value(one, "plait_connection_overlay", **fallen) == 1, "user space carries frames", PATIENCE)
    assert (value(one, "plait_connection_falls_total") or 0) > before
    assert value(one, "plait_connection_established", peer=peer) == 1
    frames = value(one, "plait_peer_frames_total", **sent) or 0
    assert here.ping(there, count=3).ok
    wait_until(lambda: (value(one, "plait_peer_frames_total", **sent) or 0) >= frames + 3, "its frames are counted")
    lab.heal()
    wait_until(lambda: value(one, "plait_connection_overlay", **kernel) == 1, "the kernel carries them again", PATIENCE)


def test_a_pump_that_ends_is_counted(lab: Lab) -> None:
    one = lab.host("h1")
    one.launch(extra=USER_SPACE)
    assert (value(one, "plait_pump_up"), value(one, "plait_pump_restarts_total")) == (1, 0)
    os.kill(report(one)["Plait"]["Pump"]["pid"], signal.SIGKILL)
    wait_until(lambda: value(one, "plait_pump_restarts_total") == 1, "the restart is counted")
    wait_until(lambda: value(one, "plait_pump_up") == 1, "the next pump answers")
    wait_until(lambda: value(one, "plait_problems", kind="pump") == 1, "only that it ended is still a problem")


def test_nothing_that_a_node_answers_tells_its_password(lab: Lab) -> None:
    one, two = lab.host("h1"), lab.host("h2")
    one.launch(password=PASSWORD, extra=services(one))
    two.launch(one, password=PASSWORD, extra=services(two))
    wait_for_neighbours(one, "h2")
    assert value(one, "plait_connection_encrypted", peer=two.peer_name) == 1
    assert value(one, "plait_mesh_password") == 1
    # A password keeps frames out of the kernel: that is no failure, and must not alarm anybody.
    overlay = {"peer": two.peer_name, "overlay": "plait1", "reason": "encrypted"}
    wait_until(lambda: value(one, "plait_connection_overlay", **overlay) == 1, "the reason is the password")
    routes = {route.path for route in Routes(MemoryNode()).control() if route.method == "GET"}
    subs = {f"/status/{sub}" for sub in ("targets", "connections", "peers", "datapath", "dns", "ipam")}
    whole = {"/report?format=%7B%7Bjson%20.%7D%7D", "/report?format=%7B%7B.%7D%7D"}
    answered = 0
    for path in sorted({*routes, *subs, *whole, *DEBUG}):
        for accepted in ("application/json", "text/plain"):
            answer = client(one).request("GET", path, headers={"Accept": accepted})
            assert PASSWORD not in answer.body, path
            assert PASSWORD not in str(answer.headers), path
            answered += answer.status == 200
            assert (answer.status == 404) or path not in DEBUG
    assert answered > 2 * len(subs)
    assert PASSWORD not in log(one)
