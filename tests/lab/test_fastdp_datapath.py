"""The datapath without nodes, by both ways of attaching; and what the kernel has after many operations of nodes."""

import errno
import os
import random
from dataclasses import dataclass
from struct import pack
from typing import Any

import pytest

from lab.fastdp_lab import PATIENCE, attach, broadcasts_arrive_once, conf, connection, pins
from lab.node_lab import check_logs, is_up, kill, report
from plait.host import tap
from plait.host.bpf.attachment import Direction, Way, attached, detach
from plait.host.bpf.features import probe
from plait.host.bpf.maps import Map
from plait.host.bpf.syscall import Command, bpf
from plait.host.netlink import Netlink
from plait.overlay.bridge import TAP
from plait.overlay.fastdp import tables
from plait.overlay.fastdp.datapath import DEVICE, KernelDatapath, remove
from plait.overlay.fastdp.plan import Tables
from plait.overlay.fastdp.tables import ID, Fan, HopFlag, Neighbour, NextHop, Via
from plait.overlay.fastdp.tables import Container as Place
from plait.testing.lab import Container, Host, Lab, wait_until

BRIDGE, MTU, PORT = "weave", 1450, 6784
OPERATIONS = int(os.environ.get("PLAIT_TEST_OPERATIONS", "200"))


def program_exists(number: int) -> bool:
    try:
        os.close(bpf(Command.PROG_GET_FD_BY_ID, pack("=III", number, 0, 0)))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    return True


# Without nodes


def build(host: Host, container: Container, way: Way, short_id: int) -> tuple[KernelDatapath, int]:
    """Bridge, tap, a container and the datapath of a host, as a node makes them; gives the tap's descriptor too."""
    with host.entered():
        fd = tap.open_tap(TAP)
        with Netlink() as netlink:
            netlink.create_bridge(BRIDGE, mtu=MTU)
            netlink.set_link(BRIDGE, up=True)
            netlink.set_link(TAP, master=BRIDGE, up=True)
            netlink.create_veth("vethc", "ethwe", MTU, container.path)
            netlink.set_link("vethc", master=BRIDGE, up=True)
        kernel = KernelDatapath(BRIDGE, PORT, pins(host), way=way)
        assert kernel.open() == Tables()
        kernel.ensure([])
    with Netlink(container.path) as netlink:
        netlink.set_link("ethwe", up=True)
        netlink.add_address("ethwe", f"10.32.0.{short_id}/12")
    return kernel, fd


@pytest.mark.parametrize("way", Way)
def test_two_hosts_without_nodes(lab: Lab, way: Way) -> None:
    if way is Way.TCX and not probe().tcx:
        pytest.skip("this kernel has no tcx")
    one, other = lab.host("one"), lab.host("other")
    before = [links(host) for host in (one, other)]
    here, there = one.container("c"), other.container("c")
    (near, near_tap), (far, far_tap) = build(one, here, way, 1), build(other, there, way, 2)
    for host, kernel, number, remote in ((one, near, 1, other), (other, far, 2, one)):
        with host.entered():
            kernel.ensure([remote.ip])
            underlay = kernel.underlay(remote.ip)
            assert underlay is not None
            hop = NextHop(Via.VXLAN, 3 - number, remote.ip, host.ip, underlay.index, MTU, HopFlag.DIRECT)
            kernel.write(
                Tables(
                    number, {3 - number: hop}, {number: Fan((3 - number,))}, {remote.ip: Neighbour(host.ip, 3 - number)}
                )
            )
    assert here.ping(there, count=20).ok
    assert here.transfer(there, 5_000_000).transferred_bytes == 5_000_000
    broadcasts_arrive_once(here, there)
    assert near.stats(2).tx_packets > 20
    dropped = {reason for reason, count in near.drops().items() if count}
    assert dropped <= {"no_route", "local"}, "only what came before there was a way"
    described = near.describe()
    assert {each.name for each in described.programs} == {
        "from_container",
        "from_underlay",
        "from_vxlan",
        "to_vxlan",
        "from_tap",
        "to_tap",
    }
    # What is opened anew finds what was there, and carries on.
    near.close()
    assert here.ping(there, count=20).ok
    with one.entered():
        heir = KernelDatapath(BRIDGE, PORT, pins(one), way=way)
        left = heir.open()
        assert (left.our_id, left.trees, set(left.neighbours)) == (1, {1: Fan((2,))}, {other.ip})
        heir.ensure([other.ip])
    assert here.ping(there, count=20).ok
    programs = {each.id for each in heir.describe().programs}
    # What another tool takes away comes back, and is told.
    with one.entered():
        assert heir.ensure([other.ip]) == []
        assert heir.lacks() == []
        detach(underlay_index(one), Direction.INGRESS, pins(one) / f"link-{underlay_index(one)}-ingress", way)
        assert heir.lacks() == ["eBPF program from_underlay is gone from the ingress of eth0"]
        (told,) = heir.ensure([other.ip])
        assert told == "eBPF program from_underlay was gone from the ingress of eth0: attached it again"
        assert heir.ensure([other.ip]) == []
    assert {each.id for each in heir.describe().programs} == programs
    for host, kernel, fd in ((one, heir, near_tap), (other, far, far_tap)):
        kernel.close()
        os.close(fd)
        with host.entered():
            remove(pins(host))
            with Netlink() as netlink:
                netlink.delete_link(BRIDGE)
                netlink.delete_link("vethc")
        assert not pins(host).exists()
    assert [links(host) for host in (one, other)] == before
    with one.entered():
        assert attached(underlay_index(one), Direction.INGRESS, way) is None
    wait_until(lambda: not any(map(program_exists, programs)), "the programs are gone")


