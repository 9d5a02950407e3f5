"""A mirror and the map behind it: they hold the same, also when the kernel refuses something in between."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from struct import Struct

import pytest

from plait.host.bpf.maps import Map, MapFull
from plait.host.bpf.mirror import MapMirror
from plait.host.bpf.spec import MapKind, MapSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for eBPF")

NUMBER = Struct("=I")


def read(value: bytes) -> int:
    return int(NUMBER.unpack(value)[0])


@contextmanager
def made(kind: MapKind, entries: int) -> Iterator[Map]:
    table = Map.create(MapSpec("mirrored", kind, NUMBER.size, NUMBER.size, entries))
    try:
        yield table
    finally:
        table.close()


def mirror_of(table: Map) -> MapMirror[int, int]:
    return MapMirror(table, NUMBER.pack, read, NUMBER.pack, read)


def content(table: Map) -> dict[int, int]:
    """What is there, without the zeros of an array."""
    return {read(key): read(value) for key, value in table.items() if any(value)}


@pytest.mark.parametrize("kind", [MapKind.HASH, MapKind.ARRAY])
def test_the_map_holds_what_is_wanted_and_nothing_else(kind: MapKind) -> None:
    with made(kind, 8) as table:
        mirror = mirror_of(table)
        assert mirror.held == {}
        for wanted in ({1: 10, 2: 20}, {2: 21, 3: 30}, {3: 30}, {}):
            mirror.set(wanted)
            assert content(table) == mirror.held == wanted


@pytest.mark.parametrize("kind", [MapKind.HASH, MapKind.ARRAY])
def test_a_new_mirror_begins_with_what_is_there(kind: MapKind) -> None:
    with made(kind, 8) as table:
        mirror_of(table).set({1: 10, 2: 20})
        heir = mirror_of(table)
        assert heir.held == {1: 10, 2: 20}
        heir.set({2: 20})
        assert content(table) == {2: 20}


def test_after_a_refusal_the_mirror_knows_what_is_there_and_goes_on() -> None:
    with made(MapKind.HASH, 2) as table:
        mirror = mirror_of(table)
        assert mirror.max_entries == 2
        mirror.set({1: 10, 2: 20})
        with pytest.raises(MapFull):
            mirror.set({1: 11, 3: 30, 4: 40})
        assert content(table) == mirror.held
        mirror.set({1: 10, 4: 40})
        assert content(table) == mirror.held == {1: 10, 4: 40}
