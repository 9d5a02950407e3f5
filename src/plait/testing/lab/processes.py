"""Programs inside a namespace: running one to its end, keeping one running, finding and stopping whatever runs there.

Programs start through `ip netns exec`, so that they see the /sys of their namespace.
"""

import os
import signal
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plait.host.bpf.bpffs import BPFFS, ensure_bpffs
from plait.testing.lab.errors import CommandFailed, Unanswered

_POLL_SECONDS = 0.01
_STOP_SECONDS = 5.0  # a node says goodbye to its peers and flushes its state in less


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that has ended."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str


BPF = Path("/run/plait-lab-bpf")
"""The machine's BPF file system, where programs of a lab can have it.

Their /sys is new, and what they would mount there would end with them, which what nodes pin must not.
"""

_WITH_BPF = 'mount --bind "$0" /sys/fs/bpf 2>/dev/null; exec "$@"'


def keep_bpf() -> None:
    """Make BPF what it must be. Raise PlaitError."""
    ensure_bpffs()
    BPF.mkdir(exist_ok=True)
    if not os.path.ismount(BPF):
        subprocess.run(["mount", "--bind", str(BPFFS), str(BPF)], check=True)


class Process:
    """A running program. Its output goes to a file, so that it never waits for a reader."""

    def __init__(self, netns: str, argv: Sequence[str], env: Mapping[str, str], output: Path) -> None:
        self.argv = tuple(argv)
        self._output = output
        with output.open("wb") as log:
            self._popen = subprocess.Popen(
                _inside(netns, argv),
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id, which is the program's own: `ip` and `sh` replace themselves by it."""
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._popen.poll() is None

    @property
    def output(self) -> str:
        """What it has written so far, both streams."""
        return self._output.read_text(errors="replace")

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for its end and give its status. Raise Unanswered after `timeout` seconds."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise Unanswered(f"{' '.join(self.argv)} still runs after {timeout:g} s:\n{self.output[-2000:]}") from error

    def stop(self, timeout: float = _STOP_SECONDS) -> int:
        """Ask it to end, kill it if it has not after `timeout` seconds, and give its status. Twice is fine."""
        self._signal(signal.SIGTERM)
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """Kill it as a crash would, and give its status. Twice is fine."""
        self._signal(signal.SIGKILL)
        return self._popen.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self.is_running:
            os.killpg(self.pid, number)


def run(
    netns: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    check: bool,
    text: str | None,
    timeout: float,
) -> Completed:
    """Run a program to its end. Raise CommandFailed with `check`, Unanswered after `timeout` seconds."""
    try:
        done = subprocess.run(
            _inside(netns, argv),
            env=dict(env),
            input=text if text is not None else "",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unanswered(f"on {netns}: {' '.join(argv)} did not end in {timeout:g} s") from error
    if check and done.returncode != 0:
        raise CommandFailed(argv, netns, done.returncode, done.stdout + done.stderr)
    return Completed(tuple(argv), done.returncode, done.stdout, done.stderr)


def processes_in(namespaces: Collection[tuple[int, int]]) -> list[int]:
    """The ids of all processes, this one excepted, whose network namespace is one of these (`netns.identity`)."""
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            status = os.stat(f"{entry.path}/ns/net")
        except OSError:  # it has ended, or is a zombie
            continue
        if (status.st_dev, status.st_ino) in namespaces:
            found.append(int(entry.name))
    return found


def stop_all_in(namespaces: Collection[tuple[int, int]], timeout: float = _STOP_SECONDS) -> None:
    """End every process in these namespaces: ask, then kill what is left after `timeout` seconds.

    Raise Unanswered if one outlives even that.
    """
    for number, patience in ((signal.SIGTERM, timeout), (signal.SIGKILL, timeout)):
        for pid in processes_in(namespaces):
            try:
                os.kill(pid, number)
            except ProcessLookupError:  # it has ended meanwhile
                pass
        deadline = time.monotonic() + patience
        while processes_in(namespaces):
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_SECONDS)
        else:
            return
    raise Unanswered(f"processes that cannot be killed: {processes_in(namespaces)}")


def _inside(netns: str, argv: Sequence[str]) -> list[str]:
    return ["ip", "netns", "exec", netns, "sh", "-c", _WITH_BPF, str(BPF), *argv]
