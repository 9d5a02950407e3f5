"""The lab does to packets what it says, and leaves nothing behind."""

import os
import socket
import sys
from pathlib import Path

import pytest

from plait.host import netns
from plait.host.netlink import Netlink
from plait.testing.lab import CommandFailed, Host, Lab, LabError, Segment, Unanswered, remove, wait_until
from plait.testing.lab.processes import processes_in

FULL = 1500 - 28
"""Data bytes of an echo request that fills a packet of 1500 bytes."""

SLEEP = ["sleep", "1000"]


def pair(lab: Lab) -> tuple[Host, Host]:
    return lab.host("h1"), lab.host("h2")


def two_sides(lab: Lab) -> tuple[Host, Host, Segment, Segment]:
    left, right = lab.switch(), lab.switch(mtu=1400)
    return lab.host("h1", on=[left]), lab.host("h2", on=[right]), left, right


def namespaces(lab: Lab) -> list[Path]:
    return list(netns.NAMED.glob(f"{lab.name}-*"))


def test_hosts_reach_each_other(lab: Lab) -> None:
    one, other = pair(lab)
    assert (one.ip, other.ip) == ("10.99.0.1", "10.99.0.2")
    result = one.ping(other, count=3)
    assert result.ok
    assert result.median_ms is not None
    assert (result.loss, result.duplicates, result.error) == (0, 0, None)
    assert one.send_udp(other, count=20).received == 20
    assert one.transfer(other, 3_000_001).transferred_bytes == 3_000_001


def test_cut_and_heal(lab: Lab) -> None:
    one, other = pair(lab)
    third = lab.host("h3")
    lab.cut(one, other)
    assert one.ping(other, count=2, timeout=0.1).received == 0
    assert other.send_udp(one, count=5).received == 0
    assert one.ping(third).ok
    lab.cut(one, third)
    lab.heal(one, other)
    assert one.ping(other).ok
    assert one.ping(third, timeout=0.1).received == 0
    lab.heal()
    assert one.ping(third).ok


def test_one_way_cut_leaves_the_other_way_open(lab: Lab) -> None:
    one, other = pair(lab)
    lab.cut(one, other, one_way=True)
    assert one.send_udp(other, count=5).received == 0
    assert other.send_udp(one, count=5).received == 5
    lab.heal(one)
    assert one.send_udp(other, count=5).received == 5


def test_cut_of_ports_leaves_all_others_open(lab: Lab) -> None:
    one, other = pair(lab)
    lab.cut(one, other, udp=[6783])
    assert one.send_udp(other, count=5, port=6783).received == 0
    assert one.send_udp(other, count=5, port=6784).received == 5
    assert one.ping(other).ok
    assert one.transfer(other, 1000).transferred_bytes == 1000


def test_loss_is_about_as_asked(lab: Lab) -> None:
    one, other = pair(lab)
    lab.loss(one, other, one_in=10)
    result = one.send_udp(other, count=2000, interval=0.0001)
    assert 120 <= result.sent - result.received <= 280  # six standard deviations
    with pytest.raises(LabError, match="use `cut`"):
        lab.loss(one, other, one_in=1)


def test_router_tells_of_its_smaller_mtu(lab: Lab) -> None:
    one, other, left, right = two_sides(lab)
    lab.router("r", left, right)
    assert one.ping(other, size=FULL - 100, dont_fragment=True).ok
    assert one.ping(other, size=FULL).ok
    result = one.ping(other, count=3, size=FULL, timeout=0.2, dont_fragment=True)
    assert (result.received, result.error) == (0, "Message too long")


def test_router_without_icmp_is_a_black_hole(lab: Lab) -> None:
    one, other, left, right = two_sides(lab)
    router = lab.router("r", left, right, icmp=False)
    assert one.ping(other, size=FULL - 100, dont_fragment=True).ok
    result = one.ping(other, count=3, size=FULL, timeout=0.2, dont_fragment=True)
    assert (result.received, result.error) == (0, None)
    assert one.ping(router, size=FULL, dont_fragment=True).ok
    router.set_icmp(True)
    result = one.ping(other, count=3, size=FULL, timeout=0.2, dont_fragment=True)
    assert (result.received, result.error) == (0, "Message too long")


