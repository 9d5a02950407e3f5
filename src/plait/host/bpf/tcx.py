"""Programs at traffic hooks by tcx links, held by a pin (Linux 6.6 and later; kernel: include/net/tcx.h)."""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import Struct, pack

from plait.errors import KernelRefused
from plait.host.bpf.bpffs import pin_error
from plait.host.bpf.syscall import Command, ObjectKind, bpf, info, open_pinned
from plait.host.bpf.syscall import pin as pin_descriptor
from plait.host.kernel_errors import kernel_error

INGRESS, EGRESS = 46, 47
"""enum bpf_attach_type BPF_TCX_INGRESS and BPF_TCX_EGRESS."""

_LINK_TYPE_TCX = 11  # enum bpf_link_type
_LINK_INFO = Struct("=III4xII")  # struct bpf_link_info: type, id, program, then interface, attach type
_LINK_CREATE = Struct("=IIIIIIQ")  # program, interface, attach type, flags, relative to, padding, revision
_QUERY = Struct("=IIIIQI4x")  # interface, attach type, query flags, attach flags, program ids, their number
_QUERY_COUNT_AT = 24
_MOST_PROGRAMS = 64  # BPF_MPROG_MAX: the kernel lets no more run at one hook


@dataclass(frozen=True, slots=True)
class _Link:
    fd: int
    program_id: int
    ifindex: int
    attach_type: int


def attach(program_fd: int, ifindex: int, attach_type: int, pin: Path, doing: str) -> None:
    """Have the program run at the hook, instead of the one of the link pinned there. Raise PlaitError."""
    with _opened(pin) as link:
        if link is not None:
            is_same = (link.ifindex, link.attach_type) == (ifindex, attach_type)
            if is_same and _update(link.fd, program_fd, doing):
                return
            _remove(link.fd, pin)
    try:
        fd = bpf(Command.LINK_CREATE, _LINK_CREATE.pack(program_fd, ifindex, attach_type, 0, 0, 0, 0))
    except OSError as error:
        raise kernel_error(error.errno or 0, doing) from error
    try:
        pin.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        pin_descriptor(fd, pin)
    except OSError as error:
        raise pin_error(error, f"{doing} and pin its link at {pin}", pin) from error
    finally:
        os.close(fd)  # without the pin this takes the program away again


def detach(pin: Path) -> None:
    """Take the program of the pinned link away at once, and the pin; absent is fine. Raise PlaitError."""
    with _opened(pin) as link:
        if link is not None:
            _remove(link.fd, pin)


def attached(ifindex: int, attach_type: int, pin: Path) -> int | None:
    """The number of the program that the pinned link runs at this hook; None if it does not. Raise PlaitError."""
    with _opened(pin) as link:
        is_there = link is not None and (link.ifindex, link.attach_type) == (ifindex, attach_type)
        return link.program_id if link is not None and is_there else None


def query(ifindex: int, attach_type: int) -> list[int]:
    """The numbers of all programs at the hook, in the order in which they run.

    Raise OSError: EINVAL where the kernel has no tcx, ENODEV without the interface.
    """
    numbers = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    block = bytearray(_QUERY.pack(ifindex, attach_type, 0, 0, ctypes.addressof(numbers), len(numbers)))
    try:
        bpf(Command.PROG_QUERY, block)
    except FileNotFoundError:  # no program was ever attached there
        return []
    return list(numbers[: int.from_bytes(block[_QUERY_COUNT_AT : _QUERY_COUNT_AT + 4], "little")])


@contextmanager
def _opened(pin: Path) -> Iterator[_Link | None]:
    """The link that is pinned at the path while the block runs, None without one."""
    doing = f"open the eBPF link pinned at {pin}"
    try:
        fd, kind = open_pinned(pin)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise pin_error(error, doing, pin) from error
    try:
        yield _inspected(fd, kind, doing)
    finally:
        os.close(fd)


def _inspected(fd: int, kind: ObjectKind | None, doing: str) -> _Link:
    if kind == ObjectKind.LINK:
        try:
            link_type, _, program_id, ifindex, attach_type = _LINK_INFO.unpack(info(fd, _LINK_INFO.size))
        except OSError as error:
            raise kernel_error(error.errno or 0, doing) from error
        if link_type == _LINK_TYPE_TCX:
            return _Link(fd, program_id, ifindex, attach_type)
    raise KernelRefused(f"cannot {doing}: what is there is no tcx link; remove the file if nothing uses it")


def _update(link_fd: int, program_fd: int, doing: str) -> bool:
    """Replace the link's program without a gap; False if its interface has just gone."""
    try:
        bpf(Command.LINK_UPDATE, pack("=IIII", link_fd, program_fd, 0, 0))
    except OSError as error:
        if error.errno == errno.ENOLINK:
            return False
        raise kernel_error(error.errno or 0, doing) from error
    return True


def _remove(link_fd: int, pin: Path) -> None:
    try:
        bpf(Command.LINK_DETACH, pack("=I", link_fd))
    except OSError:
        pass  # its interface is gone, and without its pin the link goes too
    try:
        pin.unlink(missing_ok=True)
    except OSError as error:
        raise kernel_error(error.errno or 0, f"remove the pin {pin}") from error
