"""Docker's overlay network (swarm mode), with Debian's engine and its defaults, an engine of its own for each host."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import machine
from bench.systems.base import System, number_of
from plait.host import netns
from plait.testing.docker import IMAGE, DockerEngine, EngineFailed, image, remove_cgroups
from plait.testing.lab import Container, Host, LabError, Process, wait_until

PROGRAMS = ("dockerd", "docker", "busybox")

_NETWORK = "bench"
_PORT = 2377
_START_SECONDS, _STOP_SECONDS = 60.0, 20.0
# Programs of a lab see a /sys of their namespace, without the cgroups that Docker needs: so each engine has a mount
# namespace made from the one of this process.
_WITH_CGROUPS = ("unshare", "--mount", "--propagation=slave")
# Docker bridges in a namespace of its own, which neither we nor its user see: what holds for all hosts holds there too.
_AS_ON_HOSTS = """
mask=$1
export mask
for namespace in "$0"/*; do
    nsenter --net="$namespace" unshare --mount sh -ec '
        mount -t sysfs sysfs /sys
        mount -o remount,rw /sys
        for queue in /sys/class/net/*/queues/rx-*/rps_cpus; do echo $mask >"$queue"; done
        for hook in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e "$hook" ] || echo 0 >"$hook"; done'
done
"""


class DockerSwarm(System):
    """The first host is the manager, the network attachable; containers have the addresses that Docker gives them.

    A container of the lab becomes the namespace that Docker makes for a busybox that sleeps.
    """

    def __init__(self) -> None:
        self._running: dict[Host, Process] = {}
        self._manager: Host | None = None
        self._cgroup = f"plait-swarm-{os.getpid()}-{id(self):x}"

    def launch(self, host: Host, peers: Sequence[Host]) -> None:
        """Start an engine, give it the image, and make a swarm with a network, or join it."""
        process = self._running[host] = host.spawn(self._command(host))
        wait_until(lambda: _answers(host, process), f"dockerd answers on {host.name}", _START_SECONDS)
        _docker(host, "import", "-", IMAGE, stdin=image())
        if self._manager is None:
            self._manager = host
            _docker(host, "swarm", "init", "--advertise-addr", host.ip)
            _docker(host, "network", "create", "--driver", "overlay", "--attachable", _NETWORK)
        else:
            token = _docker(self._manager, "swarm", "join-token", "--quiet", "worker")
            _docker(host, "swarm", "join", "--token", token, f"{self._manager.ip}:{_PORT}")

    def attach(self, host: Host, container: Container, cidr: str) -> None:
        """Run a container and have the lab's container be in its namespace; Docker chooses the address."""
        options = ("--detach", "--name", container.name, "--network", _NETWORK)
        _docker(host, "run", *options, IMAGE, "sleep", "2147483647")
        pid = _docker(host, "inspect", "--format", "{{.State.Pid}}", container.name)
        netns.delete(container.netns)
        # Here, not on the host: what programs of a lab mount, they alone see.
        subprocess.run(["ip", "netns", "attach", container.netns, pid], check=True)
        core = machine.core_of(number_of(host) - 1)
        words = [f"--mount=/proc/{self._running[host].pid}/ns/mnt", "sh", "-ec", _AS_ON_HOSTS]
        host.run(["nsenter", *words, f"{_home(host)}/exec/netns", machine.mask(core)])

    def processes(self, host: Host) -> Mapping[str, int]:
        """Give the engine and its containerd."""
        containerd = int((_home(host) / "exec/containerd/containerd.pid").read_text())
        return {"daemon": self._running[host].pid, "containerd": containerd}

    def close(self) -> None:
        """Remove the containers, then the engines: a sleeping busybox does not end when it is asked."""
        try:
            for host, process in self._running.items():
                _stop(host, process)
        finally:
            remove_cgroups(self._cgroup)

    def _command(self, host: Host) -> list[str]:
        home = _home(host)
        home.mkdir()
        (home / "daemon.json").write_text("{}")
        options = {
            "host": _address(host),
            "data-root": f"{home}/data",
            "exec-root": f"{home}/exec",
            "pidfile": f"{home}/pid",
            "config-file": f"{home}/daemon.json",  # not the machine's
            "storage-driver": "vfs",
            "exec-opt": "native.cgroupdriver=cgroupfs",
            "cgroup-parent": f"/{self._cgroup}",
        }
        ours = f"--mount=/proc/{os.getpid()}/ns/mnt"
        return ["nsenter", ours, *_WITH_CGROUPS, "dockerd", *(f"--{name}={value}" for name, value in options.items())]


def _home(host: Host) -> Path:
    return host.directory / "docker"


def _address(host: Host) -> str:
    return f"unix://{_home(host)}/sock"


def _stop(host: Host, process: Process) -> None:
    try:
        containers = _docker(host, "ps", "--all", "--quiet").split() if process.is_running else []
        if containers:
            _docker(host, "rm", "--force", *containers)
    finally:
        process.stop(_STOP_SECONDS)


def _answers(host: Host, process: Process) -> bool:
    if not process.is_running:
        raise LabError(f"dockerd ended on {host.name}:\n{process.output[-2000:]}")
    try:
        _docker(host, "version")
    except LabError:  # not yet
        return False
    return True


def _docker(host: Host, *words: str, stdin: bytes | None = None) -> str:
    try:
        return DockerEngine(_address(host)).docker(*words, stdin=stdin)
    except (EngineFailed, subprocess.TimeoutExpired) as error:
        raise LabError(f"docker on {host.name}: {error}") from error
