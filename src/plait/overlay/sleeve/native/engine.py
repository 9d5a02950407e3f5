"""The Engine in C (engine.c) by cffi, and the choice between it and the reference.

cffi in ABI mode costs 0.7 us for a call with these arguments, ctypes 1.0 us, and only cffi takes read-only views.
"""

from typing import Any, Literal

import cffi

from plait.errors import PlaitError
from plait.overlay.sleeve.native.build import NotBuilt, built_library
from plait.overlay.sleeve.native.declarations import declarations
from plait.overlay.sleeve.plait1.engine import MAX_SLICES, Buffer, Engine, PythonEngine, Run, Segments
from plait.overlay.sleeve.plait1.keys import Key
from plait.overlay.sleeve.plait1.wire import HEADER_BYTES, RELAY_BYTES, SEGMENT_FIELDS, TAG_BYTES

_MAX_HEAD = HEADER_BYTES + RELAY_BYTES + SEGMENT_FIELDS.size + 255 + 1 + TAG_BYTES
_SEGMENTS_BYTES = 0xFFFF + MAX_SLICES * _MAX_HEAD
"""What any super-frame of a tap becomes."""

_BURST_BYTES = 1 << 16
"""What one receive gives at most; a larger one gets a larger buffer."""

_LOW = (1 << 64) - 1


class CompiledEngine:
    """An Engine; for one thread, since each result lies in a buffer that the next call of the same kind overwrites."""

    name = "compiled"

    def __init__(self, path: str) -> None:
        """`path`: the shared object. Raises OSError or AttributeError if it is none, NotBuilt without libcrypto."""
        self.ffi: Any = cffi.FFI()
        self.ffi.cdef(declarations("engine.h"))
        # A key may outlive the engine, and the code that frees it must still be there then.
        self.library: Any = self.ffi.dlopen(path, self.ffi.RTLD_NOW | self.ffi.RTLD_NODELETE)
        if self.library.plait_crypto_find():
            raise NotBuilt("the C code found no libcrypto.so.3 or libcrypto.so.1.1 (apt install libssl3)")
        self._segment = self.library.plait_segment
        self._open_run = self.library.plait_open_run
        self._from_buffer = self.ffi.from_buffer
        self._bytes = self.ffi.typeof("uint8_t[]")
        self._null = self.ffi.NULL
        self._reference = PythonEngine()
        self._segments, self._segments_view = self._buffer(_SEGMENTS_BYTES)
        self._frames, self._frames_view = self._buffer(_BURST_BYTES)
        self._run = self.ffi.new("struct plait_run *")

    def segment(
        self, blob: bytes, payload: memoryview, clear: bytes, sequence: int, slice_bytes: int, key: Key | None
    ) -> Segments:
        """See Engine."""
        payload_bytes, head = len(payload), len(clear) + SEGMENT_FIELDS.size + len(blob)
        total = 0
        native = self._null if key is None else self.native_key(key)
        if native is not None:
            total = self._segment(
                native, blob, len(blob), self._from_buffer(self._bytes, payload), payload_bytes, clear, len(clear),
                sequence, slice_bytes, self._segments, _SEGMENTS_BYTES,
            )  # fmt: skip
        if not total:
            return self._reference.segment(blob, payload, clear, sequence, slice_bytes, key)
        size = head + 1 + slice_bytes + (0 if key is None else 2 * TAG_BYTES)
        return Segments([self._segments_view[:total]], 0, -(-payload_bytes // slice_bytes), size, total)

    def open_run(
        self, data: bytearray, at: int, end: int, step: int, clear_bytes: int, seen: int, key: Key | None
    ) -> Run:
        """See Engine."""
        if not (0 <= at < end <= len(data) and step > 0):
            raise ValueError(f"no datagrams of {step} bytes from {at} to {end} in {len(data)} bytes")
        native = self._null if key is None else self.native_key(key)
        if native is None:
            return self._reference.open_run(data, at, end, step, clear_bytes, seen, key)
        if end - at > len(self._frames_view):
            self._frames, self._frames_view = self._buffer(end - at)
        low, high = (seen & _LOW, seen >> 64 & _LOW) if seen else (0, 0)
        self._open_run(
            native, self._from_buffer(self._bytes, data), at, end, step, clear_bytes, low, high, self._frames, self._run
        )
        return self._read(self._run)

    def native_key(self, key: Key) -> Any:
        """Give the C side of a key, which lives as long as it; None if libcrypto does not do its cipher."""
        if key.native is None:
            made = self.library.plait_key_new(int(key.cipher), key.raw)
            key.native = self.ffi.gc(made, self.library.plait_key_free) if made else False
        return key.native or None

    def _read(self, run: Any) -> Run:
        view, start = self._frames_view, 0
        frames: list[list[Buffer]] = []
        lengths, mask = run.lengths, run.mask
        for number in range(run.frames):
            end = start + lengths[number]
            frames.append([view[start:end]])
            start = end
        return Run(run.next_at, frames, mask[1] << 64 | mask[0], run.forged, run.malformed, run.replayed)

    def _buffer(self, size: int) -> tuple[Any, memoryview]:
        buffer = self.ffi.new("uint8_t[]", size)
        return buffer, memoryview(self.ffi.buffer(buffer)).cast("B")


def load_engine(wanted: Literal["auto", "python", "compiled"]) -> tuple[Engine, str]:
    """Give an engine, and a sentence for `status` that says which and why.

    Builds nothing: see `build`. Raises PlaitError if "compiled" is wanted and cannot be had.
    """
    if wanted == "python":
        return PythonEngine(), "Python loop"
    try:
        return CompiledEngine(str(built_library())), "compiled loop"
    except NotBuilt as error:
        reason = str(error)
    except (OSError, AttributeError) as error:
        reason = f"the compiled code cannot be loaded ({error})"
    if wanted == "compiled":
        raise PlaitError(f"the compiled loop was asked for, but {reason}; `--sleeve-loop auto` does without")
    return PythonEngine(), f"Python loop: {reason}"
