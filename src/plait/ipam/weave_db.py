"""Reads the file in which Weave keeps address allocation: a bolt database, a B+tree of pages (spec: ipam 14).

Pure: the file's bytes in, what is in them out. The file is never written, and need not be closed by its owner.
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from plait.errors import StateError
from plait.ipam import codec
from plait.ipam.address import Cidr
from plait.ipam.records import Holding, Snapshot
from plait.ipam.ring import RingState
from plait.mesh import gob
from plait.mesh.gob import GobError
from plait.mesh.name import InvalidPeerName, PeerName

BUCKET = b"top"
MAJOR_VERSION = 1

_PAGE_HEADER = struct.Struct("<QHHI")  # id, flags, count, overflow
_META = struct.Struct(
    "<IIIIQQQQQQ"
)  # magic, version, page size, flags, root, sequence, free list, high, transaction, sum
_LEAF = struct.Struct("<IIII")  # flags, position from here, key size, value size
_BRANCH = struct.Struct("<IIQ")  # position from here, key size, page
_BUCKET_HEAD = struct.Struct("<QQ")  # root page, sequence
_MAGIC, _FORMAT = 0xED0CDAED, 2
_BRANCH_PAGE, _LEAF_PAGE = 1, 2
_IS_BUCKET = 1

_CIDR = gob.Struct("CIDR", (("Addr", gob.UINT32), ("PrefixLen", gob.INT)), lambda v: Cidr(v[0], v[1]))
_HOLDING = gob.Struct(
    "ownedData",
    (("IsContainer", gob.BOOL), ("Cidrs", gob.Slice(_CIDR, "[]address.CIDR"))),
    lambda v: Holding(v[0], v[1]),
)
_HOLDINGS = gob.Map(gob.STRING, _HOLDING)
_TARGETS = gob.Slice(gob.STRING)


class WeaveState(NamedTuple):
    """What a Weave node kept. `snapshot` is None if it never had addresses to share out."""

    peer_name: PeerName
    targets: tuple[str, ...]
    snapshot: Snapshot | None


class _Damaged(Exception):
    """The bytes contradict each other."""


def read_weave_db(content: bytes, path: str) -> WeaveState:
    """Read the content of a `weavedata.db`; `path` names it in errors. Raises StateError."""
    try:
        values = dict(_pairs(content))
        return _state(values, path)
    except (_Damaged, GobError, InvalidPeerName) as error:
        raise StateError(
            f"{path} cannot be read as a database of Weave Net: {error}; stop Weave first, and copy the file whole"
        ) from error


def _state(values: dict[bytes, bytes], path: str) -> WeaveState:
    version = values.get(b"version", b"")
    if version[:1] != bytes([MAJOR_VERSION]):
        raise StateError(
            f"{path} has version {version.hex('.') or 'none'} and this program reads version {MAJOR_VERSION}; "
            "let Weave Net 2.8 start once with this file, and stop it again"
        )
    name = _decoded(gob.UINT, values, b"peername", 0)
    ring: RingState | None = _decoded(codec.RING, values, b"ring", None)
    holdings: dict[str, Holding] = _decoded(_HOLDINGS, values, b"ownedAddresses", {})
    snapshot = Snapshot(ring, holdings) if ring is not None and ring.entries else None
    return WeaveState(PeerName(name), _decoded(_TARGETS, values, b"directPeers", ()), snapshot)


def _decoded(kind: gob.Type, values: dict[bytes, bytes], key: bytes, default: Any) -> Any:
    return gob.decode(kind, values[key]) if key in values else default


def _pairs(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give the keys and values of the one bucket."""
    root, page_size = _newest_root(content)
    tree = _Tree(content, page_size)
    for key, value, is_bucket in tree.pairs(root * page_size):
        if key == BUCKET and is_bucket:
            page, _ = _BUCKET_HEAD.unpack(value[: _BUCKET_HEAD.size].ljust(_BUCKET_HEAD.size, b"\0"))
            inner = tree.pairs(page * page_size) if page else _Tree(value, page_size).pairs(_BUCKET_HEAD.size)
            yield from ((name, stored) for name, stored, is_nested in inner if not is_nested)
            return
    raise _Damaged(f"it has no bucket {BUCKET.decode()}")


def _newest_root(content: bytes) -> tuple[int, int]:
    """Choose between the two copies of the beginning: the one that was written last, and whole."""
    found = []
    page_size = 4096
    for offset in (0, page_size):
        body = content[offset + _PAGE_HEADER.size : offset + _PAGE_HEADER.size + _META.size]
        if len(body) < _META.size:
            continue
        magic, version, size, _, root, _, _, _, transaction, checksum = _META.unpack(body)
        is_whole = checksum == _fnv1a(body[: _META.size - 8])
        if magic == _MAGIC and version == _FORMAT and is_whole and size:
            found.append((transaction, root, size))
    if not found:
        raise _Damaged("neither of its two first pages is valid")
    _, root, size = max(found)
    return root, size


def _fnv1a(data: bytes) -> int:
    """FNV-1a, 64 bits."""
    state = 0xCBF29CE484222325
    for byte in data:
        state = (state ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return state


class _Tree:
    """Pages in some bytes: the file's, or those of a small bucket that lies within a value."""

    def __init__(self, content: bytes, page_size: int) -> None:
        self._content = content
        self._page_size = page_size
        self._seen: set[int] = set()

    def pairs(self, offset: int) -> Iterator[tuple[bytes, bytes, bool]]:
        """Give key, value and whether it is a bucket, of the page there and all below it."""
        if offset in self._seen:
            raise _Damaged(f"the page at byte {offset} is part of the tree twice")
        self._seen.add(offset)
        _, flags, count, _ = self._unpack(_PAGE_HEADER, offset)
        position = offset + _PAGE_HEADER.size
        if flags & _LEAF_PAGE:
            for index in range(count):
                at = position + index * _LEAF.size
                kind, start, key_size, value_size = self._unpack(_LEAF, at)
                key = self._bytes(at + start, key_size)
                yield key, self._bytes(at + start + key_size, value_size), bool(kind & _IS_BUCKET)
        elif flags & _BRANCH_PAGE:
            for index in range(count):
                _, _, page = self._unpack(_BRANCH, position + index * _BRANCH.size)
                yield from self.pairs(page * self._page_size)
        else:
            raise _Damaged(f"the page at byte {offset} is of kind {flags}")

    def _unpack(self, layout: struct.Struct, offset: int) -> tuple[int, ...]:
        return layout.unpack(self._bytes(offset, layout.size))

    def _bytes(self, start: int, size: int) -> bytes:
        found = self._content[start : start + size]
        if len(found) != size:
            raise _Damaged(f"it ends before byte {start + size}")
        return found
