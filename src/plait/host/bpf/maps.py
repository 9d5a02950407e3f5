"""Maps: the tables that eBPF programs and this process share.

Keys and values are bytes as the C structs lay them out. Any thread may use a map.
"""

import ctypes
import errno
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from struct import Struct, pack
from typing import Literal, Self

from plait.errors import KernelRefused, NotFound, PlaitError
from plait.host.bpf.bpffs import pin_error
from plait.host.bpf.spec import F_MMAPABLE, F_NO_COMMON_LRU, F_NO_PREALLOC, MapKind, MapSpec
from plait.host.bpf.syscall import (
    Command,
    ObjectKind,
    allocate,
    bpf,
    info,
    kernel_name,
    open_pinned,
    pin,
    possible_cpus,
)
from plait.host.kernel_errors import kernel_error

__all__ = ["F_MMAPABLE", "F_NO_COMMON_LRU", "F_NO_PREALLOC", "Map", "MapFull", "MapKind", "MapSpec", "Only"]

Only = Literal["any", "new", "existing"]

_ELEMENT = Struct("=IIQQQ")  # union bpf_attr for *_ELEM: map, padding, key, value or next key, flags
_DELETION = 16  # the kernel refuses longer attributes in a deletion unless they are zero
_BATCH = Struct("=QQQQIIQQ")  # in, out, keys, values, count, map, element flags, flags
_BATCH_COUNT = Struct("=I")
_BATCH_COUNT_AT = 32
_INFO = Struct("=IIIIII16s")  # struct bpf_map_info: type, id, key size, value size, entries, flags, name
_ONLY: dict[Only, int] = {"any": 0, "new": 1, "existing": 2}  # BPF_ANY, BPF_NOEXIST, BPF_EXIST
_PER_CPU = (MapKind.PERCPU_ARRAY, MapKind.PERCPU_HASH)
_ARRAYS = (MapKind.ARRAY, MapKind.PERCPU_ARRAY)
_CPU_ALIGNMENT = 8
_BATCH_ENTRIES, _BATCH_BYTES = 4096, 1 << 20  # of one system call
_WALKS = 4  # times as many steps as a map has entries: how often others' deletions may set back a walk by keys
_ENOTSUPP = 524  # linux/errno.h, not for user space, but it gets here
_NO_BATCH = (errno.EINVAL, errno.EOPNOTSUPP, _ENOTSUPP)


class MapFull(KernelRefused):
    """A map has no room for a new entry."""


