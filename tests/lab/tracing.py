"""What processes ask of their sockets, read from strace. UDP_SEGMENT hides the size of the datagrams: capture those."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed (Debian: strace)")

_CALLS = "trace=socket,setsockopt,sendto,sendmsg,sendmmsg,write,writev"
_SOCKET = re.compile(r"^socket\((\w+), ([\w|]+),")
_OPTION = re.compile(r"^setsockopt\(\d+<([\w-]+).*?\]>, (\w+), (\w+), (.*), \d+\) = 0")
_SEND = re.compile(
    r"^(sendto|sendmsg|sendmmsg|write|writev)\((\d+)<(UDP|RAW|PACKET):\[.*?\]>, (.*)\) = (-?\d+)(?: (\w+))?"
)
_LENGTH = re.compile(r"iov_len=(\d+)")
_PLAIN_LENGTH = re.compile(r'^(?:"(?:[^"\\]|\\.)*"(?:\.\.\.)?), (\d+)')
_UDP_SEGMENT = "cmsg_level=SOL_UDP, cmsg_type=0x67"  # 103, linux/udp.h


def strace(log: Path, *options: str) -> tuple[str, ...]:
    """Words before a command that trace it and all it starts, into files whose names begin with the log's."""
    # A file for each thread keeps calls whole. Arrays longer than -s are left out of what it writes without -v.
    return ("strace", "-ff", "--seccomp-bpf", *options, "-qq", "-v", "-yy", "-s1", "-e", _CALLS, "-o", str(log))


@dataclass(frozen=True, slots=True)
class Sent:
    """One UDP (RAW, PACKET) message given to the kernel; `pieces` are its lengths in memory, `error` EMSGSIZE, say."""

    fd: int
    socket: str
    pieces: tuple[int, ...]
    is_segmented: bool
    error: str | None

    @property
    def length(self) -> int:
        """Data bytes in all; several datagrams of it if it is segmented."""
        return sum(self.pieces)


@dataclass(frozen=True, slots=True)
class Trace:
    """What strace wrote. `opened` has families and types, `options` kinds of sockets, levels, options and values."""

    opened: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, str, str, str], ...]
    sent: tuple[Sent, ...]

    def raw_sockets(self) -> list[tuple[str, str]]:
        """Sockets that send what the kernel does not check; those of netlink are no such."""
        return [each for each in self.opened if each[0] == "AF_PACKET" or ("RAW" in each[1] and "INET" in each[0])]

    def by_fd(self) -> dict[int, list[Sent]]:
        """Messages by descriptor."""
        found: dict[int, list[Sent]] = {}
        for each in self.sent:
            found.setdefault(each.fd, []).append(each)
        return found


def read_trace(log: Path, pid: int | str = "*") -> Trace:
    """Read what was written by `strace(log)`, about one thread if its id is given."""
    lines = [line for path in sorted(log.parent.glob(f"{log.name}.{pid}")) for line in path.read_text().splitlines()]
    assert lines, "strace wrote nothing"
    opened = [(found[1], found[2]) for line in lines if (found := _SOCKET.match(line))]
    options = [(found[1], found[2], found[3], found[4]) for line in lines if (found := _OPTION.match(line))]
    return Trace(tuple(opened), tuple(options), tuple(each for line in lines for each in _sent(line)))


def _sent(line: str) -> Iterator[Sent]:
    found = _SEND.match(line)
    if found is None:
        assert not re.match(r"send\w+\(\d+<(UDP|RAW|PACKET)", line), f"not understood: {line}"
        return
    call, fd, kind, arguments, _, error = found.groups()
    messages = arguments.split("msg_hdr=")[1:] if call == "sendmmsg" else [arguments]
    for message in messages:
        if call in ("sendto", "write"):
            plain = _PLAIN_LENGTH.match(message)
            assert plain is not None, f"not understood: {line}"
            lengths = [plain[1]]
        else:
            lengths = _LENGTH.findall(message)
        yield Sent(int(fd), kind, tuple(map(int, lengths)), _UDP_SEGMENT in message, error)
