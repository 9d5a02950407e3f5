"""Cutting and joining by native/cutting.c, which does what cutting.py and coalescing.py do, ten times as fast.

What the compiled code leaves alone (headers beyond any usual length, bad arguments) the reference does.
"""

import ctypes
from collections.abc import Sequence

from plait.overlay.sleeve.cutting import PythonCutter, finish_checksum, frame_payload
from plait.overlay.sleeve.plait1.superframe import Layout
from plait.overlay.sleeve.plait1.wire import VNET_BYTES

_OUT_BYTES = 1 << 18
"""A super-frame cut into frames of 1400 bytes, or a usual burst; larger ones get a buffer of their own."""


class _Layout(ctypes.Structure):
    """struct plait_layout."""

    _fields_ = (
        ("ip", ctypes.c_size_t),
        ("l4", ctypes.c_size_t),
        ("payload", ctypes.c_size_t),
        ("is_ipv6", ctypes.c_int),
        ("is_tcp", ctypes.c_int),
    )


class CompiledCutter:
    """A Cutter; not to be shared between threads, since it has one buffer."""

    name = "compiled"

    def __init__(self, library: ctypes.CDLL) -> None:
        """`library`: the shared object that native/cutting.c is part of. Raises AttributeError if it is not."""
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        self._cut = library.plait_cut
        self._cut.argtypes = (ctypes.c_char_p, size, ctypes.POINTER(_Layout), size, size, pointer, size)
        self._cut.restype = size
        self._coalesce = library.plait_coalesce
        self._coalesce.argtypes = (pointer, pointer, size, pointer, size, pointer)
        self._coalesce.restype = size
        self._reference = PythonCutter(joins=True)
        self._out = ctypes.create_string_buffer(_OUT_BYTES)
        self._view = memoryview(self._out).cast("B")

    def finish_checksum(self, raw: bytes) -> bytes:
        """See Cutter. In Python, which is done before a call of C has begun."""
        return finish_checksum(raw)

    def cut(self, raw: bytes | memoryview, where: Layout, max_payload: int | None = None) -> list[bytes]:
        """See Cutter."""
        size = frame_payload(where, max_payload)
        head = where.payload - VNET_BYTES
        wanted = len(raw) + (len(raw) // size + 1) * head
        self._reserve(wanted)
        data = raw if isinstance(raw, bytes) else bytes(raw)
        fields = _Layout(where.ip, where.l4, where.payload, where.is_ipv6, where.is_tcp)
        total = self._cut(data, len(data), fields, size, 0, self._out, len(self._out))
        if not total:
            return self._reference.cut(raw, where, max_payload)
        step = head + size
        frames = bytes(self._view[:total])
        return [frames[at : at + step] for at in range(0, total, step)]

    def coalesce(self, frames: Sequence[bytes]) -> list[bytes]:
        """See Cutter."""
        count = len(frames)
        lengths = list(map(len, frames))
        self._reserve(sum(lengths) + count * VNET_BYTES)
        numbers = ctypes.c_uint32 * count
        out_lengths = numbers()
        pointers = (ctypes.c_char_p * count)(*frames)
        made = self._coalesce(pointers, numbers(*lengths), count, self._out, len(self._out), out_lengths)
        if not made:
            return self._reference.coalesce(frames)
        out, at, view = [], 0, self._view
        for length in out_lengths[:made]:
            out.append(bytes(view[at : at + length]))
            at += length
        return out

    def _reserve(self, size: int) -> None:
        if size > len(self._out):
            self._view.release()
            self._out = ctypes.create_string_buffer(size)
            self._view = memoryview(self._out).cast("B")
