"""The bridge's side of the pump: frames from the tap in bursts, frames into the tap one by one."""

import errno as e
import io
import os
from collections.abc import Iterable

from plait.host.tap import VNET_HEADER

_HEADER_BYTES = VNET_HEADER.size
_BUFFER_BYTES = _HEADER_BYTES + (1 << 16) + 18
"""A frame with the largest packet, and an Ethernet header with a tag."""

_NO_OFFLOAD = bytes(_HEADER_BYTES)


class TapGone(Exception):
    """The link was removed."""


class TapPort:
    """Reads and writes frames. Counts and keeps why the kernel refused frames."""

    def __init__(self, fd: int) -> None:
        self.refused = 0
        """Frames the kernel did not take, since the start."""
        self.errno = 0
        """Of the last refusal; 0 after a frame it took."""
        self._fd = fd
        self._readinto = io.FileIO(fd, "r+", closefd=False).readinto
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))

    def read(self, limit: int) -> list[bytes]:
        """Give at most `limit` waiting frames. Raises TapGone."""
        frames = []
        buffer, readinto = self._buffer, self._readinto
        try:
            for _ in range(limit):
                size = readinto(buffer)
                if size is None:
                    break
                frames.append(bytes(buffer[_HEADER_BYTES:size]))
        except OSError as error:
            raise TapGone(error.strerror) from error
        return frames

    def write(self, frames: Iterable[bytes]) -> None:
        """Give frames to the bridge."""
        fd, write = self._fd, os.write
        for frame in frames:
            try:
                write(fd, _NO_OFFLOAD + frame)
            except OSError as error:
                self.refused += 1
                self.errno = error.errno or e.EIO
            else:
                self.errno = 0