def test_way_through_two_routers_can_be_cut(lab: Lab) -> None:
    switches = [lab.switch() for _ in range(3)]
    lab.router("r1", *switches[:2])
    lab.router("r2", *switches[1:])
    one, other = lab.host("h1", on=switches[:1]), lab.host("h2", on=switches[2:])
    assert one.ping(other).ok
    lab.cut(one, other, one_way=True)
    assert one.send_udp(other, count=5).received == 0
    assert other.send_udp(one, count=5).received == 5


def test_nat_lets_out_under_its_own_address_and_nobody_in(lab: Lab) -> None:
    inside, outside = lab.switch(), lab.switch()
    nat = lab.nat("nat", inside, outside)
    one, other = lab.host("h1", on=[inside]), lab.host("h2", on=[outside])
    assert one.ping(other).ok
    assert other.ping(one, count=1, timeout=0.1).error == "Network is unreachable"
    with Netlink(other.path) as netlink:
        netlink.add_route(inside.subnet, gateway=str(nat.ports[1].address.ip))
    assert other.ping(one, count=2, timeout=0.1).received == 0
    with other.entered():
        listener = socket.create_server((other.ip, 0))
    with one.entered():
        client = socket.socket()
    with listener, client:
        client.connect(listener.getsockname())
        connection, (seen, _) = listener.accept()
        connection.close()
    assert seen == str(nat.ports[1].address.ip)
    lab.cut(one, other)
    assert one.ping(other, count=2, timeout=0.1).received == 0


def test_link_with_a_smaller_mtu_on_a_switch_swallows(lab: Lab) -> None:
    one, other = pair(lab)
    assert one.ping(other, size=FULL, dont_fragment=True).ok
    lab.set_mtu(other, 1400)
    result = one.ping(other, count=2, size=FULL, timeout=0.1, dont_fragment=True)
    assert (result.received, result.error) == (0, None)
    assert one.ping(other, size=FULL - 100, dont_fragment=True).ok
    assert other.ping(one, count=1, size=FULL, timeout=0.1, dont_fragment=True).error == "Message too long"
    with pytest.raises(LabError, match="h1 is not on sw1"):
        lab.set_mtu(one, 1400, lab.switch())


def test_super_wire_passes_long_packets_whole_and_a_plain_one_segments_them(lab: Lab) -> None:
    one, other = pair(lab)

    def longest() -> int:
        with lab.wire.capture("p1") as capture:
            one.transfer(other, 2_000_000)
            return max(len(frame) for frame in capture.frames())

    assert longest() > 1514
    lab.super_wire(False)
    assert longest() == 1514
    assert lab.host("h3").transfer(one, 1000).transferred_bytes == 1000
    lab.super_wire(True)
    assert longest() > 1514


def test_cable_joins_without_a_switch(lab: Lab) -> None:
    one, other = lab.host("h1", on=[]), lab.host("h2", on=[])
    with pytest.raises(LabError, match="on no switch and no cable"):
        _ = one.ip
    cable = lab.cable(one, other, mtu=9000)
    assert one.ping(other, size=9000 - 28, dont_fragment=True).ok
    with pytest.raises(LabError, match="nothing can be cut"):
        lab.cut(one, other)
    with pytest.raises(LabError, match="no free end"):
        lab.host("h3", on=[cable])


def test_container_starts_without_a_network(lab: Lab) -> None:
    host = lab.host("h1")
    one, other = host.container("c1"), host.container("c2")
    assert one.spec == f"netns:{lab.name}-h1-c1"
    assert one.host is host
    assert host.containers == [one, other]
    with pytest.raises(LabError, match="c1 has no address"):
        _ = one.ip
    assert one.ping("10.32.0.1", count=1, timeout=0.1).error == "Network is unreachable"
    with Netlink(one.path) as netlink:
        netlink.create_veth("ethwe", "ethwe", 1500, other.path)
        netlink.add_address("ethwe", "10.32.0.1/12")
        netlink.set_link("ethwe", up=True)
    with Netlink(other.path) as netlink:
        netlink.add_address("ethwe", "10.32.0.2/12")
        netlink.set_link("ethwe", up=True)
    assert (one.ip, str(other.addresses("ethwe")[0])) == ("10.32.0.1", "10.32.0.2/12")
    assert one.ping(other).ok
    assert one.transfer(other, 100_000).gigabits_per_second > 0


