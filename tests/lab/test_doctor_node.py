"""What `doctor` says beside nodes that run, about faults that are really there; and what is better after its cures."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

import pytest

from lab.fastdp_lab import connection, wait_for_overlay
from lab.path_lab import PATIENCE, attach, narrow
from plait.testing.lab import Host, Lab, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")
NEEDS_LEGACY = pytest.mark.skipif(shutil.which("iptables-legacy") is None, reason="needs the package iptables")
CLOSED = """table inet host {
  chain input {
    type filter hook input priority 0; policy accept;
    udp dport %s drop
  }
}
"""


def doctor(host: Host, *words: str) -> Any:
    """Ask on a host, by the command; findings, or what --fix and --undo print."""
    options = ["--run-dir", f"{host.directory}/run", "--state-dir", f"{host.directory}/state"]
    is_asked = not any(word in ("--fix", "--undo") for word in words)
    argv = [sys.executable, "-m", "plait", "doctor", *words, *options, *(["--json"] if is_asked else [])]
    done = host.run(argv, check=not is_asked)
    return json.loads(done.stdout) if is_asked else done.stdout


def subjects(host: Host, check: str) -> list[str]:
    return [finding["subject"] for finding in doctor(host, check)]


def comes(find: Callable[[], Any], what: str) -> Any:
    """Wait until something is found, and give it."""
    found: list[Any] = []

    def holds() -> bool:
        found[:] = [find()]
        return bool(found[0])

    wait_until(holds, what, PATIENCE)
    return found[0]


def pair(lab: Lab) -> tuple[Host, Host]:
    segment = lab.switch()
    one, other = lab.host("h1", on=[segment]), lab.host("h2", on=[segment])
    one.launch()
    other.launch(one)
    return one, other


def test_udp_that_the_other_hosts_firewall_drops(lab: Lab) -> None:
    one, other = pair(lab)
    wait_for_overlay(one, other, "fastdp")
    assert doctor(one, "one-way", "udp-blocked", "filtered-ports") == []
    other.run(["nft", "-f", "-"], input=CLOSED % 6784)
    (finding,) = comes(lambda: doctor(one, "one-way"), "the way that is dead is named")
    assert finding["subject"].startswith("h2 ")
    assert "the peer does not hear us" in finding["what"]
    assert "let UDP 6784 pass" in finding["cure"]
    assert subjects(other, "filtered-ports") == ["UDP 6784"]
    assert "udp dport 6784" in doctor(other, "--fix", "filtered-ports")
    assert subjects(other, "filtered-ports") == []
    wait_for_overlay(one, other, "fastdp")
    assert doctor(one, "one-way") == []
    doctor(other, "--undo", "filtered-ports")
    assert subjects(other, "filtered-ports") == ["UDP 6784"]


def test_tcp_without_udp(lab: Lab) -> None:
    segment = lab.switch()
    one, other = lab.host("h1", on=[segment]), lab.host("h2", on=[segment])
    for host in (one, other):
        host.run(["nft", "-f", "-"], input=CLOSED % "6783-6784")
    one.launch()
    other.launch(one)
    (finding,) = comes(lambda: doctor(one, "udp-blocked"), "that no overlay works is said")
    assert finding["subject"].startswith("h2 ")
    assert subjects(one, "filtered-ports") == ["UDP 6783", "UDP 6784"]


def test_a_path_that_is_narrower_than_the_interface(lab: Lab) -> None:
    one, other, _, _ = narrow(lab, icmp=False)
    one.launch()
    other.launch(one)
    attach(one, other)
    wait_until(lambda: connection(one, other).get("PathMtu") == 1400, "the path is known", PATIENCE)
    (finding,) = doctor(one, "mtu-black-hole")
    assert "takes packets of 1400 bytes, eth0 sends 1500" in finding["what"]
    assert finding["cure"].startswith("plait launch --mtu 1350 ")


@NEEDS_LEGACY
def test_forward_drop_of_legacy_iptables(lab: Lab) -> None:
    """An exposed network that Docker's policy cuts off in a place that the node cannot see."""
    segment = lab.switch()
    host, world = lab.host("h1", on=[segment]), lab.host("h2", on=[segment])
    host.launch()
    container = host.container("c")
    host.attach(container, "10.32.0.9/12")
    host.plait("expose", "10.32.0.1/12")
    host.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
    host.run(["ip", "route", "add", "default", "via", world.ip])
    world.run(["ip", "route", "add", "10.32.0.0/12", "via", host.ip])
    container.run(["ip", "route", "add", "default", "via", "10.32.0.1"])
    assert world.ping("10.32.0.9").ok
    assert doctor(host, "forward-drop", "forwarding") == []
    host.run(["iptables-legacy", "-P", "FORWARD", "DROP"])
    assert not world.ping("10.32.0.9").ok
    assert subjects(host, "forward-drop") == ["weave to eth0", "eth0 to weave"]
    doctor(host, "--fix", "forward-drop")
    assert world.ping("10.32.0.9").ok
    assert container.ping(world).ok
    doctor(host, "--undo", "forward-drop")
    assert not world.ping("10.32.0.9").ok
    host.run(["sysctl", "-qw", "net.ipv4.ip_forward=0"])
    assert subjects(host, "forwarding") == ["ip_forward"]
