"""What a node says of itself and its peers while something is broken: no dead path is called ready."""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lab.fastdp_lab import mac_of, wait_for_overlay
from lab.node_lab import client, log, report, wait_for_neighbours
from lab.path_lab import USER_SPACE
from plait.testing.lab import Host, Lab, wait_until

WAYS = pytest.mark.parametrize("extra", [(), USER_SPACE], ids=["kernel", "user space"])
PATIENCE = 30.0
"""Seconds for what takes less than ten on an idle machine."""


def health(host: Host, route: str = "/health") -> tuple[int, dict[str, Any]]:
    answer = client(host).request("GET", route)
    return answer.status, json.loads(answer.body)


def is_ready(host: Host) -> bool:
    return health(host, "/ready")[0] == 200


def happened(host: Host, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(host.plait("events", "--json", *words).stdout)
    return found


def kinds(host: Host) -> list[str]:
    return [event["Kind"] for event in happened(host)]


def wait_until_all_is_well(host: Host) -> None:
    wait_until(lambda: health(host)[1]["State"] == "ok", f"all is well at {host.name}; {health(host)}", PATIENCE)


def pair(lab: Lab, *extra: str) -> tuple[Host, Host]:
    one, other = lab.host("h1"), lab.host("h2")
    one.launch(extra=extra)
    other.launch(one, extra=extra)
    wait_for_neighbours(one, "h2")
    for host in (one, other):
        wait_until_all_is_well(host)
    return one, other


@WAYS
def test_udp_that_is_blocked_one_way_is_no_ready_path(lab: Lab, extra: tuple[str, ...]) -> None:
    one, other = pair(lab, *extra)
    assert is_ready(one)
    assert is_ready(other)
    assert "\n         Health: ok\n" in client(one).text("/status")
    lab.cut(one, other, one_way=True, udp=(6783, 6784))
    for host in (one, other):
        wait_until(lambda host=host: not is_ready(host), f"{host.name} is not ready", PATIENCE)  # type: ignore[misc]
    # The mesh's connections stand again and again meanwhile, as TCP passes: none of that is taken for a path.
    until = time.monotonic() + 12.0
    while time.monotonic() < until:
        assert not is_ready(one)
        assert not is_ready(other)
        time.sleep(0.5)
    code, found = health(one)
    assert (code, found["State"]) == (503, "failing")
    assert "no frame reaches any" in found["Faults"][0]["What"]
    lab.heal()
    wait_until(lambda: is_ready(one) and is_ready(other), "both are ready again", 2 * PATIENCE)


@WAYS
def test_a_pump_that_hangs_is_said_at_once(lab: Lab, extra: tuple[str, ...]) -> None:
    one, _ = pair(lab, *extra)
    pump = report(one)["Plait"]["Pump"]["pid"]
    os.kill(pump, signal.SIGSTOP)
    code, found = health(one)
    assert f"the pump (process {pump}) does not answer" in found["Faults"][0]["What"]
    assert found["Ready"] == (not extra), "the kernel carries all frames, or nobody does"
    assert code == (503 if extra else 200)
    wait_until(lambda: report(one)["Plait"]["Pump"]["pid"] not in (pump, None), "another pump", PATIENCE)
    wait_until(lambda: health(one)[1]["State"] == "ok", "all is well again", PATIENCE)
    assert "pump_restarted" in kinds(one)


def test_a_bridge_that_is_gone_is_a_fault_until_it_is_mended(lab: Lab) -> None:
    one, _ = pair(lab)
    one.run(["ip", "link", "delete", "weave"])
    code, found = health(one)
    assert code == 503
    assert "bridge weave is gone" in found["Faults"][0]["What"]
    wait_until(lambda: is_ready(one), "the bridge is made again", PATIENCE)


def test_a_task_that_dies_is_told_of_and_started_again(lab: Lab) -> None:
    one, other = lab.host("h1"), lab.host("h2")
    other.launch()
    script = (
        "import asyncio, sys\n"
        "from plait.overlay.manager import OverlayManager\n"
        "real, lives = OverlayManager.watch_interfaces, []\n"
        "async def dies(self):\n"
        "    lives.append(1)\n"
        "    if len(lives) == 1:\n"
        "        await asyncio.sleep(1)\n"
        "        raise RuntimeError('planted')\n"
        "    await real(self)\n"
        "OverlayManager.watch_interfaces = dies\n"
        "from plait.cli.main import run\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    words = ["daemon", f"--run-dir={one.directory}/run", f"--state-dir={one.directory}/state", "--nickname=h1"]
    one.spawn([sys.executable, "-c", script, *words, other.ip])
    wait_until(lambda: _has(one, "task_restarted"), "the task lives again", PATIENCE)
    problems = [each["What"] for each in report(one)["Plait"]["Problems"]]
    assert any("'interfaces' died (RuntimeError: planted)" in what for what in problems)
    wait_until(lambda: is_ready(one), "the node is ready", PATIENCE)
    wait_for_neighbours(other, "h1")


def _is_datagram_of(frame: bytes, sender: bytes) -> bool:
    """Whether it is UDP over IPv4, on a port of plait, from this MAC address."""
    is_udp = frame[6:12] == sender and frame[12:14] == b"\x08\x00" and frame[23] == socket.IPPROTO_UDP
    return is_udp and int.from_bytes(frame[36:38], "big") in (6783, 6784)


def _has(host: Host, kind: str) -> bool:
    return Path(f"{host.directory}/run/plait.sock").exists() and kind in kinds(host)


def is_fall_to_plait1(event: dict[str, Any]) -> bool:
    why = "(h2) go by plait1: plait1 is used because fastdp is unhealthy"
    return event["Kind"] == "overlay_changed" and why in event["What"]


def test_what_happens_is_kept_and_can_be_followed(lab: Lab) -> None:
    one, other = pair(lab)
    wanted = {"node_started", "peer_joined", "connection_up", "mtu_changed"}
    wait_until(lambda: wanted <= set(kinds(one)), "all that a new peer brings is told", PATIENCE)
    # Which overlay is established first is chance, so the change is made.
    for near, far in ((one, other), (other, one)):
        wait_for_overlay(near, far, "fastdp")
    lab.cut(one, other, udp=(6784,))
    wait_until(lambda: any(map(is_fall_to_plait1, happened(one))), "the change of overlay is told", PATIENCE)
    assert {event["Nickname"] for event in happened(one, "--peer", "h2")} <= {"h2", ""}
    assert happened(one, "--since", "0s") == []
    words = ["events", "--follow", "--run-dir", f"{one.directory}/run"]
    follower = one.spawn([sys.executable, "-u", "-m", "plait", *words])
    wait_until(lambda: "is ready on port" in follower.output, "the follower has begun", PATIENCE)
    other.plait("stop")
    wait_until(lambda: "peer_left" in kinds(one), "the peer is gone", PATIENCE)
    wait_until(lambda: "left the mesh" in follower.output, "who follows hears of it", PATIENCE)


@WAYS
def test_an_idle_pair_says_less_than_a_kilobit_a_second(lab: Lab, extra: tuple[str, ...]) -> None:
    one, _ = pair(lab, *extra)
    rates: list[float] = []

    def is_quiet() -> bool:
        """Ten seconds of all datagrams of ours, with their Ethernet headers; TCP is the mesh's."""
        with one.capture("eth0") as capture:
            began = time.monotonic()
            time.sleep(10.0)
            sent = sum(len(frame) for frame in capture.frames() if _is_datagram_of(frame, mac_of(one, "eth0")))
            rates.append(8 * sent / (time.monotonic() - began))
        return rates[-1] < 1000

    wait_until(is_quiet, f"all that is sent to a peer is less than 1 kbit/s: {rates}", 90.0)


def test_the_log_can_be_json_and_has_the_event(lab: Lab) -> None:
    one = lab.host("h1")
    one.launch(extra=("--log-format", "json"))
    lines = [json.loads(line) for line in log(one).splitlines()]
    assert all({"ts", "level", "logger", "message"} <= line.keys() for line in lines)
    assert "node_started" in [line.get("event") for line in lines]


@WAYS
def test_the_watchdog_is_fed_while_frames_can_move_and_not_by_a_timer(lab: Lab, extra: tuple[str, ...]) -> None:
    one = lab.host("h1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{one.directory}/notify")
        manager.setblocking(False)
        words = [f"--run-dir={one.directory}/run", f"--state-dir={one.directory}/state", "--nickname=h1", *extra]
        environment = {"NOTIFY_SOCKET": f"{one.directory}/notify", "WATCHDOG_USEC": "2000000"}
        one.spawn([sys.executable, "-m", "plait", "daemon", *words], environment)
        wait_until(lambda: b"READY=1" in _heard(manager), "the node is ready", PATIENCE)
        wait_until(lambda: b"WATCHDOG=1" in _heard(manager), "the watchdog is fed", PATIENCE)
        if extra:
            _starves(one, manager)
        else:
            one.run(["ip", "link", "delete", "weave"])
            assert any("bridge weave is gone" in fault["What"] for fault in health(one)[1]["Faults"])
        wait_until(lambda: b"WATCHDOG=1" in _heard(manager), "it is fed again", PATIENCE)


def _starves(host: Host, manager: socket.socket) -> None:
    """While the pump that carries all frames hangs nothing feeds the watchdog."""
    pump = report(host)["Plait"]["Pump"]["pid"]
    os.kill(pump, signal.SIGSTOP)
    assert health(host)[0] == 503
    _heard(manager)
    while Path(f"/proc/{pump}").exists() and _state(pump) == "T":
        assert b"WATCHDOG=1" not in _heard(manager)
        time.sleep(0.1)


def _state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _heard(manager: socket.socket) -> bytes:
    """What came since the last call."""
    heard = b""
    while True:
        try:
            heard += manager.recv(1000)
        except BlockingIOError:
            return heard
