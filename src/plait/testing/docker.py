"""A Docker engine of its own for a test or a demonstration: no bridge, no firewall rules, nothing left behind.

It needs root, `dockerd` with `docker` (Debian: docker.io) and a static `busybox` (Debian: busybox-static).
The machine's own engine, if one runs, is neither used nor touched.
"""

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

IMAGE = "plait-busybox"
_CGROUPS = Path("/sys/fs/cgroup")
_START_SECONDS = 60.0  # a loaded machine needs several seconds for containerd and the first image store
_STOP_SECONDS = 20.0
_COMMAND_SECONDS = 60.0


class EngineFailed(Exception):
    """The engine did not start, or a `docker` command failed; the text has the last lines it wrote."""


@dataclass(frozen=True, slots=True)
class DockerEngine:
    """A running engine with one image, `IMAGE`, whose programs are busybox's."""

    address: str
    restart: Callable[[], None] | None = None
    """Ends the engine and starts it again, if it is one that we started."""

    def run(self, name: str, *command: str, network: str = "none", options: tuple[str, ...] = ()) -> str:
        """Start a container in the background and give its id. Without a command it sleeps until it is removed."""
        words = command or ("sleep", "2147483647")
        return self.docker("run", "-d", "--name", name, "--network", network, *options, IMAGE, *words)

    def pid(self, container: str) -> int:
        """The process id of a container's first process; 0 if it does not run."""
        return int(self.docker("inspect", "--format", "{{.State.Pid}}", container))

    def remove(self, container: str) -> None:
        """Kill and delete a container."""
        self.docker("rm", "--force", container)

    def docker(self, *words: str, stdin: bytes | None = None) -> str:
        """Run the `docker` command against this engine and give what it prints. Raise EngineFailed."""
        command = ["docker", "--host", self.address, *words]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=_COMMAND_SECONDS, check=False)
        if done.returncode != 0:
            raise EngineFailed(f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode().strip()


def why_not() -> str | None:
    """What is missing to run `docker_engine()` here, as a sentence; None if nothing."""
    if os.geteuid() != 0:
        return "a Docker engine needs root"
    packages = {"dockerd": "docker.io", "docker": "docker.io", "busybox": "busybox-static", "nsenter": "util-linux"}
    for program, package in packages.items():
        if shutil.which(program) is None:
            return f"{program} is missing; install the package {package}"
    if not _is_static(shutil.which("busybox") or ""):
        return "busybox is not the static one, which runs in an empty container; install the package busybox-static"
    return None


@contextlib.contextmanager
def docker_engine(netns: str | os.PathLike[str] | None = None) -> Iterator[DockerEngine]:
    """Run an engine, in the network namespace at the path `netns` if one is given, until the block ends.

    Containers that still exist then are killed; files, mounts, cgroups and processes of the engine go with it.
    Raise EngineFailed if it does not start; ask `why_not()` first.
    """
    with contextlib.ExitStack() as cleanup:
        home = Path(tempfile.mkdtemp(prefix="plait-docker-"))
        cleanup.callback(shutil.rmtree, home, ignore_errors=True)
        cleanup.callback(_unmount_below, home)
        cgroup = home.name
        cleanup.callback(remove_cgroups, cgroup)
        daemons = [_start(home, cgroup, netns)]
        cleanup.callback(lambda: _stop(daemons[-1]))

        def restart() -> None:
            _stop(daemons[-1])
            daemons.append(_start(home, cgroup, netns))
            _wait(engine, daemons[-1], home / "log")

        engine = DockerEngine(f"unix://{home}/sock", restart)
        _wait(engine, daemons[-1], home / "log")
        cleanup.callback(_remove_containers, engine)
        engine.docker("import", "-", IMAGE, stdin=image())
        yield engine


def _start(home: Path, cgroup: str, netns: str | os.PathLike[str] | None) -> subprocess.Popen[bytes]:
    enter = ["nsenter", f"--net={os.fspath(netns)}"] if netns is not None else []
    options = {
        "host": f"unix://{home}/sock",
        "data-root": f"{home}/data",
        "exec-root": f"{home}/exec",
        "pidfile": f"{home}/pid",
        "config-file": f"{home}/daemon.json",  # not the machine's
        "storage-driver": "vfs",
        "exec-opt": "native.cgroupdriver=cgroupfs",
        "cgroup-parent": f"/{cgroup}",
        "bridge": "none",
        "iptables": "false",
        "ip6tables": "false",
        "ip-forward": "false",
    }
    (home / "daemon.json").write_text("{}")
    with (home / "log").open("wb") as log:
        command = [*enter, "dockerd", *(f"--{name}={value}" for name, value in options.items())]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _wait(engine: DockerEngine, daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            engine.docker("version")
        except EngineFailed as error:
            if daemon.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            last_lines = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
            raise EngineFailed(f"dockerd did not start:\n{last_lines}") from error
        return


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _remove_containers(engine: DockerEngine) -> None:
    containers = engine.docker("ps", "--all", "--quiet").split()
    if containers:
        engine.docker("rm", "--force", *containers)


def image() -> bytes:
    """A root file system as tar: busybox, and a link to it for every program it can be."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise EngineFailed("busybox is missing; install the package busybox-static")
    programs = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for directory in ("bin", "etc", "proc", "sys", "dev", "tmp"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tar.add(busybox, "bin/busybox")
        for program in programs:
            if program != "busybox":
                entry = tarfile.TarInfo(f"bin/{program}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
    return archive.getvalue()


def _is_static(program: str) -> bool:
    """Whether an ELF file names no dynamic loader (the name stands near its start)."""
    with open(program, "rb") as file:
        return b"/ld-" not in file.read(4096)


def _unmount_below(home: Path) -> None:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((p for p in points if p.startswith(f"{home}/")), reverse=True):
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)


def remove_cgroups(name: str) -> None:
    """Delete the engine's empty cgroups: at the top in version 2, below every controller in version 1."""
    for top in [_CGROUPS / name, *_CGROUPS.glob(f"*/{name}")]:
        if top.is_dir():
            for directory, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):  # a process is still ending in it; an empty cgroup does no harm
                    os.rmdir(directory)
