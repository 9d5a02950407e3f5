"""Cures that `doctor` applies and takes back, in the firewalls of a namespace; and what it reads of them there."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from plait.doctor import facts
from plait.doctor.check import Result
from plait.doctor.checks import CHECKS
from plait.doctor.examine import examine
from plait.doctor.fixer import Fixer
from plait.doctor.live import Live
from plait.errors import PlaitError
from plait.host import accepts, firewall, netns, nftables
from plait.host.accepts import Accept

PROGRAMS = ("iptables-legacy", "iptables-nft", "iptables-nft-save", "ip")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces"),
    pytest.mark.skipif(nftables.missing() is not None, reason="needs libnftables"),
    pytest.mark.skipif(not all(map(shutil.which, PROGRAMS)), reason="needs the package iptables, both backends"),
]
NATIVE = """table inet host {
  chain input {
    type filter hook input priority 0; policy drop;
    ct state established,related accept
    iifname "lo" accept
    tcp dport 22 accept
  }
}
"""
EXPOSED = facts.Node(name="a1", version="1", exposed=["10.32.0.1/12"])


@pytest.fixture(autouse=True)
def _inside() -> Iterator[None]:
    name = f"plait-fix-{os.getpid()}"
    path = netns.create(name)
    try:
        with netns.entered(path):
            run("ip link add eth0 type veth peer name other")
            run("ip link set eth0 up")
            run("ip address add 192.168.5.2/24 dev eth0")
            run("ip route add default via 192.168.5.1")
            yield
    finally:
        netns.delete(name)


def run(command: str) -> str:
    return subprocess.run(command.split(), check=True, capture_output=True, text=True).stdout


def iptables(backend: str, *commands: str) -> None:
    for command in commands:
        run(f"iptables-{backend} {command}")


def found(name: str, node: facts.Node | None = None) -> list[Result]:
    live = Live(lambda: node, lambda: None)
    return examine(live, [check for check in CHECKS if check.name == name])


def closed(backend: str) -> None:
    """A host's firewall that lets in answers and ssh."""
    if backend == "native":
        nftables.run(NATIVE)
        return
    iptables(
        backend,
        "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A INPUT -p tcp -m multiport --dports 22,80 -j ACCEPT",
        "-P INPUT DROP",
    )


@pytest.mark.parametrize("backend", ["legacy", "nft", "native"])
def test_ports_are_opened_and_closed_again(backend: str, tmp_path: Path) -> None:
    closed(backend)
    before = [run("nft list ruleset"), run("iptables-legacy-save -t filter") if backend == "legacy" else ""]
    results = found("filtered-ports")
    assert sorted(result.finding.subject for result in results) == ["TCP 6783", "UDP 6783", "UDP 6784"]
    assert {result.certainty for result in results} == {"certain"}
    done = Fixer(tmp_path).apply("filtered-ports", results)
    assert all(line.endswith("(was: absent)") for line in done)
    assert found("filtered-ports") == []
    if backend == "nft":
        run("iptables-nft -S INPUT")  # its users must go on understanding the chain
    Fixer(tmp_path).undo("filtered-ports")
    assert len(found("filtered-ports")) == 3
    after = [run("nft list ruleset"), run("iptables-legacy-save -t filter") if backend == "legacy" else ""]
    assert [stripped(text) for text in after] == [stripped(text) for text in before]


def stripped(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_a_cure_twice_is_one_rule(tmp_path: Path) -> None:
    closed("native")
    results = found("filtered-ports")
    Fixer(tmp_path).apply("filtered-ports", results)
    Fixer(tmp_path).apply("filtered-ports", results)
    assert run("nft list ruleset").count("udp dport 6784 counter") == 1


def test_the_command_that_is_shown_does_the_same() -> None:
    closed("native")
    closed("legacy")
    for result in found("filtered-ports"):
        subprocess.run(["sh", "-c", result.cure], check=True)
    for result in found("filtered-ports"):
        subprocess.run(["sh", "-c", result.cure], check=True)
    assert found("filtered-ports") == []


def test_forward_of_legacy_iptables(tmp_path: Path) -> None:
    """The node keeps its rules in nftables' chains, but those of iptables-legacy it does not see."""
    iptables("legacy", "-P FORWARD DROP")
    assert firewall.droppers("forward") == []
    results = found("forward-drop", EXPOSED)
    assert [result.finding.subject for result in results] == ["weave to eth0", "eth0 to weave"]
    Fixer(tmp_path).apply("forward-drop", results)
    assert found("forward-drop", EXPOSED) == []
    Fixer(tmp_path).undo("forward-drop")
    assert len(found("forward-drop", EXPOSED)) == 2


def test_the_node_leaves_the_doctors_rules_alone(tmp_path: Path) -> None:
    iptables("nft", "-P FORWARD DROP")
    results = found("forward-drop", EXPOSED)
    Fixer(tmp_path).apply("forward-drop", results)
    for chain in firewall.droppers("forward"):
        firewall.keep_accepts(chain, [])
    assert firewall.delete_accepts() == 0
    assert found("forward-drop", EXPOSED) == []


def test_a_chain_that_is_gone_is_told(tmp_path: Path) -> None:
    closed("native")
    results = found("filtered-ports")
    nftables.run("delete table inet host")
    with pytest.raises(PlaitError, match="refused"):
        Fixer(tmp_path).apply("filtered-ports", results)


def test_legacy_rules_that_are_refused() -> None:
    with pytest.raises(PlaitError, match="iptables refused the rule"):
        accepts.place(Accept("legacy", "ip", "filter", "INPUT", "--nonsense"))


def test_doctor_loads_no_table() -> None:
    """Reading must not bring a table of iptables-legacy into the namespace."""
    found("filtered-ports")
    assert not Path("/proc/net/ip_tables_names").read_text().strip()
