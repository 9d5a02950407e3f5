"""Taps: Ethernet devices whose other end is a file descriptor. Opens one; placing the link is netlink's business.

A tap lives as long as a descriptor of it is open, so nothing is left behind by a process that dies.
"""

import errno
import fcntl
import os
import socket
from struct import Struct

from plait.errors import AlreadyRunning, KernelLacks, KernelRefused, PermissionNeeded, PlaitError, UsageError

DEVICE = "/dev/net/tun"
MAX_NAME_BYTES = 15
"""IFNAMSIZ without its closing zero byte."""

MAX_MTU = 65521
"""The kernel's limit of 65535 bytes counts the Ethernet header (tun_net_initialize)."""

QUEUE_FRAMES = 1000
"""Frames that wait for the reader: 7 ms of small ones, or 64 MB of super-frames, which no TCP window fills."""

TUNSETIFF = 0x400454CA
TUNSETOFFLOAD = 0x400454D0
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
TUN_F_CSUM = 0x01
TUN_F_TSO4 = 0x02
TUN_F_TSO6 = 0x04
TUN_F_TSO_ECN = 0x08
TUN_F_USO4 = 0x20
TUN_F_USO6 = 0x40
"""UFO (0x10) has no name here on purpose: it is never asked for (spec: ufo-bug)."""

SUPER_FRAMES = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN
UDP_SUPER_FRAMES = TUN_F_USO4 | TUN_F_USO6
"""Since Linux 6.2, and only both together."""

VNET_HEADER = Struct("=BBHHHH")
"""struct virtio_net_hdr, in front of each frame: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset."""

_SIOCSIFTXQLEN = 0x8943
_IFREQ = Struct("16sH22x")
_IFREQ_NUMBER = Struct("16si20x")


def open_tap(name: str, offloads: int = 0) -> int:
    """Open the tap `name`, making it if it is absent, and give a non-blocking descriptor.

    Each frame is preceded by VNET_HEADER. `offloads` (TUN_F_*) is what the reader copes with: unfinished
    checksums, TCP and UDP super-frames; those of UDP are left out where the kernel does not know them.
    Raises KernelLacks, PermissionNeeded, AlreadyRunning or KernelRefused.
    """
    if not 0 < len(os.fsencode(name)) <= MAX_NAME_BYTES:
        raise UsageError(f"{name!r} cannot be the name of a network interface: it needs 1 to {MAX_NAME_BYTES} bytes")
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _no_device(error) from error
    try:
        fcntl.ioctl(fd, TUNSETIFF, _IFREQ.pack(os.fsencode(name), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
        set_offloads(fd, offloads)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, _SIOCSIFTXQLEN, _IFREQ_NUMBER.pack(os.fsencode(name), QUEUE_FRAMES))
    except OSError as error:
        os.close(fd)
        raise _no_tap(name, error) from error
    return fd


def set_offloads(fd: int, offloads: int) -> bool:
    """Say what the reader copes with (TUN_F_*); False if the kernel knows no UDP super-frames, which are left out then.

    Raises OSError.
    """
    try:
        fcntl.ioctl(fd, TUNSETOFFLOAD, offloads)
    except OSError as error:
        if error.errno != errno.EINVAL or not offloads & UDP_SUPER_FRAMES:
            raise
        fcntl.ioctl(fd, TUNSETOFFLOAD, offloads & ~UDP_SUPER_FRAMES)
        return False
    return True


def _no_device(error: OSError) -> PlaitError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return PermissionNeeded(f"{DEVICE} cannot be opened ({error.strerror}): run plait as root")
    return KernelLacks(
        f"{DEVICE} cannot be opened ({error.strerror}), so frames cannot be carried in user space: load the kernel "
        f"module ('modprobe tun'), and in a container pass the device in ('--device {DEVICE}')"
    )


def _no_tap(name: str, error: OSError) -> PlaitError:
    match error.errno:
        case errno.EPERM | errno.EACCES:
            return PermissionNeeded(f"the tap {name} cannot be made: run plait as root, or with CAP_NET_ADMIN")
        case errno.EBUSY:
            return AlreadyRunning(f"the tap {name} belongs to another process: a node runs already, stop it first")
        case errno.EINVAL:
            return KernelRefused(
                f"the tap {name} cannot be made: a link of another kind has the name; if nothing uses it, "
                f"remove it with 'ip link delete {name}'"
            )
    return KernelRefused(f"the kernel refuses the tap {name}: {error.strerror}")
