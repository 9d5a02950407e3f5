"""`plait doctor` on hosts with real interfaces: what it finds, cures and takes back, and what it writes down."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lab.node_lab import check_logs, wait_for_neighbours
from plait.doctor.check import Result
from plait.doctor.checks import CHECKS
from plait.doctor.finding import Finding
from plait.doctor.fix import Fix, Offload, Setting
from plait.doctor.fixer import FILE_NAME, Fixer
from plait.errors import NotFound, PlaitError
from plait.host import ethtool
from plait.testing.lab import Host, Lab
from plait.testing.lab.features import missing_features

PASSWORD = "correct-horse-battery"
RISK, BREAKS = 20, 21
# Of the kernel of whoever runs this, and of how busy he keeps it: not what is tested.
OF_THE_MACHINE = {"clock", "memory", "ebpf", "descriptors", "kernel-parts"}
SETTING = "/proc/sys/net/ipv4/conf/eth0/forwarding"


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
    """A host without a node."""
    return shared.host("bare", [shared.switch()])


@pytest.fixture(scope="module")
def running(shared: Lab) -> Host:
    """A host with a node, a peer and a container; they have a password."""
    wire = shared.switch()
    host, peer = shared.host("one", [wire]), shared.host("two", [wire])
    flags = ["--ipalloc-range=10.32.0.0/12"]
    host.launch(password=PASSWORD, extra=flags)
    peer.launch(host, password=PASSWORD, extra=flags)
    host.attach(host.container("c1"))
    wait_for_neighbours(host, "two")
    return host


def doctor(host: Host, *words: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and the findings."""
    names = [check.name for check in CHECKS if check.name not in OF_THE_MACHINE]
    ended = host.plait("doctor", "--json", *words, *names, check=False)
    return ended.status, json.loads(ended.stdout)


def subjects(findings: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each["check"], each["subject"]) for each in findings]


@pytest.mark.parametrize("name", ["bare", "running"])
def test_nothing_is_wrong_with_a_good_host(request: pytest.FixtureRequest, name: str) -> None:
    code, findings = doctor(request.getfixturevalue(name))
    assert (code, [each for each in findings if each["severity"] != "note"]) == (0, [])


def test_people_are_told_what_it_does_and_what_to_do(bare: Host) -> None:
    bare.run(["ip", "link", "add", "vethwe-bridge", "type", "veth", "peer", "vethwe-pcap"])
    try:
        ended = bare.plait("doctor", "weave-links")
        assert "note: vethwe-pcap, the port at which its router reads frames, is still here" in ended.stdout
        assert "cure   ip link delete vethwe-pcap" in ended.stdout
        assert ended.stdout.endswith("2 note (1 checks)\n")
    finally:
        bare.run(["ip", "link", "delete", "vethwe-bridge"])
    assert bare.plait("doctor", "weave-links").stdout == "nothing found (1 checks)\n"


def test_another_vxlan_at_the_port_is_a_risk(bare: Host) -> None:
    bare.run(["sh", "-c", "ip link add other type vxlan external dstport 6784 && ip link set other up"])
    try:
        code, findings = doctor(bare)
        assert (code, subjects(findings)) == (RISK, [("vxlan-port", "other")])
    finally:
        bare.run(["ip", "link", "delete", "other"])
    assert doctor(bare)[0] == 0


def test_another_process_at_the_ports(bare: Host, running: Host) -> None:
    """A node's own sockets, its pump's and the kernel's are told from those of others."""
    with ExitStack() as stack:
        with bare.entered():
            for port in (6783, 6784):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
        code, findings = doctor(bare)
        assert (code, subjects(findings)) == (RISK, [("ports", "tcp/6783"), ("ports", "tcp/6784")])
        assert f"(process {os.getpid()})" in findings[0]["what"]
    assert not {"ports", "vxlan-port"} & {check for check, _ in subjects(doctor(running)[1])}


