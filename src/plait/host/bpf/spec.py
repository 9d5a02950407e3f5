"""What a map is to be: its kind and sizes. Pure."""

from dataclasses import dataclass
from enum import IntEnum

from plait.errors import PlaitError


class BadObject(PlaitError):
    """A compiled eBPF object is damaged, or has something in it that the loader does not support."""


class MapKind(IntEnum):
    """enum bpf_map_type, as far as we use it (linux/bpf.h)."""

    HASH = 1
    ARRAY = 2
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    RINGBUF = 27


F_NO_PREALLOC = 1
F_NO_COMMON_LRU = 2
F_MMAPABLE = 1 << 10
"""Flags of maps (linux/bpf.h BPF_F_*)."""


@dataclass(frozen=True, slots=True)
class MapSpec:
    """A map as an object asks for it. Sizes in bytes; a ring buffer's is `max_entries`, its keys and values have none.

    `name` is whole here; the kernel keeps 15 characters of it.
    """

    name: str
    kind: MapKind
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0
