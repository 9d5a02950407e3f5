"""Where the CPU time of each core goes while one system carries traffic: samples of perf, by what the kernel does.

A share of a core is that of its samples in which the part was at work: copying and interrupts by the function that was
interrupted, the rest by any function on the stack.
"""

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from bench import traffic
from bench.network import connected
from bench.report import aligned
from bench.systems import System
from plait.errors import PlaitError

SECONDS = 4.0
_FREQUENCY = 3000
_START_SECONDS = 1.0
_HEAD = re.compile(r"^(?P<comm>\S.*?)\s+\d+\s+\[(?P<cpu>\d+)\]")
_FRAME = re.compile(r"^\s+[0-9a-f]+ (?P<symbol>.+?)(?:\+0x[0-9a-f]+)? \((?P<dso>.*)\)$")


class Sample(NamedTuple):
    """One sample: functions and files from the innermost out."""

    command: str
    cpu: int
    symbols: tuple[str, ...]
    file: str
    """Of the innermost."""


Test = Callable[[Sample], bool]


def _leaf(pattern: str) -> Test:
    compiled = re.compile(pattern)
    return lambda sample: bool(sample.symbols) and compiled.fullmatch(sample.symbols[0]) is not None


def _stack(pattern: str) -> Test:
    compiled = re.compile(pattern)
    return lambda sample: any(compiled.fullmatch(symbol) for symbol in sample.symbols)


def _file(pattern: str) -> Test:
    compiled = re.compile(pattern)
    return lambda sample: compiled.search(sample.file) is not None


PARTS: Mapping[str, Test] = {
    "idle": _leaf(r".*safe_halt|.*_idle|mwait_.*"),
    "copying": _leaf(r"_?_?_?copy_(to|from)_(iter|user).*|(__pi_)?_?_?mem(cpy|move).*|rep_movs.*|csum_partial.*"),
    "interrupts of the other core, timers": _leaf(r"native_write_msr|native_apic.*|smp_call_.*"),
    "cutting 64 KB into packets": _stack(r"__skb_gso_segment|skb_segment.*"),
    "merging packets": _stack(r"(dev_|inet_|tcp4?_|udp4?_|skb_|gro_receive_).*gro.*|gro_receive_skb|napi_gro_.*"),
    "Python": _file(r"python3|_cffi|\.cpython-"),
    "compiled loop": _file(r"/engine-.*\.so|libcrypto"),
    "eBPF programs": _stack(r"bpf_prog_.*"),
    "VXLAN and bridge": _stack(r"(vxlan|br|udp_tunnel|iptunnel|gro_cell)_.*"),
    "IP forwarding": _stack(r"ip6?_forward.*"),
    "tap, read and written": _stack(r"tun_(do_read|get_user|chr_.*)"),
    "UDP, sent and received": _stack(r"udp_(sendmsg|recvmsg)|__udp4_lib_rcv|udp_queue_rcv.*"),
    "the test's own TCP and sockets": _stack(r"tcp_.*|udp_.*|sock_.*|ksys_.*|__sys_.*"),
}
"""What a sample is counted for: the first that fits."""

REST = "the rest"


def samples(script: Iterable[str]) -> Iterator[Sample]:
    """Read what `perf script -F comm,tid,cpu,ip,sym,dso` prints."""
    head: re.Match[str] | None = None
    frames: list[tuple[str, str]] = []
    for line in script:
        if line.strip() == "":
            if head is not None:
                symbols = tuple(symbol for symbol, _ in frames)
                yield Sample(head["comm"], int(head["cpu"]), symbols, frames[0][1] if frames else "")
            head, frames = None, []
        elif found := _HEAD.match(line):
            head = found
        elif frame := _FRAME.match(line):
            frames.append((frame["symbol"], frame["dso"]))


def shares(found: Iterable[Sample]) -> dict[int, Counter[str]]:
    """Count samples by core and part."""
    counts: dict[int, Counter[str]] = {}
    for sample in found:
        part = next((name for name, fits in PARTS.items() if fits(sample)), REST)
        counts.setdefault(sample.cpu, Counter())[part] += 1
    return counts


def to_markdown(counts: Mapping[int, Counter[str]]) -> str:
    """Write percents of each core."""
    cores = sorted(counts)
    lines = [["part", *(f"core {core}, %" for core in cores)]]
    for part in (*PARTS, REST):
        percents = [100 * counts[core][part] / counts[core].total() for core in cores]
        lines.append([part, *(f"{percent:.1f}" for percent in percents)])
    return aligned(lines, left=1)


def profile(name: str, make: Callable[[], System], wire: str, metric: str, cc: str) -> str:
    """Carry traffic with perf beside it, and give the rate and a table. Raises PlaitError."""
    with connected(name, make) as network, tempfile.TemporaryDirectory() as directory:
        network.set_wire(wire)
        data = Path(directory, "perf.data")
        watched = SECONDS - _START_SECONDS
        script = (
            f"sleep {_START_SECONDS / 2}; exec perf record -a -g -e cpu-clock -F {_FREQUENCY} -o {data} sleep {watched}"
        )
        with subprocess.Popen(["sh", "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as recorder:
            measured = traffic.measurement(metric, SECONDS, cc, 0.0)(network)
            recorder.wait()
        try:
            told = subprocess.run(
                ["perf", "script", "-i", str(data), "-F", "comm,tid,cpu,ip,sym,dso"],
                capture_output=True, text=True, errors="replace", check=True,
            )  # fmt: skip
        except (OSError, subprocess.CalledProcessError) as error:
            raise PlaitError(f"perf gave no samples ({error}): apt install linux-perf, and be root") from error
        counts = shares(samples([*told.stdout.splitlines(), ""]))
    return f"{name}, {wire}, {cc}: {metric} {measured.value:.3g}\n\n{to_markdown(counts)}"
