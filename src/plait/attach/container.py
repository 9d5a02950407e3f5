"""Finding the network namespace behind the words a user gives: `netns:NAME`, a process id, a Docker name or id.

It looks, and changes nothing.
"""

import re
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from plait.attach.runtime import ContainerNotRunning, ContainerRuntime, NoSuchContainer
from plait.errors import PlaitError, UsageError
from plait.host import netns
from plait.host.kernel_errors import NoSuchNamespace

NAMED_PREFIX = "netns:"
_NAMESPACE_NAME = re.compile(r"[^/\0]{1,255}\Z")
_SO_NETNS_COOKIE = 71  # asm-generic/socket.h
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class InHostNamespace(PlaitError):
    """The container shares the node's network namespace."""


class ContainerDied(PlaitError):
    """The container's network namespace vanished."""

    def __init__(self, ident: str) -> None:
        super().__init__(f"Container {ident} died")


@dataclass(frozen=True, slots=True)
class Container:
    """A network namespace to attach to. `netns_id` tells it from every other namespace of this boot and of others."""

    ident: str
    netns: Path
    netns_id: str
    pid: int | None = None
    docker_id: str | None = None

    @property
    def inode(self) -> int:
        """The namespace's inode number; live namespaces never share one."""
        return int(self.netns_id.split("/")[1])

    def is_alive(self) -> bool:
        """Whether the same namespace is still at its path."""
        try:
            return namespace_id(self.netns) == self.netns_id
        except NoSuchNamespace:
            return False


async def resolve(text: str, runtime: ContainerRuntime | None) -> Container:
    """Find a container.

    Raise NoSuchContainer, ContainerNotRunning, InHostNamespace, ContainerDied, RuntimeUnavailable or UsageError.
    """
    if text.startswith(NAMED_PREFIX):
        return _named(text.removeprefix(NAMED_PREFIX))
    if _is_process(text):
        return _process(text, int(text), None)
    if not text:
        raise UsageError("no container is named; give netns:NAME, a process id, or a Docker name or id")
    if runtime is None:
        raise NoSuchContainer(
            f"unable to inspect container {text}: this node does not use Docker; name it by process id or netns:NAME"
        )
    found = await runtime.inspect(text)
    if not found.running or found.pid == 0:
        raise ContainerNotRunning(f"container {text} not running")
    if found.network_mode == "host":
        raise _in_host_namespace()
    return _process(found.ident, found.pid, found.ident)


def namespace_id(path: Path) -> str:
    """Identify the network namespace at this path. Raise NoSuchNamespace if there is none.

    Inode numbers come back once a namespace is gone, cookies begin anew at every boot: so all three are in it.
    """
    device, inode = netns.identity(path)
    if device != netns.identity("/proc/self/ns/net")[0]:
        raise NoSuchNamespace(f"{path} is a left-over file, no network namespace; remove it with `ip netns delete`")
    with netns.entered(path):
        cookie = _cookie()
    return f"{_BOOT_ID.read_text().strip()}/{inode}/{cookie}"


def _cookie() -> int:
    """The number of the thread's namespace; 0 before Linux 5.14, which leaves the inode alone to tell them apart."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            raw = probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        except OSError:
            return 0
    return int.from_bytes(raw, sys.byteorder)


def _is_process(text: str) -> bool:
    return text.isascii() and text.isdigit() and Path("/proc", text).exists()


def _named(name: str) -> Container:
    if not _NAMESPACE_NAME.match(name) or name in (".", ".."):
        raise UsageError(f"{name!r} is no name of a network namespace; `ip netns` lists them")
    try:
        return _container(f"{NAMED_PREFIX}{name}", netns.NAMED / name, None, None)
    except NoSuchNamespace as error:
        raise NoSuchContainer(str(error)) from error


def _process(ident: str, pid: int, docker_id: str | None) -> Container:
    try:
        return _container(ident, Path(f"/proc/{pid}/ns/net"), pid, docker_id)
    except NoSuchNamespace as error:
        raise ContainerDied(ident) from error


def _container(ident: str, path: Path, pid: int | None, docker_id: str | None) -> Container:
    found = namespace_id(path)
    if netns.is_ours(path):
        raise _in_host_namespace()
    return Container(ident, path, found, pid, docker_id)


def _in_host_namespace() -> InHostNamespace:
    return InHostNamespace(
        "Container is running in the host network namespace, and therefore cannot be connected to\n"
        "weave - perhaps the container was started with --net=host"
    )
