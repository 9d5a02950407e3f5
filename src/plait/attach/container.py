"""Finding the network namespace behind the words a user gives: `netns:NAME`, a process id, a Docker name or id.

It looks, and changes nothing.
"""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from plait.attach.runtime import ContainerNotRunning, ContainerRuntime, NoSuchContainer
from plait.errors import PermissionNeeded, PlaitError, UsageError

NAMED_PREFIX = "netns:"
NAMED_NAMESPACES = Path("/run/netns")  # where iproute2 keeps them (ip-netns(8))
_NAMESPACE_NAME = re.compile(r"[^/\0]{1,255}\Z")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_OWN_NAMESPACE = Path("/proc/self/ns/net")


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

    def is_alive(self) -> bool:
        """Whether the same namespace is still at its path."""
        try:
            return namespace_id(self.netns) == self.netns_id
        except OSError:
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
    """Identify the network namespace at this path. Raise OSError if there is none.

    Inode numbers of namespaces begin anew at every boot, so the boot is part of it.
    """
    status = os.stat(path)
    if status.st_dev != os.stat(_OWN_NAMESPACE).st_dev:
        raise FileNotFoundError(f"{path} is no namespace")
    return f"{_BOOT_ID.read_text().strip()}/{status.st_ino}"


def _is_process(text: str) -> bool:
    return text.isascii() and text.isdigit() and Path("/proc", text).exists()


def _named(name: str) -> Container:
    if not _NAMESPACE_NAME.match(name) or name in (".", ".."):
        raise UsageError(f"{name!r} is no name of a network namespace; `ip netns` lists them")
    path = NAMED_NAMESPACES / name
    if not path.exists():
        raise NoSuchContainer(f"there is no network namespace {path}; `ip netns` lists the named ones")
    if stat.S_ISREG(path.stat().st_mode) and path.stat().st_dev != os.stat(_OWN_NAMESPACE).st_dev:
        raise NoSuchContainer(
            f"{path} is a left-over file, no network namespace; remove it with `ip netns delete {name}`"
        )
    return _container(f"{NAMED_PREFIX}{name}", path, None, None)


def _process(ident: str, pid: int, docker_id: str | None) -> Container:
    return _container(ident, Path(f"/proc/{pid}/ns/net"), pid, docker_id)


def _container(ident: str, path: Path, pid: int | None, docker_id: str | None) -> Container:
    try:
        found, own = namespace_id(path), namespace_id(_OWN_NAMESPACE)
    except PermissionError as error:
        raise PermissionNeeded(f"cannot look into {path}: {error.strerror}; the node must run as root") from error
    except OSError as error:
        raise ContainerDied(ident) from error
    if found == own:
        raise _in_host_namespace()
    return Container(ident, path, found, pid, docker_id)


def _in_host_namespace() -> InHostNamespace:
    return InHostNamespace(
        "Container is running in the host network namespace, and therefore cannot be connected to\n"
        "weave - perhaps the container was started with --net=host"
    )
