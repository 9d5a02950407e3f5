"""Network namespaces: being inside one for a moment, making and deleting named ones as `ip netns` does.

What is opened inside one (a socket, a netlink socket) stays there; so nothing needs a process of its own.
"""

import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from plait.errors import KernelRefused, PlaitError
from plait.host.kernel_errors import NoSuchNamespace, kernel_error

NAMED = Path("/run/netns")  # where iproute2 keeps them (ip-netns(8))

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 0x100000  # linux/mount.h
_MNT_DETACH = 2
_THREAD = "/proc/thread-self/ns/net"
_PROCESS = "/proc/self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def entered(path: str | os.PathLike[str]) -> Iterator[None]:
    """Run the calling thread, and no other, inside the namespace at this path until the block ends.

    Do not await inside it. Processes started inside it start there. Raise NoSuchNamespace or PermissionNeeded.
    """
    home = os.open(_THREAD, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(path)
        try:
            yield
        finally:
            _set(home, "return to the thread's own network namespace")
    finally:
        os.close(home)


def create(name: str) -> Path:
    """Make a named namespace, with its loopback down as the kernel gives it, and give its path.

    Raise KernelRefused if the name is taken.
    """
    path = NAMED / name
    _prepare_directory()
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
    except FileExistsError as error:
        raise KernelRefused(f"there is a network namespace {name} already; `ip netns` lists them") from error
    try:
        _bind_new(path)
    except BaseException:
        path.unlink()
        raise
    return path


def delete(name: str) -> None:
    """Delete the name; the namespace goes with its last process, socket and open file. Absent is fine."""
    path = NAMED / name
    with suppress(OSError):  # not mounted: a left-over file, to be unlinked
        _call("umount2", os.fsencode(path), _MNT_DETACH)
    with suppress(FileNotFoundError):
        path.unlink()


def identity(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Device and inode of the namespace at this path: equal for equal namespaces. Raise NoSuchNamespace.

    The kernel uses an inode number again once its namespace is gone.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise _no_namespace(path, error) from error
    return status.st_dev, status.st_ino


def is_ours(path: str | os.PathLike[str]) -> bool:
    """Whether the namespace at this path is the one that this process runs in. Raise NoSuchNamespace."""
    return identity(path) == identity(_PROCESS)


def _enter(path: str | os.PathLike[str]) -> None:
    try:
        target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _no_namespace(path, error) from error
    try:
        _set(target, f"enter the network namespace {os.fspath(path)}")
    finally:
        os.close(target)


def _no_namespace(path: str | os.PathLike[str], error: OSError) -> PlaitError:
    if isinstance(error, PermissionError):
        return kernel_error(error.errno or errno.EACCES, f"open the network namespace {os.fspath(path)}")
    return NoSuchNamespace(
        f"there is no network namespace at {os.fspath(path)} (any more): {error.strerror}; "
        "its container may have ended; `ip netns` lists the named ones"
    )


def _set(descriptor: int, doing: str) -> None:
    try:
        _call("setns", descriptor, _CLONE_NEWNET)
    except OSError as error:
        raise kernel_error(error.errno or 0, doing) from error


def _bind_new(path: Path) -> None:
    doing = f"create the network namespace {path.name}"
    home = os.open(_THREAD, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", _CLONE_NEWNET)
        try:
            _call("mount", os.fsencode(_thread_namespace()), os.fsencode(path), b"none", _MS_BIND, None)
        finally:
            _set(home, doing)
    except OSError as error:
        raise kernel_error(error.errno or 0, doing) from error
    finally:
        os.close(home)


def _thread_namespace() -> str:
    return f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net"


def _prepare_directory() -> None:
    """Make the directory a shared mount, as `ip netns` does, so that other mount namespaces see what is in it."""
    try:
        NAMED.mkdir(mode=0o755, exist_ok=True)
        descriptor = os.open(NAMED, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise kernel_error(error.errno or 0, f"prepare {NAMED}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # `ip netns` takes the same lock against two mounts on each other
        _share(os.fsencode(NAMED))
    except OSError as error:
        raise kernel_error(error.errno or 0, f"share the mount {NAMED}") from error
    finally:
        os.close(descriptor)


def _share(directory: bytes) -> None:
    try:
        _call("mount", b"", directory, b"none", _MS_SHARED | _MS_REC, None)
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: not a mount point yet
            raise
        _call("mount", directory, directory, b"none", _MS_BIND | _MS_REC, None)
        _call("mount", b"", directory, b"none", _MS_SHARED | _MS_REC, None)


def _call(function: str, *arguments: object) -> None:
    if getattr(_libc, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