class Map:
    """An open map. `fd` is its descriptor; the other fields are what the kernel has, `name` as the opener knows it."""

    def __init__(self, spec: MapSpec, fd: int) -> None:
        self.name, self.kind, self.fd = spec.name, spec.kind, fd
        self.key_size, self.value_size, self.max_entries = spec.key_size, spec.value_size, spec.max_entries
        self.flags = spec.flags
        self._cpus = possible_cpus() if spec.kind in _PER_CPU else 0
        self._slot = -(-spec.value_size // _CPU_ALIGNMENT) * _CPU_ALIGNMENT if self._cpus else spec.value_size
        self._value_bytes = self._slot * (self._cpus or 1)

    @classmethod
    def create(cls, spec: MapSpec) -> Self:
        """Make a map; it lives as long as a descriptor, a program or a pin holds it. Raise PlaitError."""
        numbers = (spec.kind, spec.key_size, spec.value_size, spec.max_entries, spec.flags, 0, 0)
        try:
            fd = allocate(Command.MAP_CREATE, pack("=7I16s", *numbers, kernel_name(spec.name)))
        except OSError as error:
            raise kernel_error(error.errno or 0, f"make the eBPF map {spec.name}") from error
        try:
            return cls(_spec_of(fd, spec.name), fd)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def open_pinned(cls, path: Path) -> Self:
        """Open the map that is pinned at the path, named as the file is. Raise NotFound, KernelRefused."""
        doing = f"open the eBPF map pinned at {path}"
        try:
            fd, kind = open_pinned(path)
        except FileNotFoundError as error:
            raise NotFound(f"there is no eBPF map pinned at {path}") from error
        except OSError as error:
            raise pin_error(error, doing, path) from error
        try:
            if kind != ObjectKind.MAP:
                raise KernelRefused(f"cannot {doing}: what is there is no map; remove it if nothing uses it")
            return cls(_spec_of(fd, path.name), fd)
        except BaseException:
            os.close(fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Map {self.name} {self.kind.name} fd={self.fd}>"

    @property
    def spec(self) -> MapSpec:
        """What the map is, to be compared with what is wanted."""
        return MapSpec(self.name, self.kind, self.key_size, self.value_size, self.max_entries, self.flags)

    @property
    def is_per_cpu(self) -> bool:
        """Whether each entry has a value for each CPU."""
        return self._cpus > 0

    def close(self) -> None:
        """Close the descriptor; twice is fine. A pinned map lives on."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def pin(self, path: Path) -> None:
        """Give the map a name in a BPF file system, under which it outlives this process. Raise PlaitError."""
        try:
            pin(self.fd, path)
        except OSError as error:
            raise pin_error(error, f"pin the eBPF map {self.name} at {path}", path) from error

    def lookup(self, key: bytes) -> bytes | None:
        """The value of a key, None without one. Raise PlaitError; not for per-CPU maps."""
        self._expect(per_cpu=False)
        return self._lookup(key)

    def lookup_per_cpu(self, key: bytes) -> list[bytes] | None:
        """The values of a key, one for each possible CPU; None if there are none. Raise PlaitError."""
        self._expect(per_cpu=True)
        raw = self._lookup(key)
        return None if raw is None else self._split(raw)

    def update(self, key: bytes, value: bytes, only: Only = "any") -> bool:
        """Set the value of a key, on every CPU if the map has one for each.

        `only` "new": unless it has one, "existing": if it has one; False if that kept it from being set. "existing"
        and "any" replace a hash's value as a whole, an array's in place. Raise MapFull, PlaitError.
        """
        key_buffer, value_buffer = self._key(key), self._value(value)
        block = _ELEMENT.pack(self.fd, 0, ctypes.addressof(key_buffer), ctypes.addressof(value_buffer), _ONLY[only])
        try:
            bpf(Command.MAP_UPDATE_ELEM, block)
        except OSError as error:
            if (only, error.errno) in (("new", errno.EEXIST), ("existing", errno.ENOENT)):
                return False
            raise self._explained(error, "write into") from error
        return True

    def update_many(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Set the values of many keys, with few system calls where the kernel can. Raise MapFull, PlaitError.

        After an error some are set.
        """
        rest = iter(items)
        while chunk := list(islice(rest, self._batch_entries())):
            if not self._update_batch(chunk):
                for key, value in chunk:
                    self.update(key, value)

    def delete(self, key: bytes) -> bool:
        """Delete an entry; False if there was none. Raise PlaitError, also for arrays, whose entries stay."""
        buffer = self._key(key)
        try:
            bpf(Command.MAP_DELETE_ELEM, _ELEMENT.pack(self.fd, 0, ctypes.addressof(buffer), 0, 0)[:_DELETION])
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._explained(error, "delete from") from error
        return True

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, in no order. Raise PlaitError; not for per-CPU maps.

        The caller may change and delete entries meanwhile, and still sees each that stays once. It ends also while
        programs fill the map: what they add or remove meanwhile may be seen or not.
        """
        self._expect(per_cpu=False)
        return self._items()

    def items_per_cpu(self) -> Iterator[tuple[bytes, list[bytes]]]:
        """As `items`, for per-CPU maps: the values of each key as `lookup_per_cpu` gives them."""
        self._expect(per_cpu=True)
        return ((key, self._split(raw)) for key, raw in self._items())

    def _lookup(self, key: bytes) -> bytes | None:
        key_buffer, value_buffer = self._key(key), ctypes.create_string_buffer(self._value_bytes)
        block = _ELEMENT.pack(self.fd, 0, ctypes.addressof(key_buffer), ctypes.addressof(value_buffer), 0)
        try:
            bpf(Command.MAP_LOOKUP_ELEM, block)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._explained(error, "read") from error
        return value_buffer.raw

    def _items(self) -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from self._batches()
        except OSError as error:
            raise self._explained(error, "list") from error

    def _batches(self) -> Iterator[tuple[bytes, bytes]]:
        """Read bucket by bucket: the place in the map is a bucket's number, which no deletion moves."""
        place: ctypes.Array[ctypes.c_char] | None = None
        entries = self._batch_entries()
        # A batch advances by a bucket at least, and there are not more than twice as many buckets as entries.
        for _ in range(4 * self.max_entries + 64):
            try:
                found, place, is_last = self._read_batch(place, entries)
            except OSError as error:
                if error.errno == errno.ENOSPC:  # one bucket has more entries than were asked for
                    entries *= 2
                    continue
                if place is None and error.errno in _NO_BATCH:
                    yield from self._walk()
                    return
                raise
            yield from found
            if is_last:
                return

    def _read_batch(
        self, place: ctypes.Array[ctypes.c_char] | None, entries: int
    ) -> tuple[list[tuple[bytes, bytes]], ctypes.Array[ctypes.c_char], bool]:
        """Entries from a place on, the place after them, and whether they were the last."""
        after = ctypes.create_string_buffer(max(self.key_size, _CPU_ALIGNMENT))
        keys = ctypes.create_string_buffer(self.key_size * entries)
        values = ctypes.create_string_buffer(self._value_bytes * entries)
        start = 0 if place is None else ctypes.addressof(place)
        buffers = (start, ctypes.addressof(after), ctypes.addressof(keys), ctypes.addressof(values))
        block = bytearray(_BATCH.pack(*buffers, entries, self.fd, 0, 0))
        is_last = False
        try:
            bpf(Command.MAP_LOOKUP_BATCH, block)
        except FileNotFoundError:
            is_last = True  # and the count holds
        (count,) = _BATCH_COUNT.unpack_from(block, _BATCH_COUNT_AT)
        found_keys = _cut(ctypes.string_at(keys, count * self.key_size), self.key_size)
        found_values = _cut(ctypes.string_at(values, count * self._value_bytes), self._value_bytes)
        return list(zip(found_keys, found_values, strict=True)), after, is_last

    def _walk(self) -> Iterator[tuple[bytes, bytes]]:
        """Read key by key: all keys first, for a deleted one would send the walk back to the start."""
        seen: dict[bytes, None] = {}
        key: bytes | None = None
        for _ in range(_WALKS * self.max_entries):
            key = self._next_key(key)
            if key is None:
                break
            seen[key] = None
        for key in seen:
            value = self._lookup(key)
            if value is not None:
                yield key, value

    def _next_key(self, key: bytes | None) -> bytes | None:
        before = None if key is None else self._key(key)
        after = ctypes.create_string_buffer(self.key_size)
        start = 0 if before is None else ctypes.addressof(before)
        try:
            bpf(Command.MAP_GET_NEXT_KEY, _ELEMENT.pack(self.fd, 0, start, ctypes.addressof(after), 0))
        except FileNotFoundError:
            return None
        return after.raw

    def _update_batch(self, chunk: list[tuple[bytes, bytes]]) -> bool:
        """False if the kernel did not take all; setting them once more, one by one, tells why."""
        keys = b"".join(self._key(key).raw for key, _ in chunk)
        values = b"".join(self._value(value).raw for _, value in chunk)
        key_buffer = ctypes.create_string_buffer(keys, len(keys))
        value_buffer = ctypes.create_string_buffer(values, len(values))
        places = (0, 0, ctypes.addressof(key_buffer), ctypes.addressof(value_buffer))
        try:
            bpf(Command.MAP_UPDATE_BATCH, _BATCH.pack(*places, len(chunk), self.fd, 0, 0))
        except OSError:
            return False
        return True

    def _batch_entries(self) -> int:
        fitting = _BATCH_BYTES // (self.key_size + self._value_bytes)
        return max(64, min(_BATCH_ENTRIES, fitting, self.max_entries))

    def _key(self, key: bytes) -> ctypes.Array[ctypes.c_char]:
        if len(key) != self.key_size or not key:
            raise ValueError(f"a key of the map {self.name} has {self.key_size} bytes, not {len(key)}")
        return ctypes.create_string_buffer(key, len(key))

    def _value(self, value: bytes) -> ctypes.Array[ctypes.c_char]:
        if len(value) != self.value_size:
            raise ValueError(f"a value of the map {self.name} has {self.value_size} bytes, not {len(value)}")
        raw = value.ljust(self._slot, b"\0") * self._cpus if self._cpus else value
        return ctypes.create_string_buffer(raw, len(raw))

    def _split(self, raw: bytes) -> list[bytes]:
        return [raw[at : at + self.value_size] for at in range(0, len(raw), self._slot)]

    def _expect(self, *, per_cpu: bool) -> None:
        if per_cpu != self.is_per_cpu or self.kind == MapKind.RINGBUF:
            raise ValueError(f"the map {self.name}, a {self.kind.name}, cannot be read in this way")

    def _explained(self, error: OSError, doing: str) -> PlaitError:
        if error.errno == errno.E2BIG and doing == "write into":
            if self.kind in _ARRAYS:
                return KernelRefused(f"the eBPF map {self.name} has no entry of this number, only {self.max_entries}")
            return MapFull(f"the eBPF map {self.name} is full with its {self.max_entries} entries: delete some first")
        return kernel_error(error.errno or 0, f"{doing} the eBPF map {self.name}")


def _cut(raw: bytes, size: int) -> list[bytes]:
    return [raw[at : at + size] for at in range(0, len(raw), size)]


def _spec_of(fd: int, name: str) -> MapSpec:
    """What the kernel says of an open map. Raise KernelRefused for kinds that we do not use."""
    try:
        kind, _, key_size, value_size, entries, flags, _ = _INFO.unpack(info(fd, _INFO.size))
    except OSError as error:
        raise kernel_error(error.errno or 0, f"look at the eBPF map {name}") from error
    try:
        return MapSpec(name, MapKind(kind), key_size, value_size, entries, flags)
    except ValueError as error:
        raise KernelRefused(f"the eBPF map {name} is of a kind ({kind}) that plait does not use") from error
