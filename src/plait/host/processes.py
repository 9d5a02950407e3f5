"""Who holds a port, and what a process may and has; read from /proc."""

import ipaddress
import os
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_TABLES = ("tcp", "tcp6", "udp", "udp6")
_WAITING = {"tcp": "0A", "udp": "07"}  # net/tcp_states.h: TCP_LISTEN; TCP_CLOSE is a UDP socket without a remote end
_CAP_NET_ADMIN = 12  # linux/capability.h
_EVERY_UID = 1 << 32


@dataclass(frozen=True, slots=True)
class Holder:
    """A socket that waits at a port. `pid` is None for the kernel's own, and for those of whom nothing may be read."""

    protocol: str
    """`tcp` or `udp`."""
    address: str
    pid: int | None = None
    process: str = ""
    parent: int | None = None
    """The process that started it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a process: open files, how many it may have, and whether the machine lets it go beyond net.core's limits."""

    descriptors: int
    descriptor_limit: int
    is_net_admin: bool


def holders(port: int) -> list[Holder]:
    """Give who waits at a TCP or UDP port, in this process's network namespace."""
    sockets = {inode: (protocol, address) for protocol, address, inode in _sockets(port)}
    owners = _owners(sockets) if sockets else {}
    return [_holder(protocol, address, owners.get(inode)) for inode, (protocol, address) in sockets.items()]


def limits(pid: int) -> Limits | None:
    """Look at a process; None if it is gone or may not be looked at."""
    directory = Path("/proc", str(pid))
    try:
        status = dict(line.split(":", 1) for line in (directory / "status").read_text().splitlines() if ":" in line)
        files = next(line for line in (directory / "limits").read_text().splitlines() if line.startswith("Max open"))
        uids = (directory / "uid_map").read_text().split()
        return Limits(
            descriptors=len(os.listdir(directory / "fd")),
            descriptor_limit=int(files.split()[3]),
            is_net_admin=bool(int(status["CapEff"], 16) >> _CAP_NET_ADMIN & 1) and int(uids[2]) >= _EVERY_UID - 1,
        )
    except (OSError, StopIteration, ValueError, KeyError, IndexError):
        return None


def _sockets(port: int) -> Iterator[tuple[str, str, int]]:
    """Protocol, address and inode of each."""
    for table in _TABLES:
        try:
            rows = Path("/proc/net", table).read_text().splitlines()[1:]
        except OSError:
            continue  # a kernel without IPv6
        protocol = table[:3]
        for row in rows:
            words = row.split()
            address, _, number = words[1].partition(":")
            if int(number, 16) == port and words[3] == _WAITING[protocol]:
                yield protocol, _address(address), int(words[9])


def _address(text: str) -> str:
    """From the words of 32 bits that the kernel prints in its own byte order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    return str(ipaddress.ip_address(struct.pack(f"={len(words)}I", *words)))


def _owners(inodes: Collection[int]) -> dict[int, int]:
    """A process for each socket; the first, where several have it."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    owners: dict[int, int] = {}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        directory = f"/proc/{pid}/fd"
        try:
            for name in os.listdir(directory):
                inode = wanted.get(os.readlink(f"{directory}/{name}"))
                if inode is not None:
                    owners.setdefault(inode, pid)
        except OSError:
            continue  # it has ended, or is not ours to look at
        if len(owners) == len(wanted):
            break
    return owners


def _holder(protocol: str, address: str, pid: int | None) -> Holder:
    if pid is None:
        return Holder(protocol, address)
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except OSError:
        return Holder(protocol, address)
    return Holder(protocol, address, pid, name.partition("(")[2], int(rest.split()[1]))