def test_programs_run_inside(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAVE_HTTP_ADDR", "10.0.0.1:6784")
    host = lab.host("h1")
    assert host.run(["ls", "/sys/class/net"]).stdout.split() == ["eth0", "lo"]
    environment = host.run(["env"], env={"MORE": "yes"}).stdout.splitlines()
    assert f"PLAIT_STATE_DIR={host.directory}/state" in environment
    assert f"PLAIT_RUN_DIR={host.directory}/run" in environment
    assert "MORE=yes" in environment
    assert not any(line.startswith("WEAVE_") for line in environment)
    assert host.run(["cat"], input="hello").stdout == "hello"
    assert host.run(["false"], check=False).status == 1
    with pytest.raises(CommandFailed, match=r"status 3\nbroken"):
        host.run(["sh", "-c", "echo broken >&2; exit 3"])
    with pytest.raises(Unanswered, match="did not end"):
        host.run(SLEEP, timeout=0.1)
    assert host.plait_command().startswith(f"sudo ip netns exec {host.netns} env PLAIT_STATE_DIR=")


def test_processes_are_watched_stopped_and_killed(lab: Lab) -> None:
    host = lab.host("h1")
    process = host.spawn([sys.executable, "-u", "-c", "print('ready'); import time; time.sleep(1000)"])
    wait_until(lambda: "ready" in process.output, "the program is ready")
    assert process.is_running
    assert processes_in({netns.identity(host.path)}) == [process.pid]
    with pytest.raises(Unanswered, match="still runs"):
        process.wait(0.05)
    assert process.stop() == -15
    assert process.stop() == -15
    assert not process.is_running
    deaf = host.spawn(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.01; done"])
    wait_until(lambda: "ready" in deaf.output, "the program is ready")
    assert deaf.stop(timeout=0.1) == -9
    assert host.spawn(["true"]).wait() == 0


def test_iperf3(lab: Lab) -> None:
    one, other = pair(lab)
    if one.run(["sh", "-c", "command -v iperf3"], check=False).status:
        pytest.skip("iperf3 is not installed")
    report = one.iperf3(other, "--bytes", "1M")
    assert report["end"]["sum_received"]["bytes"] > 0


def test_waiting_ends_with_what_was_waited_for() -> None:
    with pytest.raises(Unanswered, match="not within 0 s: doomsday"):
        wait_until(lambda: None, "doomsday", timeout=0)
    assert wait_until(lambda: 7, "a number") == 7


def build(lab: Lab) -> list[int]:
    """Fill a lab with a process of each kind; gives their ids."""
    host, other = pair(lab)
    container = host.container("c1")
    spawned = container.spawn(SLEEP).pid
    host.run(["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &"])
    inside = {netns.identity(path) for path in namespaces(lab)}
    wait_until(lambda: len(processes_in(inside)) == 2, "both processes run")
    lab.cut(host, other)
    return [spawned, *processes_in(inside)]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not yet collected by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_gone(lab: Lab, pids: list[int]) -> None:
    assert namespaces(lab) == []
    assert not lab.directory.exists()
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.usefixtures("lab")  # skips where no lab can run
def test_nothing_is_left_behind() -> None:
    with Lab() as lab:
        pids = build(lab)
        assert all(is_alive(pid) for pid in pids)
    assert_gone(lab, pids)


@pytest.mark.usefixtures("lab")
def test_nothing_is_left_behind_after_an_exception() -> None:
    made: list[Lab] = []
    pids: list[int] = []

    def fail() -> None:
        with Lab() as lab:
            made.append(lab)
            pids.extend(build(lab))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert_gone(made[0], pids)


@pytest.mark.usefixtures("lab")
def test_labs_run_side_by_side_and_a_named_one_can_be_removed_by_name() -> None:
    name = f"named{os.getpid()}"
    with Lab() as first, Lab(name) as named:
        one, other = pair(first)
        named.host("h1")
        assert one.ping(other).ok
        with pytest.raises(LabError, match="there is a lab"), Lab(name):
            pass
        remove(name)
        remove(name)
        assert namespaces(named) == []
        assert one.ping(other).ok
    with pytest.raises(LabError, match="letters and digits"), Lab("../x"):
        pass


@pytest.mark.usefixtures("lab")
def test_namespaces_of_others_are_never_taken_for_a_lab_s() -> None:
    name = f"foreign{os.getpid()}"
    path = netns.create(f"{name}-h1")
    try:
        with pytest.raises(LabError, match="somebody else"), Lab(name):
            pass
        remove(name)
        assert path.exists()
    finally:
        netns.delete(path.name)
