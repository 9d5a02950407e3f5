"""The bridge's side of the pump: frames and super-frames from the tap in bursts, frames into the tap one by one."""

import errno as e
import io
import os
from collections.abc import Iterable, Sequence

from plait.host import tap
from plait.overlay.sleeve.plait1.engine import Buffer
from plait.overlay.sleeve.plait1.superframe import NEEDS_CSUM, PLAIN_VNET

_HEADER_BYTES = tap.VNET_HEADER.size
_HEAD_BYTES = 64
_BUFFER_BYTES = _HEADER_BYTES + (1 << 16) + 18
"""A frame with the largest packet, and an Ethernet header with a tag."""


class TapGone(Exception):
    """The link was removed."""

    @classmethod
    def of(cls, errno: int) -> "TapGone":
        """Make one from what the kernel says."""
        return cls(os.strerror(errno))


class TapPort:
    """Reads and writes frames behind virtio-net headers. Counts and keeps why the kernel refused frames."""

    def __init__(self, fd: int) -> None:
        self.refused = 0
        """Frames the kernel did not take, since the start."""
        self.errno = 0
        """Of the last refusal; 0 after a frame it took."""
        self.fd = fd
        self.buffer = bytearray(_BUFFER_BYTES)
        self.pending = 0
        """Bytes of a frame that lies in the buffer already, read by somebody else: the next `read` begins with it."""
        self._readinto = io.FileIO(fd, "r+", closefd=False).readinto
        self._view = memoryview(self.buffer)

    def accept_super_frames(self) -> bool:
        """Have the kernel hand over what it has not cut yet; says whether it knows super-frames of UDP too."""
        try:
            return tap.set_offloads(self.fd, tap.SUPER_FRAMES | tap.UDP_SUPER_FRAMES)
        except OSError as error:
            raise TapGone(error.strerror) from error

    def read(self, limit: int) -> tuple[list[bytes], memoryview | None]:
        """Give at most `limit` waiting single frames, and the super-frame that came after them, valid until the next.

        Raises TapGone.
        """
        frames: list[bytes] = []
        buffer, view, readinto = self.buffer, self._view, self._readinto
        try:
            for _ in range(limit):
                size: int | None = self.pending
                if size:
                    self.pending = 0
                else:
                    size = readinto(view)
                    if size is None:
                        break
                if buffer[1]:
                    return frames, view[:size]
                if buffer[0] > NEEDS_CSUM:  # the checksum was verified: nothing that anybody else must know
                    frames.append(PLAIN_VNET + view[_HEADER_BYTES:size])
                else:
                    frames.append(bytes(view[:size]))
        except OSError as error:
            raise TapGone(error.strerror) from error
        return frames, None

    def head(self) -> bytes:
        """Give the beginning of the frame in the buffer."""
        return bytes(self._view[:_HEAD_BYTES])

    def note_written(self, refused: int, errno: int | None) -> None:
        """Note what became of frames that somebody else wrote; `errno`: of the last, 0 if taken, None without any."""
        self.refused += refused
        if errno is not None:
            self.errno = errno

    def write(self, frames: Iterable[Sequence[Buffer]]) -> None:
        """Give frames to the bridge, each in pieces."""
        fd, write, writev = self.fd, os.write, os.writev
        for pieces in frames:
            try:
                if len(pieces) == 1:
                    write(fd, pieces[0])
                else:
                    writev(fd, pieces)
            except OSError as error:
                self.refused += 1
                self.errno = error.errno or e.EIO
            else:
                self.errno = 0
