"""Five hosts of every kind in a ring and all together: what breaks on the way, it works in the end."""

import os
import random
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import permutations

import pytest

from lab.fastdp_lab import (
    BROADCAST,
    PATIENCE,
    attach,
    broadcasts_arrive_once,
    frame,
    mac_of,
    send_frames,
    wait_for_mesh,
)
from lab.node_lab import check_logs, kill, report
from plait.testing.lab import Container, Host, Lab, wait_until

OPERATIONS = int(os.environ.get("PLAIT_TEST_OPERATIONS", "24"))

KINDS: tuple[list[str], ...] = ([], [], ["--fastdp-encapsulation", "device"], ["--no-fastdp"], ["--overlays", "sleeve"])
"""Options of the hosts, in order: two have nothing special."""


@dataclass
class Mesh:
    """Hosts that each call their two neighbours in a ring; with discovery they find the others."""

    lab: Lab
    is_ring: bool
    hosts: list[Host]
    containers: list[Container] = field(default_factory=list)
    ended: list[Host] = field(default_factory=list)

    @property
    def running(self) -> list[Host]:
        return [host for host in self.hosts if host not in self.ended]

    def launch(self, host: Host) -> None:
        number = self.hosts.index(host)
        others = self.hosts[number - 1], self.hosts[(number + 1) % len(self.hosts)]
        host.launch(*others, extra=[*KINDS[number], *(["--no-discovery"] if self.is_ring else [])])
        if host in self.ended:
            self.ended.remove(host)

    def wait(self) -> None:
        """Until all know that all are connected."""
        wait_for_mesh(*self.hosts, neighbours=2 if self.is_ring else None)

    def operate(self, rng: random.Random) -> None:
        host = rng.choice(self.running)
        container = self.containers[self.hosts.index(host)]
        match rng.choice(("kill", "stop", "launch", "launch", "cut", "heal", "flood", "pump", "move")):
            case "kill" if len(self.running) > 2:
                kill(host)
                self.ended.append(host)
            case "stop" if len(self.running) > 2:
                host.plait("stop")
                self.ended.append(host)
            case "launch" if self.ended:
                self.launch(rng.choice(self.ended))
            case "cut":
                one, other = rng.sample(self.hosts, 2)
                self.lab.cut(one, other, one_way=rng.random() < 0.3, udp=rng.choice(((), (6784,), (6783, 6784))))
            case "heal":
                self.lab.heal()
            case "flood":
                send_frames(container, *(frame(BROADCAST, mac_of(container), b"flood %d" % n) for n in range(20)))
            case "pump" if (pump := report(host)["Plait"]["Pump"]["pid"]) is not None:
                with suppress(ProcessLookupError):
                    os.kill(pump, signal.SIGKILL)
            case "move":
                host.plait("detach", container.spec)
                attach(host, container, self.hosts.index(host) + 1)


@pytest.mark.parametrize("is_ring", [True, False])
def test_a_mesh_of_all_kinds_of_hosts_mends_itself(lab: Lab, is_ring: bool) -> None:
    rng = random.Random(31)
    mesh = Mesh(lab, is_ring, [lab.host(f"h{number}") for number in range(1, 6)])
    for host in mesh.hosts:
        mesh.launch(host)
    mesh.containers = [attach(host, host.container("c"), number) for number, host in enumerate(mesh.hosts, 1)]
    mesh.wait()
    for _ in range(OPERATIONS):
        mesh.operate(rng)
        time.sleep(rng.random())  # operations meet the mesh at all stages
    lab.heal()
    for host in list(mesh.ended):
        mesh.launch(host)
    mesh.wait()
    for here, there in permutations(mesh.containers, 2):
        wait_until(lambda here=here, there=there: here.ping(there, count=1).ok, "frames pass", PATIENCE)  # type: ignore[misc]
    broadcasts_arrive_once(*mesh.containers)
    check_logs(lab)
