"""What names cost: a node's name server and dnsmasq in turn, asked by the same client (dnsperf) for the same names.

The servers have core 0, client and churn core 1; all traffic is on the loopback of one virtual host.
"""

import contextlib
import http.client
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.costs import Cost
from bench.machine import core_of, cpu_seconds, pinned, resident_bytes
from plait.testing.lab import Host, Lab, LabError, wait_until

NAMES, ENTRIES = 1000, 100_000
"""Asked for; known when memory is measured."""

CHURN, QUERIES = 100, 1000
"""Names that another node adds, and as many that it removes, and questions, per second, while delays are measured."""

SECONDS = 4.0
_PORTS = {"plait-dns": 53, "dnsmasq": 5353}
_RATE = re.compile(r"Queries per second: +([0-9.]+)")
_COMPLETED = re.compile(r"Queries completed: +([0-9]+)")
_RIGHT = re.compile(r"NOERROR ([0-9]+)")
_DELAY = re.compile(r"^> NOERROR \S+ A ([0-9.]+)$", re.MULTILINE)


class Names:
    """Names of a node, given and taken by its API over one connection."""

    def __init__(self, host: Host) -> None:
        self._connection = http.client.HTTPConnection("localhost")
        self._connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.sock.connect(f"{host.environment()['PLAIT_RUN_DIR']}/plait.sock")

    def add(self, number: int, name: str) -> None:
        """Give a name an address that follows from the number."""
        self._send("PUT", f"/name/{number:064x}/{_address(number)}?fqdn={name}.weave.local.")

    def remove(self, number: int) -> None:
        """Take it back."""
        self._send("DELETE", f"/name/{number:064x}/{_address(number)}")

    def _send(self, method: str, path: str) -> None:
        self._connection.request(method, path)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 204:
            raise LabError(f"{method} {path} was answered with {answer.status}: {body!r}")


@dataclass(frozen=True, slots=True)
class Server:
    """One that answers; `pid` is its process."""

    name: str
    pid: int


def measure(rounds: int, say: Callable[[str], None]) -> list[Cost]:
    """Give the best of some rounds: servers in turn, then delays under churn, then memory, which is measured once."""
    best: dict[tuple[str, str], Cost] = {}

    def keep(metric: str, system: str, value: float, unit: str) -> None:
        say(f"{metric} {system}: {value:.4g} {unit}")
        known = best.get((metric, system))
        is_better = known is None or (value > known.value if unit == "1/s" else value < known.value)
        if is_better:
            best[metric, system] = Cost(metric, system, value, unit, rounds)

    with Lab() as lab, pinned(core_of(1)):
        one, two = lab.host("h1"), lab.host("h2")
        questions = one.directory / "questions"
        questions.write_text("".join(f"{_name(number)}.weave.local A\n" for number in range(NAMES)))
        servers = [_launch_plait(one), _launch_dnsmasq(one)]
        two.launch(one, extra=["--dns-listen-address=127.0.0.1:53", "--resolv-conf="])
        for _ in range(rounds):
            for server in servers:
                rate, cpu = _busy(one, server, questions)
                keep("dns_per_s", server.name, rate, "1/s")
                keep("dns_cpu_us", server.name, cpu, "us")
        with _churning(two):
            for _ in range(rounds):
                for server in servers:
                    keep("dns_p99_ms", server.name, _delay(one, server, questions), "ms")
        before, after = _grown(one, servers[0])
        keep("dns_rss_mb", "plait-dns", after, "MB")
        keep("dns_entries_mb", "plait-dns", after - before, "MB")
        keep("dns_per_s_full", "plait-dns", _busy(one, servers[0], questions)[0], "1/s")
    return list(best.values())


def _launch_plait(host: Host) -> Server:
    with pinned(core_of(0)):
        host.launch(extra=["--dns-listen-address=127.0.0.1:53", "--resolv-conf="])
    names = Names(host)
    for number in range(NAMES):
        names.add(number, _name(number))
    return Server("plait-dns", int(Path(host.environment()["PLAIT_RUN_DIR"], "plait.pid").read_text()))


def _launch_dnsmasq(host: Host) -> Server:
    hosts = host.directory / "hosts"
    hosts.write_text("".join(f"{_address(number)} {_name(number)}.weave.local\n" for number in range(NAMES)))
    words = ["/usr/sbin/dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--user=root", "--no-resolv", "--no-hosts"]
    words += [f"--addn-hosts={hosts}", "--listen-address=127.0.0.1", "--bind-interfaces"]
    with pinned(core_of(0)):
        process = host.spawn([*words, f"--port={_PORTS['dnsmasq']}"])
    server = Server("dnsmasq", process.pid)
    wait_until(lambda: _is_answering(host), "dnsmasq answers")
    return server


def _is_answering(host: Host) -> bool:
    with host.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        try:
            client.bind(("127.0.0.1", _PORTS["dnsmasq"]))
        except OSError:
            return True
    return False


def _ask(host: Host, server: Server, questions: Path, *options: str) -> str:
    words = ["dnsperf", "-s", "127.0.0.1", "-p", str(_PORTS[server.name]), "-d", str(questions), "-l", f"{SECONDS:g}"]
    return host.run([*words, *options]).stdout


def _busy(host: Host, server: Server, questions: Path) -> tuple[float, float]:
    """Give answers per second, and CPU microseconds of the server for each."""
    before = cpu_seconds(server.pid)
    told = _ask(host, server, questions, "-c", "8", "-q", "200")
    used = cpu_seconds(server.pid) - before
    if _number(_RIGHT, told) < _number(_COMPLETED, told):
        raise LabError(f"{server.name} does not know all names: {told[-400:]}")
    return _number(_RATE, told), used / _number(_COMPLETED, told) * 1e6


def _delay(host: Host, server: Server, questions: Path) -> float:
    """Give the 99th percentile, ms."""
    told = _ask(host, server, questions, "-Q", str(QUERIES), "-v")
    delays = sorted(float(each) for each in _DELAY.findall(told))
    if len(delays) < QUERIES * SECONDS * 0.9:
        raise LabError(f"{server.name} answered {len(delays)} questions of {QUERIES * SECONDS:.0f}")
    return delays[len(delays) * 99 // 100] * 1e3


@contextlib.contextmanager
def _churning(host: Host) -> Iterator[None]:
    """Add CHURN names a second and remove each after one, until the block ends."""
    over = threading.Event()
    failures: list[Exception] = []

    def churn() -> None:
        try:
            names = Names(host)
            due = time.monotonic()
            number = ENTRIES
            while not over.is_set():
                names.add(number, f"churn{number}")
                if number >= ENTRIES + CHURN:
                    names.remove(number - CHURN)
                number += 1
                due += 1 / CHURN
                time.sleep(max(0.0, due - time.monotonic()))
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise LabError(f"names could not be churned: {failures[0]}")


def _grown(host: Host, server: Server) -> tuple[float, float]:
    """Give the daemon's memory, MB, before and after it got ENTRIES names."""
    before = resident_bytes(server.pid)
    names = Names(host)
    for number in range(NAMES, ENTRIES):
        names.add(number, _name(number))
    return before / 1e6, resident_bytes(server.pid) / 1e6


def _name(number: int) -> str:
    return f"name-{number}"


def _address(number: int) -> str:
    return ".".join(str(byte) for byte in (0x0A000000 + number).to_bytes(4, "big"))


def _number(pattern: re.Pattern[str], text: str) -> float:
    found = pattern.search(text)
    if found is None:
        raise LabError(f"dnsperf did not say {pattern.pattern!r}: {text[-200:]!r}")
    return float(found.group(1))
