"""Reading compiled objects: what clang makes, what a hand makes, and what nobody should make."""

from contextlib import suppress
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.host.bpf.elf import BadObject, MapKind, MapRelocation, MapSpec, read_object
from plait.host.bpf.spec import F_MMAPABLE
from unit.host_bpf.objects import (
    FUNC,
    LOAD_MAP,
    OBJECT,
    PROGBITS,
    RETURN_ZERO,
    SAMPLE,
    SECTION,
    Btf,
    Parts,
    Section,
    Symbol,
    elf,
    hash_map,
    relocations,
)

GOOD = Parts().put_together()
COMPILED = SAMPLE.read_bytes()
CALL = pack("<BBhi", 0x85, 1 << 4, 0, 1)


def test_maps_of_a_compiled_object_have_what_the_source_says() -> None:
    maps = read_object(COMPILED).maps
    assert dict(maps) == {
        "flows": MapSpec("flows", MapKind.HASH, 8, 16, 64),
        "a_name_longer_than_the_kernels": MapSpec("a_name_longer_than_the_kernels", MapKind.LRU_HASH, 6, 8, 128),
        "counters": MapSpec("counters", MapKind.PERCPU_ARRAY, 4, 12, 2),
        "settings": MapSpec("settings", MapKind.ARRAY, 4, 8, 4, F_MMAPABLE),
        "reports": MapSpec("reports", MapKind.RINGBUF, 0, 0, 4096),
    }


def test_functions_of_one_section_are_programs_with_their_own_code_and_relocations() -> None:
    found = read_object(COMPILED)
    assert sorted(found.programs) == ["drop_and_count", "pass_and_count", "pass_and_tell"]
    assert found.license == "Apache-2.0"
    passing, dropping = found.programs["pass_and_count"], found.programs["drop_and_count"]
    assert {program.section for program in found.programs.values()} == {"tc"}
    assert [relocation.map for relocation in passing.relocations] == ["flows", "counters", "flows"]
    assert passing.relocations == dropping.relocations
    assert passing.code != dropping.code
    assert all(program.code.endswith(RETURN_ZERO[8:]) for program in found.programs.values())
    for relocation in found.programs["pass_and_tell"].relocations:
        assert found.programs["pass_and_tell"].code[relocation.offset] == LOAD_MAP[0]


def test_relocations_count_from_the_start_of_their_function() -> None:
    btf = Btf()
    parts = Parts(
        code=RETURN_ZERO + LOAD_MAP + RETURN_ZERO,
        btf=btf.maps({"table": hash_map(btf), "other": hash_map(btf, key_size=6)}),
        symbols=[
            Symbol("first", FUNC, 1, 0, 16),
            Symbol("second", FUNC, 1, 16, 32),
            Symbol("table", OBJECT, 2, 0, 32),
            Symbol("other", OBJECT, 2, 32, 32),
        ],
        relocations=relocations((16, 4, 1)),
    )
    found = read_object(parts.put_together())
    assert found.programs["first"].relocations == ()
    assert found.programs["second"].relocations == (MapRelocation(0, "other"),)
    assert found.maps["other"].key_size == 6


def test_map_by_its_place_in_the_section() -> None:
    load = LOAD_MAP[:4] + pack("<i", 32) + LOAD_MAP[8:]
    parts = Parts(code=load + RETURN_ZERO)
    parts.symbols = [
        Symbol("first", FUNC, 1, 0, 32),
        Symbol("", SECTION, 2, binding=0),
        Symbol("table", OBJECT, 2, 32, 32, 0),
    ]
    assert read_object(parts.put_together()).programs["first"].relocations == (MapRelocation(0, "table"),)


def test_sizes_of_types_go_through_typedefs_and_arrays() -> None:
    btf = Btf()
    byte = btf.add(8, "__u8", btf.integer(1))
    row = btf.add(3, trailer=pack("<III", byte, byte, 6))
    rows = btf.add(3, trailer=pack("<III", btf.add(10, size_or_type=row), byte, 3))
    members = {
        "type": btf.number(1),
        "max_entries": btf.number(7),
        "map_flags": btf.number(1),
        "key": btf.pointer(rows),
        "value": btf.pointer(btf.add(9, size_or_type=btf.pointer(0))),
    }
    parts = Parts(btf=btf.maps({"table": btf.struct(members)}))
    assert read_object(parts.put_together()).maps["table"] == MapSpec("table", MapKind.HASH, 18, 8, 7, 1)


def test_object_without_maps_needs_no_btf() -> None:
    sections = [Section("tc", PROGBITS, RETURN_ZERO, flags=6), Section("license", PROGBITS, b"GPL\0")]
    found = read_object(elf(sections, [Symbol("only", FUNC, 1, 0, 16)]))
    assert (dict(found.maps), found.programs["only"].code, found.license) == ({}, RETURN_ZERO, "GPL")


def map_with(**attributes: int) -> bytes:
    btf = Btf()
    return btf.maps({"table": hash_map(btf, **attributes)})


def map_with_looping_key() -> bytes:
    btf = Btf()
    loop = btf.add(8, "t", 1)
    return btf.maps({"table": btf.struct({"type": btf.number(1), "key": btf.pointer(loop)})})


def map_of_nested_arrays_without_end() -> bytes:
    btf = Btf()
    array = btf.add(3, trailer=pack("<III", 1, 1, 1 << 31))
    return btf.maps({"table": btf.struct({"type": btf.number(1), "key": btf.pointer(array)})})


