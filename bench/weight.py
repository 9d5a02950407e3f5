"""What a node costs when nothing happens: memory, and CPU with two peers."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from bench import machine
from bench.network import join, namespaces, wait_for_ping, wait_until_settled
from bench.plan import UNITS
from bench.systems import System
from plait.testing.lab import Host, Lab

HOSTS = 3
SETTLE_SECONDS = 5.0
"""Until the searches that follow a launch are over (the path MTU, and who is there)."""

_TRAFFIC_BYTES = 10_000_000  # a node that never carried a frame would look too light


@dataclass(frozen=True, slots=True)
class Mesh:
    """Three hosts with a container each, all pairs connected; `processes` are a node's, of each host."""

    name: str
    processes: list[Mapping[str, int]]
    namespaces: set[machine.NetnsId]


@contextlib.contextmanager
def mesh(name: str, make: Callable[[], System]) -> Iterator[Mesh]:
    """Build it, and send something, until the block ends."""
    with Lab() as lab, contextlib.closing(make()) as system:
        hosts: list[Host] = []
        containers = []
        for number in range(1, HOSTS + 1):
            host = lab.host(f"h{number}")
            containers.append(join(system, host, hosts[:1], number))
            hosts.append(host)
        for source in containers:
            for target in containers:
                wait_for_ping(source, target.ip)
        wait_until_settled(system)
        containers[0].transfer(containers[1], size=_TRAFFIC_BYTES)
        yield Mesh(name, [system.processes(host) for host in hosts], namespaces([*hosts, *containers]))


def weigh(meshes: list[Mesh], idle_seconds: float) -> tuple[list[tuple[str, str, float]], machine.Meter]:
    """Give (system, metric, value) of every node, all measured at the same time, while all are idle.

    Systems without processes have no nodes: the kernel's work is nobody's.
    """
    time.sleep(SETTLE_SECONDS)
    before = {pid: machine.cpu_seconds(pid) for each in meshes for node in each.processes for pid in node.values()}
    with machine.Meter({name for each in meshes for name in each.namespaces}) as meter:
        time.sleep(idle_seconds)
    found = []
    for each in meshes:
        for node in filter(None, each.processes):
            used = sum(machine.cpu_seconds(pid) - before[pid] for pid in node.values())
            found.append((each.name, "idle_cpu_percent", used / meter.seconds * 100))
            resident = {part: machine.resident_bytes(pid) / 1e6 for part, pid in node.items()}
            found.append((each.name, "rss_mb", sum(resident.values())))
            if len(resident) > 1:
                parts = ((f"rss_{part}_mb", size) for part, size in resident.items())
                found += [(each.name, metric, size) for metric, size in parts if metric in UNITS]
    return found, meter
