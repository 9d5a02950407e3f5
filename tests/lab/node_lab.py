"""Helpers for tests of whole nodes: what they say, what they leave behind, and troubles to make."""

import difflib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from plait.api.client import Client
from plait.errors import NodeUnreachable
from plait.testing.lab import Lab, wait_until
from plait.testing.lab.hosts import Host
from plait.testing.lab.node import Node
from plait.testing.lab.processes import Completed

PLAIT = (sys.executable, "-m", "plait")
# Everything in a namespace that a node could leave behind. Addresses lose the mark of those that are still probed.
_LISTING = """
ip -details link; ip address; ip route show table all; ip -6 route show table all; ip rule; nft list ruleset
grep -rs . /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf /proc/sys/net/ipv4/ip_forward || true
"""
# Of a bridge: what runs, and what it takes over from the ports of the moment.
_IN_FLUX = r"(\w+_timer|fdb_n_learned|[gt][sr]o_max_\w+) +[0-9.]+"
_TROUBLE_WORDS = ("Traceback", " CRITICAL ", "Exception ignored", "never awaited", "defect")


def client(host: Host) -> Client:
    return Client(Path(f"{host.directory}/run"))


def report(host: Host) -> dict[str, Any]:
    return client(host).report()


def log(host: Host) -> str:
    return Path(f"{host.directory}/state/plait.log").read_text()


def pid(host: Host) -> int:
    return int(Path(f"{host.directory}/run/plait.pid").read_text())


def kill(host: Host) -> None:
    """End a node as a crash would."""
    process = pid(host)
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: not Path("/proc", str(process), "exe").exists(), "the node is gone")


def problems(host: Host) -> list[str]:
    return [f"{problem['What']} {problem['Cure']}" for problem in report(host)["Plait"]["Problems"]]


def told(host: Host, *parts: str, timeout: float = 20.0) -> str:
    """Wait until a problem has all these parts, in the report, in `status` and in the log, and give its sentence."""

    def find() -> str:
        found = [
            p["What"] for p in report(host)["Plait"]["Problems"] if all(s in f"{p['What']} {p['Cure']}" for s in parts)
        ]
        return found[0] if found else ""

    what = wait_until(find, f"{host.name} names a problem with {parts}; it has {problems(host)}", timeout)
    assert f"Problem: {what}\n" in client(host).text("/status")
    assert any(" WARNING plait: " in line and all(s in line for s in parts) for line in log(host).splitlines())
    return what


def connections(host: Host) -> dict[str, dict[str, Any]]:
    """Connections and targets by address, without the ports of those that called us."""
    found = report(host)["Router"]["Connections"] or []
    return {c["Address"] if c["Outbound"] else c["Address"].rpartition(":")[0]: c for c in found}


def launch_pairs(*pairs: tuple[Host, Host]) -> None:
    """In each pair the second node calls the first; pairs start side by side."""

    def launch(pair: tuple[Host, Host]) -> None:
        pair[0].launch()
        pair[1].launch(pair[0])

    with ThreadPoolExecutor(len(pairs)) as threads:
        list(threads.map(launch, pairs))


def established(host: Host) -> set[str]:
    """Nicknames of the neighbours with which frames pass."""
    return {c["NickName"] for c in report(host)["Plait"]["Connections"] if c["EstablishedSince"] is not None}


def wait_for_neighbours(host: Host, *names: str, timeout: float = 20.0) -> None:
    wait_until(lambda: established(host) == set(names), f"{host.name} has the neighbours {names}", timeout)


def is_up(host: Host) -> bool:
    try:
        return client(host).request("GET", "/status").status == 200
    except NodeUnreachable:
        return False


def check_logs(lab: Lab) -> None:
    """No node of the lab met anything it could not explain."""
    for host in lab.nodes:
        path = host.directory / "state" / "plait.log"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        for number, line in enumerate(lines):
            about = "\n".join(lines[max(0, number - 5) : number + 60])
            assert not any(word in line for word in _TROUBLE_WORDS), f"{host.name}: {about}"


def explained(done: Completed, status: int, *parts: str) -> str:
    """Check that a command failed as it should, with a sentence and nothing else, and give that."""
    assert done.status == status, done
    assert all(part in done.stderr for part in parts), done.stderr
    assert not any(word in done.stderr for word in _TROUBLE_WORDS), done.stderr
    return done.stderr


def snapshot(node: Node) -> str:
    """All links, addresses, routes, rules and settings of a namespace; waits until none of it is in flux."""
    wait_until(lambda: "tentative" not in node.run(["ip", "-6", "address"]).stdout, "IPv6 addresses have settled")
    return re.sub(_IN_FLUX, r"\1", node.run(["sh", "-c", _LISTING]).stdout)


def changes(before: str, after: str) -> list[str]:
    """The lines that two snapshots do not share."""
    return [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]


def same(before: str, after: str) -> bool:
    """Whether two snapshots are equal; a difference is raised, in lines that a person can read."""
    if before != after:
        raise AssertionError("\n".join(changes(before, after)))
    return True


def without_link(listing: str, name: str) -> str:
    """A snapshot without everything that names a link."""
    kept, is_dropped = [], False
    for line in listing.splitlines():
        if re.match(r"\d+: ", line):
            is_dropped = f": {name}: " in line
        elif not line.startswith(" "):
            is_dropped = False
        if not is_dropped and name not in line:
            kept.append(line)
    return "\n".join(kept)


def hidden_from(host: Host, shadowed: str, argv: Sequence[str]) -> Completed:
    """Run a program that finds a directory empty."""
    script = f'mount -t tmpfs none {shadowed} && exec "$@"'
    return host.run(["unshare", "--mount", "sh", "-c", script, "sh", *argv], check=False)


@contextmanager
def tiny_disk(path: Path, size: str = "256k") -> Iterator[Path]:
    """A file system of its own at this directory."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tiny", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextmanager
def filled(path: Path, spare: int = 0) -> Iterator[None]:
    """Leave so many bytes, and not one page more, on the disk of this directory."""
    filler = path / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
        if spare:
            os.truncate(filler, filler.stat().st_size - spare)
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def one_lab() -> Iterator[Lab]:
    """A lab for a whole module; its nodes' logs are checked at the end."""
    with ExitStack() as stack:
        lab = stack.enter_context(Lab())
        yield lab
        check_logs(lab)