def test_a_cure_is_applied_and_taken_back(running: Host) -> None:
    path = "/sys/class/net/weave/brif/vethwe-sleeve/hairpin_mode"
    running.run(["sh", "-c", f"echo 1 > {path}"])
    code, findings = doctor(running)
    assert (code, subjects(findings)) == (BREAKS, [("hairpin", "vethwe-sleeve")])
    assert findings[0]["cure"] == f"echo 0 > {path}"
    ended = running.plait("doctor", "--fix", "hairpin")
    assert ended.stdout == f"echo 0 > {path} (was: 1)\n"
    assert "hairpin_mode is 1" in ended.stderr
    assert doctor(running)[0] == 0
    again = running.plait("doctor", "--fix", "hairpin", check=False)
    assert (again.status != 0, "finds nothing here" in again.stderr) == (True, True)
    assert running.plait("doctor", "--undo", "hairpin").stdout == f"setting {path}: 1 again\n"
    assert running.run(["cat", path]).stdout == "1\n"
    nothing = running.plait("doctor", "--undo", "hairpin", check=False)
    assert (nothing.status != 0, "nothing to take back" in nothing.stderr) == (True, True)
    running.run(["sh", "-c", f"echo 0 > {path}"])


def test_a_capture_says_the_same_and_no_secret(running: Host, tmp_path: Path) -> None:
    running.run(["sh", "-c", "echo 1 > /sys/class/net/weave/brif/vethwe-vxlan/hairpin_mode"])
    try:
        directory = str(tmp_path / "captured")
        captured = running.plait("doctor", "--json", "--capture", directory, check=False)
        shown = running.plait("doctor", "--json", "--machine", directory, check=False)
        assert (captured.status, captured.stdout) == (shown.status, shown.stdout)
        assert (shown.status, '"vethwe-vxlan"' in shown.stdout) == (BREAKS, True)
        for file in Path(directory).rglob("*"):
            assert not file.is_file() or PASSWORD not in file.read_text(errors="replace"), file
        twice = running.plait("doctor", "--capture", directory, check=False)
        assert (twice.status != 0, "is not empty" in twice.stderr) == (True, True)
    finally:
        running.run(["sh", "-c", "echo 0 > /sys/class/net/weave/brif/vethwe-vxlan/hairpin_mode"])


def test_what_is_asked_wrongly_is_explained(bare: Host, tmp_path: Path) -> None:
    for words, says in (
        (("nonsense",), "there is no check named nonsense"),
        (("--fix", "nonsense"), "there is no check named nonsense"),
        (("--machine", str(tmp_path)), "is no captured machine"),
        (("--undo", "ufo", "--fix", "ufo"), "exclude each other"),
        (("ports", "--fix", "hairpin"), "leave out the others"),
    ):
        ended = bare.plait("doctor", *words, check=False)
        assert (ended.status not in (0, RISK, BREAKS), says in ended.stderr) == (True, True), ended


def cured_by(fix: Fix) -> list[Result]:
    return [Result(CHECKS[0], Finding("eth0", "a test", fix=fix))]


def read(path: str) -> str:
    return Path(path).read_text().strip()


def test_the_oldest_value_is_kept_over_two_cures(bare: Host, tmp_path: Path) -> None:
    with bare.entered():
        fixer = Fixer(tmp_path)
        first = read(SETTING)
        for value in ("1", "0", "1"):
            fixer.apply("test", cured_by(Setting(SETTING, value)))
            assert read(SETTING) == value
        fixer.undo("test")
        assert read(SETTING) == first
        with pytest.raises(NotFound, match="nothing to take back; applied: none"):
            fixer.undo("test")


def test_offloads_are_changed_and_brought_back(bare: Host, tmp_path: Path) -> None:
    with bare.entered():
        fixer = Fixer(tmp_path)
        before = ethtool.features("eth0")
        (said,) = fixer.apply("test", cured_by(Offload("eth0", "rx-gro", on=not before["rx-gro"])))
        assert said.startswith("ethtool -K eth0 gro ")
        assert ethtool.features("eth0")["rx-gro"] != before["rx-gro"]
        fixer.undo("test")
        assert ethtool.features("eth0") == before
        with pytest.raises(PlaitError, match="no offload invented"):
            fixer.apply("test", cured_by(Offload("eth0", "invented", on=False)))


def test_the_old_value_is_on_disk_before_anything_is_changed(bare: Host, tmp_path: Path) -> None:
    """So that a crash between the two loses nothing: here the kernel refuses the change."""
    with bare.entered():
        first = read(SETTING)
        with pytest.raises(PlaitError):
            Fixer(tmp_path).apply("test", cured_by(Setting(SETTING, "nonsense")))
        assert json.loads((tmp_path / FILE_NAME).read_text()) == {"test": {f"setting {SETTING}": first}}
        (tmp_path / FILE_NAME).with_suffix(".new").write_text("{")  # what a crash in the middle of writing leaves
        Fixer(tmp_path).undo("test")
        assert read(SETTING) == first
