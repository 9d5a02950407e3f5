"""The system call bpf(2), by ctypes: commands as numbers, attributes as packed `union bpf_attr` (linux/bpf.h)."""

import ctypes
import errno
import os
import platform
import resource
import struct
from enum import IntEnum
from pathlib import Path

NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
"""The number of bpf(2) on each architecture (asm/unistd.h)."""

PROG_TYPE_SCHED_CLS = 3
NAME_BYTES = 15
"""Length of the names of maps and programs in the kernel: BPF_OBJ_NAME_LEN without its closing zero byte."""

# More than union bpf_attr has. The kernel writes some answers (PROG_QUERY's revision) behind the size that it is told.
_WHOLE = 512
_ATTEMPTS = 5  # while a signal interrupts the verifier (EAGAIN); libbpf tries as often


class Command(IntEnum):
    """enum bpf_cmd, as far as we use it."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_GET_FD_BY_ID = 13
    OBJ_GET_INFO_BY_FD = 15
    PROG_QUERY = 16
    MAP_LOOKUP_BATCH = 24
    MAP_UPDATE_BATCH = 26
    LINK_CREATE = 28
    LINK_UPDATE = 29
    LINK_DETACH = 34


class ObjectKind(IntEnum):
    """What a descriptor from bpf(2) refers to."""

    MAP = 1
    PROGRAM = 2
    LINK = 3


_KIND_OF_INODE = {
    "anon_inode:bpf-map": ObjectKind.MAP,
    "anon_inode:bpf-prog": ObjectKind.PROGRAM,
    "anon_inode:bpf-link": ObjectKind.LINK,
    "anon_inode:bpf_link": ObjectKind.LINK,
}
_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_uint]
_number = NUMBERS.get(platform.machine())


def bpf(command: Command, attributes: bytes | bytearray) -> int:
    """Make one call; what the kernel answers in the attributes is written into them if they are a bytearray.

    Buffers that the attributes point to must be kept alive by the caller. Raise OSError with the kernel's number,
    ENOSYS where the architecture is unknown.
    """
    if _number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    buffer = ctypes.create_string_buffer(bytes(attributes), max(len(attributes), _WHOLE))
    result: int = _syscall(_number, command, ctypes.addressof(buffer), len(attributes))
    failure = ctypes.get_errno()
    if isinstance(attributes, bytearray):
        attributes[:] = buffer.raw[: len(attributes)]
    if result < 0:
        raise OSError(failure, os.strerror(failure))
    return result


def allocate(command: Command, attributes: bytes | bytearray) -> int:
    """Like `bpf`, for what takes locked memory or the verifier's time: mends what can be mended, and tries again.

    Before Linux 5.11 memory of maps and programs counts against RLIMIT_MEMLOCK, and EPERM is what a lack of it is
    called. Raise OSError.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return bpf(command, attributes)
        except OSError as error:
            last = attempt == _ATTEMPTS - 1
            mended = error.errno == errno.EAGAIN or (error.errno == errno.EPERM and _lift_memory_limit())
            if last or not mended:
                raise
    raise AssertionError("unreachable")


def pin(fd: int, path: Path) -> None:
    """Give what the descriptor refers to a name in a BPF file system, which keeps it alive. Raise OSError."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    bpf(Command.OBJ_PIN, struct.pack("=QII", ctypes.addressof(name), fd, 0))


def open_pinned(path: Path) -> tuple[int, ObjectKind | None]:
    """A new descriptor of what is pinned at the path, and what it is; None if it is something else. Raise OSError."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    fd = bpf(Command.OBJ_GET, struct.pack("=QII", ctypes.addressof(name), 0, 0))
    return fd, _KIND_OF_INODE.get(os.readlink(f"/proc/self/fd/{fd}"))


def info(fd: int, size: int) -> bytes:
    """The first `size` bytes of struct bpf_map_info, bpf_prog_info or bpf_link_info of a descriptor.

    What an older kernel does not know is zero. Raise OSError.
    """
    answer = ctypes.create_string_buffer(size)
    bpf(Command.OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", fd, size, ctypes.addressof(answer)))
    return answer.raw


def kernel_name(name: str) -> bytes:
    """A name as the kernel takes it: cut to its length."""
    return name.encode("ascii")[:NAME_BYTES]


def possible_cpus() -> int:
    """How many values an entry of a per-CPU map has."""
    last = Path("/sys/devices/system/cpu/possible").read_text("ascii").strip().split(",")[-1]
    return int(last.split("-")[-1]) + 1


def _lift_memory_limit() -> bool:
    """Whether the limit was below all and is lifted now."""
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    if resource.getrlimit(resource.RLIMIT_MEMLOCK) == unlimited:
        return False
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
    except (OSError, ValueError):  # without the capability SYS_RESOURCE
        return False
    return True
