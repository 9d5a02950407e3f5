"""A noisy path between two nodes on one switch: one program for each direction, and the rules that leave it the way.

The datagrams are taken at the port of the sender before the switch sees them, and go out at the port of the receiver.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from plait.host.netlink import Netlink
from plait.testing.lab.errors import LabError
from plait.testing.lab.faults import Detour
from plait.testing.lab.node import Node
from plait.testing.lab.noise import PACKED_BYTES, Counts, Rates
from plait.testing.lab.processes import Process
from plait.testing.lab.topology import Port
from plait.testing.lab.waiting import wait_until

_PROGRAM = "plait.testing.lab.detour"


@dataclass(frozen=True)
class Impairment:
    """Noise in both directions between two ports, until `Lab.heal`."""

    detours: tuple[Detour, ...]
    _processes: tuple[Process, ...]
    _files: tuple[Path, ...]

    def counts(self) -> Counts:
        """What was done so far, both directions together; at most a moment old."""
        found = [Counts.unpacked(path.read_bytes()) for path in self._files]
        return Counts(
            sum(each.seen for each in found),
            sum(each.lost for each in found),
            sum(each.reordered for each in found),
            sum(each.duplicated for each in found),
        )

    def stop(self) -> None:
        """End the programs; what waits to be overtaken is lost."""
        for process in self._processes:
            process.kill()


def start(wire: Node, one: Node, other: Node, rates: Rates, seed: int) -> Impairment:
    """Start the programs and wait until they carry. Raise LabError if the nodes share no switch."""
    near, far = _ports(one, other)
    if near.address.version != 4:
        raise LabError("only the datagrams of IPv4 can be impaired: choose a switch with a subnet of IPv4")
    detours = (_detour(near, far, other), _detour(far, near, one))
    started = [_start(wire, each, rates, f"{seed} {number}") for number, each in enumerate(detours)]
    wait_until(lambda: all(_is_ready(process, path) for process, path in started), "a noisy path carries")
    processes, files = zip(*started, strict=True)
    return Impairment(detours, processes, files)


def _ports(one: Node, other: Node) -> tuple[Port, Port]:
    for near, far in _pairs(one, other):
        if near.segment is far.segment and near.outer and far.outer:
            return near, far
    raise LabError(f"{one.name} and {other.name} are on no common switch: impair the way from one to a router")


def _pairs(one: Node, other: Node) -> Iterator[tuple[Port, Port]]:
    return ((near, far) for near in one.ports for far in other.ports)


def _detour(source: Port, target: Port, receiver: Node) -> Detour:
    with Netlink(receiver.path) as netlink:
        link = netlink.link(target.device)
    if link is None:
        raise LabError(f"{receiver.name} has no {target.device} any more")
    return Detour(source, target, link.mac)


def _start(wire: Node, way: Detour, rates: Rates, seed: str) -> tuple[Process, Path]:
    path = wire.directory / f"{way.source.outer}-{way.target.outer}.counts"
    path.unlink(missing_ok=True)
    words = ["--source", f"{way.source.outer}", "--target", f"{way.target.outer}", "--mac", way.mac]
    words += ["--counts", str(path), "--seed", seed]
    words += ["--loss", str(rates.loss), "--reorder", str(rates.reorder), "--duplicate", str(rates.duplicate)]
    return wire.spawn([sys.executable, "-m", _PROGRAM, *words]), path


def _is_ready(process: Process, path: Path) -> bool:
    if not process.is_running:
        raise LabError(f"a noisy path cannot be made: {process.output}")
    return path.exists() and path.stat().st_size == PACKED_BYTES