def underlay_index(host: Host) -> int:
    with Netlink(host.path) as netlink:
        eth0 = netlink.link("eth0")
    assert eth0 is not None
    return eth0.index


def links(host: Host) -> set[str]:
    with Netlink(host.path) as netlink:
        return {link.name for link in netlink.links()}


# Many operations of nodes


def key(mac: str) -> bytes:
    return tables.mac_key(bytes.fromhex(mac.replace(":", "")))


@dataclass
class World:
    """Two nodes, and the containers that are attached to each now."""

    lab: Lab
    hosts: list[Host]
    containers: dict[str, list[Container]]
    programs: set[int]
    number: int = 0

    def running(self) -> list[Host]:
        return [host for host in self.hosts if is_up(host)]

    def check(self, host: Host) -> None:
        """What the kernel has is what the node says, and what it should be."""
        seen: dict[str, Any] = {}

        def is_right() -> bool:
            seen.clear()
            seen.update(self.compare(host))
            return all(found == wanted for found, wanted in seen.values())

        wait_until(is_right, f"{host.name}'s kernel has what it should: {seen}", PATIENCE)

    def compare(self, host: Host) -> dict[str, tuple[Any, Any]]:
        with host.entered(), Netlink() as netlink:
            bridge = netlink.link(BRIDGE)
            assert bridge is not None
            ports = {port.name: port for port in netlink.ports(BRIDGE)}
            wanted = {key(bridge.mac): Place(0, is_elsewhere=False).pack()}
            for name, port in ports.items():
                if name not in (TAP, DEVICE):
                    other = netlink.other_end(port)
                    assert other is not None
                    wanted[key(other.mac)] = Place(port.index, is_elsewhere=True).pack()
            said = report(host)["Plait"]["Datapath"]
            runs, found_runs = set(), set()
            for each in said["Programs"]:
                link = netlink.link(each["Interface"])
                if link is None:
                    continue
                direction = Direction(each["Direction"])
                pin = pins(host) / f"link-{link.index}-{direction.name.lower()}"
                runs.add((each["Name"], each["Interface"], each["ID"]))
                found_runs.add(
                    (each["Name"], each["Interface"], attached(link.index, direction, Way(each["Way"]), pin))
                )
                self.programs.add(each["ID"])
        with Map.open_pinned(pins(host) / "containers") as found:
            containers = dict(found.items())
        with Map.open_pinned(pins(host) / "nexthops") as found:
            hops = {ID.unpack(key)[0] for key, value in found.items() if NextHop.unpack(value).via is not Via.NOTHING}
        held = {each["ShortID"] for each in said["Hops"] if each["Via"] != "nothing"}
        guarded = {interface for name, interface, _ in runs if name == "from_container"}
        return {
            "containers": (containers, wanted),
            "number of containers": (len(wanted) - 1, len(self.containers[host.name])),
            "programs": (found_runs, runs),
            "ports with a program": (guarded, ports.keys() - {TAP, DEVICE}),
            "pins": (len(list(pins(host).glob("link-*"))), len(runs)),
            "next hops that the node names": (held - hops, set()),
        }

    # Operations

    def attach(self, host: Host) -> None:
        self.number += 1
        container = host.container(f"c{self.number}")
        self.containers[host.name].append(attach(host, container, self.number + 10))

    def detach(self, host: Host, rng: random.Random) -> None:
        if mine := self.containers[host.name]:
            host.plait("detach", mine.pop(rng.randrange(len(mine))).spec)

    def launch(self, host: Host) -> None:
        others = [other for other in self.hosts if other is not host]
        host.launch(*others)


@pytest.mark.timeout(900)
def test_the_kernel_has_what_the_node_says_after_many_operations(lab: Lab) -> None:
    rng = random.Random(20)
    hosts = [lab.host("one"), lab.host("other")]
    world = World(lab, hosts, {host.name: [] for host in hosts}, set())
    before = {host.name: links(host) for host in hosts}
    for host in hosts:
        world.launch(host)
        world.attach(host)
    for number in range(OPERATIONS):
        host = rng.choice(hosts)
        running = world.running()
        what = rng.choices(("attach", "detach", "kill", "stop", "cut", "heal"), (40, 40, 5, 3, 6, 6))[0]
        if host not in running:
            world.launch(host)
        elif what == "attach" and len(world.containers[host.name]) < 6:
            world.attach(host)
        elif what == "attach" or what == "detach":
            world.detach(host, rng)
        elif what == "kill":
            kill(host)
        elif what == "stop":
            host.plait("stop")
        elif what == "cut":
            lab.cut(hosts[0], hosts[1], udp=rng.choice(((6784,), (6783, 6784), ())))
        else:
            lab.heal()
        if is_up(host) and number % 5 == 0:
            world.check(host)
    lab.heal()
    for host in hosts:
        if not is_up(host):
            world.launch(host)
        world.attach(host)
        world.check(host)
    here, there = (world.containers[host.name][-1] for host in hosts)
    wait_until(lambda: here.ping(there, count=1).ok, "frames pass", PATIENCE)
    wait_until(lambda: connection(*hosts).get("Overlay") == "fastdp", "fastdp carries them", PATIENCE)
    assert here.ping(there, count=50).ok
    assert {conf(host).our_id for host in hosts} == {each["ShortID"] for each in report(hosts[0])["Router"]["Peers"]}
    check_logs(lab)
    for host in hosts:
        host.plait("stop")
        host.plait("reset", "--force")
        assert not pins(host).exists()
        assert links(host) == before[host.name]
        assert "plait" not in host.run(["nft", "list", "ruleset"]).stdout
    wait_until(lambda: not any(map(program_exists, world.programs)), "the programs are gone")
