"""The BPF file system, in which maps and links have names and outlive the process that made them."""

import ctypes
import errno
import os
from pathlib import Path

from plait.errors import KernelLacks, KernelRefused, PlaitError
from plait.host.kernel_errors import kernel_error

BPFFS = Path("/sys/fs/bpf")
"""Where every distribution and tool has it."""

_MOUNTS = Path("/proc/self/mountinfo")  # proc_pid_mountinfo(5)
_MOUNT_POINT, _SEPARATOR = 4, "-"  # the mount's directory; the file system's kind comes after the separator
_libc = ctypes.CDLL(None, use_errno=True)


def ensure_bpffs(path: Path = BPFFS) -> None:
    """Mount the BPF file system at the path unless the path is in one. Raise PermissionNeeded, KernelLacks, PlaitError.

    It stays mounted: what is pinned in it would be lost otherwise.
    """
    if mounted_kind(_MOUNTS.read_text("utf-8", "surrogateescape"), path) == "bpf":
        return
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        if path == BPFFS:  # sysfs has the directory wherever the kernel has the file system
            raise KernelLacks(
                f"there is no {path} to mount the BPF file system at: boot a kernel with CONFIG_BPF_SYSCALL, "
                f"and in a container pass the host's in ('--volume {path}:{path}')"
            ) from error
        raise kernel_error(error.errno or 0, f"make the directory {path} for the BPF file system") from error
    if _libc.mount(b"bpf", os.fsencode(path), b"bpf", 0, b"mode=0700") != 0:
        number = ctypes.get_errno()
        if number == errno.ENODEV:
            raise KernelLacks(
                f"cannot mount the BPF file system at {path}: this kernel has none; boot one with CONFIG_BPF_SYSCALL"
            )
        raise kernel_error(number, f"mount the BPF file system (mount -t bpf bpf {path})")


def pin_error(error: OSError, doing: str, path: Path) -> PlaitError:
    """Explain why something cannot be pinned or opened at a path: outside a BPF file system the kernel says EPERM."""
    if error.errno in (errno.EPERM, errno.EACCES):
        kind = mounted_kind(_MOUNTS.read_text("utf-8", "surrogateescape"), path.parent)
        if kind != "bpf":
            return KernelRefused(
                f"cannot {doing}: {path.parent} is in a file system {kind}, but must be in one of the kind bpf; "
                f"mount it with 'mount -t bpf bpf {BPFFS}'"
            )
    return kernel_error(error.errno or 0, doing)


def mounted_kind(mounts: str, path: Path) -> str | None:
    """The kind of the file system that a path is in, by the text of /proc/self/mountinfo; None if that does not say."""
    resolved = path.resolve()
    kind, depth = None, -1
    for line in mounts.splitlines():
        words = line.split(" ")
        if _SEPARATOR not in words or len(words) <= words.index(_SEPARATOR) + 1:
            continue
        directory = Path(_unescaped(words[_MOUNT_POINT]))
        # A later mount covers an earlier one at the same directory.
        if resolved.is_relative_to(directory) and len(directory.parts) >= depth:
            kind, depth = words[words.index(_SEPARATOR) + 1], len(directory.parts)
    return kind


def _unescaped(word: str) -> str:
    for character in " \t\n\\":
        word = word.replace(f"\\{ord(character):03o}", character)
    return word
