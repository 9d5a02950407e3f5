"""The reader's end of a ring buffer: records that eBPF programs send to this process (kernel: bpf/ringbuf.rst)."""

import mmap
import threading
from typing import Self

from plait.host.bpf.maps import Map
from plait.host.bpf.spec import MapKind
from plait.host.kernel_errors import kernel_error

RECORDS_PER_READ = 1024
"""At most so many records are taken in one call, so that a flood leaves the event loop its turn."""

_BUSY, _DISCARDED = 1 << 31, 1 << 30  # BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT
_LENGTH = _DISCARDED - 1
_HEADER = 8  # BPF_RINGBUF_HDR_SZ
_ALIGNMENT = 8


class RingBuffer:
    """Reads a map of the kind RINGBUF; the map stays the caller's. There must be only one reader at a time.

    `fileno()` is readable while there are records, so the event loop's `add_reader` fits.
    """

    def __init__(self, map: Map) -> None:
        if map.kind != MapKind.RINGBUF:
            raise ValueError(f"the map {map.name} is no ring buffer but a {map.kind.name}")
        page = mmap.PAGESIZE
        self._map, self._size = map, map.max_entries
        try:
            self._consumer = mmap.mmap(map.fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            # The producer's page and the data, which are mapped twice, so that no record is in two parts.
            self._producer = mmap.mmap(map.fd, page + 2 * self._size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        except OSError as error:
            raise kernel_error(error.errno or 0, f"map the ring buffer {map.name} into memory") from error
        self._data_at = page
        # Indexing these is one load or store of a whole word, which slicing an mmap does not promise.
        self._consumer_words = memoryview(self._consumer).cast("Q")
        self._producer_words = memoryview(self._producer).cast("Q")
        self._lengths = memoryview(self._producer).cast("I")
        self._order = threading.Lock()
        self._order.acquire()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._map.fd

    def read(self) -> list[bytes]:
        """All records that are there, oldest first, at most RECORDS_PER_READ; discarded ones are left out.

        A record that is still being written holds back those behind it.
        """
        records: list[bytes] = []
        position = self._consumer_words[0]
        produced = self._producer_words[0]
        self._fence()
        for _ in range(RECORDS_PER_READ):
            if position >= produced:
                break
            start = self._data_at + position % self._size
            length = self._lengths[start // 4]
            if length & _BUSY:
                break
            self._fence()
            size = length & _LENGTH
            if not length & _DISCARDED:
                records.append(self._producer[start + _HEADER : start + _HEADER + size])
            position += -(-(_HEADER + size) // _ALIGNMENT) * _ALIGNMENT
        self._fence()
        self._consumer_words[0] = position
        return records

    def waiting_at(self) -> int | None:
        """Give the position of the oldest record that was not read; None if there is none."""
        position = self._consumer_words[0]
        return position if position < self._producer_words[0] else None

    def close(self) -> None:
        """Give the memory back; twice is fine."""
        for view in (self._consumer_words, self._producer_words, self._lengths):
            view.release()
        self._consumer.close()
        self._producer.close()

    def _fence(self) -> None:
        """Keep the processor from swapping loads and stores before and after, as aarch64 may.

        Python has no fence; a lock that is released and taken again is one.
        """
        self._order.release()
        self._order.acquire()
