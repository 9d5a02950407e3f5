"""The machine during a measurement: which core works for whom, and CPU time used, used by strangers, and stolen."""

import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from plait.testing.lab import Node

NetnsId = tuple[int, int]

_TICKS = os.sysconf("SC_CLK_TCK")
_PF_KTHREAD = 0x00200000  # linux/sched.h
_CPUCLOCK_SCHED = 2  # linux/posix-timers_types.h
_CORES = sorted(os.sched_getaffinity(0))


def core_of(host_number: int) -> int:
    """Give the core of a host, counted from 0; hosts share cores if there are too few."""
    return _CORES[host_number % len(_CORES)]


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keep the calling thread, and the programs that it starts, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def receive_on(node: Node, core: int) -> None:
    """Have the kernel handle what the node's devices receive on one core (RPS)."""
    script = f"for queue in /sys/class/net/*/queues/rx-*/rps_cpus; do echo {mask(core)} >$queue; done"
    node.run(["sh", "-c", script])


def mask(core: int) -> str:
    """Give a set of one core as the kernel's files have it."""
    return f"{1 << core:x}"


def cpu_seconds(pid: int) -> float:
    """Give the CPU time that a process has used so far, to the nanosecond."""
    return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)


def family_cpu_seconds(roots: Collection[int]) -> float:
    """Give the CPU time used so far by these processes, their descendants, and the children of any that have ended.

    The difference of two calls is what they used between, also by processes that were started or have ended there.
    """
    parents: dict[int, int] = {}
    reaped: dict[int, float] = {}
    for pid, fields in _statistics():
        parents[pid] = int(fields[1])
        reaped[pid] = sum(map(int, fields[13:15])) / _TICKS
    family = {pid for pid in parents if not set(roots).isdisjoint(_ancestry(pid, parents))}
    total = 0.0
    for pid in family:
        try:
            total += cpu_seconds(pid) + reaped[pid]
        except OSError:  # it has ended: its parent keeps the time
            continue
    return total


def resident_bytes(pid: int) -> int:
    """Give the resident memory of a process (RSS), counted page by page."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{pid}/smaps_rollup has no line Rss")


def describe() -> str:
    """Name the machine in a few words."""
    models = [line.partition(":")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    system = os.uname()
    return f"{os.cpu_count()} x {(models or [system.machine])[0].strip()}, {system.sysname} {system.release}"


class Meter:
    """CPU time, seconds, of the whole machine while the block runs.

    Ours is this process and what runs in `namespaces`; kernel threads belong to nobody. `busy` is what was not idle.
    """

    def __init__(self, namespaces: Collection[NetnsId]) -> None:
        self._namespaces = namespaces
        self.seconds = self.busy = self.stolen = self.foreign = 0.0

    def __enter__(self) -> Self:
        self._foreign_before = _foreign_ticks(self._namespaces)
        self._before = _idle_and_stolen()
        self._started = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._started
        idle, stolen = (after - before for after, before in zip(_idle_and_stolen(), self._before, strict=True))
        self.stolen = stolen / _TICKS
        self.busy = max(0.0, (os.cpu_count() or 1) * self.seconds - idle / _TICKS - self.stolen)
        self.foreign = max(0, _foreign_ticks(self._namespaces) - self._foreign_before) / _TICKS

    @property
    def foreign_cores(self) -> float:
        """How many cores other programs used, on average."""
        return self.foreign / self.seconds

    @property
    def stolen_cores(self) -> float:
        """How many cores the hypervisor withheld, on average."""
        return self.stolen / self.seconds

    @property
    def own(self) -> float:
        """What was used for the measurement: all but the other programs' part."""
        return max(0.0, self.busy - self.foreign)


def _idle_and_stolen() -> tuple[int, int]:
    """Of all cores, ticks since boot. Idle time is exact on kernels that stop the tick; the others are sampled."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    idle, iowait, stolen = int(fields[3]), int(fields[4]), int(fields[7])
    return idle + iowait, stolen


def _foreign_ticks(namespaces: Collection[NetnsId]) -> int:
    """The sum over all foreign processes and their reaped children.

    Of a process that ends in between, its parent keeps the time, so the difference of two sums is what was used.
    """
    total = 0
    for pid, fields in _statistics():
        if pid == os.getpid() or int(fields[6]) & _PF_KTHREAD:
            continue
        try:
            status = os.stat(f"/proc/{pid}/ns/net")
        except OSError:  # it has ended
            continue
        if (status.st_dev, status.st_ino) not in namespaces:
            total += sum(map(int, fields[11:15]))
    return total


def _statistics() -> Iterator[tuple[int, list[str]]]:
    """Of all processes, the id and the fields of /proc/PID/stat from the third on (proc(5))."""
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            text = Path(entry.path, "stat").read_text()
        except OSError:  # it has ended
            continue
        yield int(entry.name), text.rpartition(")")[2].split()


def _ancestry(pid: int, parents: Mapping[int, int]) -> Iterator[int]:
    """A process, its parent, and so on."""
    while pid in parents:
        yield pid
        pid = parents[pid]