BAD = {
    "nothing": (b"", "not a little-endian 64-bit ELF"),
    "big-endian": (GOOD[:5] + b"\x02" + GOOD[6:], "not a little-endian 64-bit ELF"),
    "another machine": (elf([], [], machine=62), "another machine"),
    "cut off": (GOOD[:-1], "table of sections"),
    "no license": (elf([Section("tc", PROGBITS, RETURN_ZERO, 6)], [Symbol("p", FUNC, 1, 0, 16)]), "license"),
    "no program": (Parts(symbols=[Symbol("table", OBJECT, 2)]).put_together(), "no program"),
    "local function": (Parts(symbols=[Symbol("first", FUNC, 1, 0, 32, binding=0)]).put_together(), "no program"),
    "function cut off": (Parts(symbols=[Symbol("first", FUNC, 1, 8, 32)]).put_together(), "first is cut off"),
    "half an instruction": (Parts(symbols=[Symbol("first", FUNC, 1, 0, 28)]).put_together(), "first is cut off"),
    "two functions": (
        Parts(symbols=[Symbol("a", FUNC, 1, 16, 16), Symbol("a", FUNC, 1, 16, 16)]).put_together(),
        "two functions a",
    ),
    "name with a path": (Parts(symbols=[Symbol("../a", FUNC, 1, 0, 32)]).put_together(), "no proper name"),
    "map name with a path": (
        Parts(symbols=[Symbol("first", FUNC, 1, 0, 32), Symbol("../t", OBJECT, 2)]).put_together(),
        "does not describe",
    ),
    "global data": (
        Parts(
            symbols=[Symbol("first", FUNC, 1, 0, 32), Symbol("counter", OBJECT, 6)],
            more=[Section(".bss", PROGBITS, bytes(8), 3)],
        ).put_together(),
        "first refers to counter, which is no map",
    ),
    "map at no place": (
        Parts(
            symbols=[Symbol("first", FUNC, 1, 0, 32), Symbol("", SECTION, 2, 8), Symbol("table", OBJECT, 2)]
        ).put_together(),
        "a map that is not there",
    ),
    "relocated return": (Parts(relocations=relocations((16, 2, 1))).put_together(), "refers to table"),
    "relocation of another type": (Parts(relocations=relocations((0, 2, 10))).put_together(), "refers to table"),
    "relocation without symbol": (Parts(relocations=relocations((0, 9, 1))).put_together(), "symbol that is not there"),
    "half a relocation": (Parts(relocations=b"1234").put_together(), "relocations are damaged"),
    "call": (Parts(code=LOAD_MAP + CALL + RETURN_ZERO[8:]).put_together(), "first calls another one"),
    "no BTF": (Parts(btf=b"").put_together(), "BTF is cut off"),
    "BTF of another version": (Parts(btf=Btf().bytes()[:2] + b"\x02" + Btf().bytes()[3:]).put_together(), "version"),
    "BTF cut off": (Parts(btf=map_with()[:-1]).put_together(), "BTF is cut off"),
    "map without BTF": (Parts(btf=Btf().bytes()).put_together(), "does not describe the map 'table'"),
    "unknown kind of map": (Parts(btf=map_with(type=11)).put_together(), "type 11, which is not supported"),
    "map without kind": (Parts(btf=map_with(type=-1)).put_together(), "type 0, which is not supported"),
    "map without key": (Parts(btf=map_with(key_size=-1)).put_together(), "keys of 0"),
    "array with long key": (Parts(btf=map_with(type=2, key_size=8)).put_together(), "keys of 8"),
    "ring buffer with keys": (Parts(btf=map_with(type=27)).put_together(), "as a RINGBUF"),
    "attribute": (Parts(btf=map_with(pinning=1)).put_together(), "attribute 'pinning' that is not supported"),
    "type that is itself": (Parts(btf=map_with_looping_key()).put_together(), "leads to itself"),
    "array of itself": (Parts(btf=map_of_nested_arrays_without_end()).put_together(), "leads to itself"),
}


@pytest.mark.parametrize(("data", "sentence"), BAD.values(), ids=BAD)
def test_bad_object_is_explained(data: bytes, sentence: str) -> None:
    with pytest.raises(BadObject, match=sentence):
        read_object(data)


def test_the_object_that_the_bad_ones_are_made_of_is_good() -> None:
    found = read_object(GOOD)
    assert found.maps == {"table": MapSpec("table", MapKind.HASH, 4, 8, 16)}
    assert found.programs["first"].relocations == (MapRelocation(0, "table"),)


def read_or_refuse(data: bytes) -> None:
    with suppress(BadObject):
        read_object(data)


@given(st.binary(max_size=400))
def test_no_bytes_do_worse_than_be_refused(data: bytes) -> None:
    read_or_refuse(data)
    read_or_refuse(GOOD[:64] + data)


@pytest.mark.parametrize("whole", [GOOD, COMPILED], ids=["hand-made", "compiled"])
@given(data=st.data())
def test_damaged_object_is_refused_or_read(whole: bytes, data: st.DataObject) -> None:
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(whole) - 1))
        part = data.draw(st.sampled_from([b"\0", b"\xff", b"\xff" * 4, b"\xff" * 8, b"\x01", b"\x80", b"\0" * 16]))
        damaged[at : at + len(part)] = part
    read_or_refuse(bytes(damaged[: data.draw(st.integers(0, len(whole)) | st.just(len(whole)))]))


@given(st.binary(max_size=300), st.booleans())
def test_no_btf_does_worse_than_be_refused(body: bytes, with_header: bool) -> None:
    header = pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), 0, len(body)) if with_header else b""
    read_or_refuse(Parts(btf=header + body).put_together())


def test_each_place_of_a_small_object_may_be_damaged() -> None:
    for at in range(len(GOOD)):
        for part in (b"\0", b"\x01", b"\x7f", b"\xff", b"\xff\xff\xff\xff", b"\xff" * 8):
            read_or_refuse(GOOD[:at] + part + GOOD[at + len(part) :])
