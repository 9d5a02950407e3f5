"""Compiled eBPF objects: which programs and maps are in an ELF file that clang made. Pure.

Supported is what a loader without a linker can do: little-endian objects whose functions are all inlined, without
global data. Each global function outside of `.text` is a program, several may share a section. Layout: elf(5).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from struct import Struct

from plait.host.bpf.btf import map_specs
from plait.host.bpf.spec import BadObject, MapKind, MapSpec

__all__ = ["BadObject", "BpfObject", "MapKind", "MapRelocation", "MapSpec", "ProgramCode", "read_object"]

_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian
_EM_BPF = 247
_HEADER = Struct("<16sHHIQQQIHHHHHH")
_SECTION = Struct("<IIQQQQIIQQ")  # name, type, flags, address, offset, size, link, info, alignment, entry size
_SYMBOL = Struct("<IBBHQQ")  # name, info, other, section, value, size
_RELOCATION = Struct("<QQ")  # offset, symbol << 32 | type
_SHT_PROGBITS, _SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS, _SHT_REL = 1, 2, 4, 8, 9
_SHF_EXECINSTR = 4
_STT_OBJECT, _STT_FUNC, _STT_SECTION = 1, 2, 3
_STB_GLOBAL = 1
_R_BPF_64_64 = 1
_INSTRUCTION = 8  # bytes; LD_IMM64 takes two
_LD_IMM64, _CALL, _PSEUDO_CALL = 0x18, 0x85, 1
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")  # becomes the name of a file


@dataclass(frozen=True, slots=True)
class MapRelocation:
    """The instruction `offset` bytes into a program, a wide load, wants the descriptor of this map."""

    offset: int
    map: str


@dataclass(frozen=True, slots=True)
class ProgramCode:
    """A program by the name of its C function: instructions before relocation."""

    name: str
    section: str
    code: bytes
    relocations: tuple[MapRelocation, ...]


@dataclass(frozen=True, slots=True)
class BpfObject:
    """What is in an object. Equal objects do the same, whatever their debugging sections say."""

    programs: Mapping[str, ProgramCode]
    maps: Mapping[str, MapSpec]
    license: str


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    type: int
    flags: int
    link: int
    info: int
    body: bytes


@dataclass(frozen=True, slots=True)
class _Symbol:
    name: str
    type: int
    binding: int
    section: int
    value: int
    size: int


def read_object(data: bytes) -> BpfObject:
    """Read an object file. Raise BadObject, with what is wrong in one sentence."""
    sections = _sections(data)
    symbols = _symbols(sections)
    maps_section = next((index for index, found in enumerate(sections) if found.name == ".maps"), None)
    maps, places = _maps(sections, symbols, maps_section)
    license_section = next((found for found in sections if found.name == "license"), None)
    if license_section is None:
        raise BadObject("it has no section `license`, without which the kernel refuses some helpers")
    programs: dict[str, ProgramCode] = {}
    for symbol in symbols:
        if not _is_program(sections, symbol):
            continue
        if symbol.name in programs:
            raise BadObject(f"it has two functions {symbol.name}")
        code = _code(sections[symbol.section], symbol)
        relocations = _relocations(sections, symbols, symbol, code, maps_section, places)
        _refuse_calls(symbol.name, code)
        programs[symbol.name] = ProgramCode(symbol.name, sections[symbol.section].name, code, relocations)
    if not programs:
        raise BadObject("it has no program: none of its functions is global and in a section of its own")
    return BpfObject(programs, maps, license_section.body.split(b"\0", 1)[0].decode("ascii", "replace"))


def _sections(data: bytes) -> list[_Section]:
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        raise BadObject("it is not a little-endian 64-bit ELF file")
    header = _HEADER.unpack_from(data)
    machine, start, entry, count, names_index = header[2], header[6], header[11], header[12], header[13]
    if machine != _EM_BPF:
        raise BadObject(f"it is compiled for another machine ({machine}) than eBPF ({_EM_BPF})")
    if entry != _SECTION.size or start + count * entry > len(data) or names_index >= count:
        raise BadObject("its table of sections is damaged")
    raw = list(_SECTION.iter_unpack(data[start : start + count * entry]))
    bodies = [b"" if found[1] in (0, _SHT_NOBITS) else _body(data, found[4], found[5]) for found in raw]
    names = bodies[names_index]
    return [
        _Section(_text(names, found[0]), found[1], found[2], found[6], found[7], body)
        for found, body in zip(raw, bodies, strict=True)
    ]


def _body(data: bytes, offset: int, size: int) -> bytes:
    if offset + size > len(data):
        raise BadObject("a section of it is cut off")
    return data[offset : offset + size]


def _text(strings: bytes, offset: int) -> str:
    end = strings.find(b"\0", offset)
    if end < 0:
        raise BadObject("a name in it is cut off")
    return strings[offset:end].decode("ascii", "replace")


def _symbols(sections: list[_Section]) -> list[_Symbol]:
    table = next((found for found in sections if found.type == _SHT_SYMTAB), None)
    if table is None or table.link >= len(sections) or len(table.body) % _SYMBOL.size:
        raise BadObject("its table of symbols is missing or damaged")
    strings = sections[table.link].body
    return [
        _Symbol(_text(strings, name), info & 0xF, info >> 4, section, value, size)
        for name, info, _, section, value, size in _SYMBOL.iter_unpack(table.body)
    ]


def _maps(
    sections: list[_Section], symbols: list[_Symbol], maps_section: int | None
) -> tuple[dict[str, MapSpec], dict[int, str]]:
    """The maps by name, and their names by their place in the section `.maps`."""
    if maps_section is None:
        return {}, {}
    btf = next((found.body for found in sections if found.name == ".BTF"), None)
    if btf is None:
        raise BadObject("it has maps but no BTF that describes them: compile it with clang -g")
    specs = map_specs(btf)
    found = [symbol for symbol in symbols if symbol.section == maps_section and symbol.type == _STT_OBJECT]
    for symbol in found:
        if symbol.name not in specs or not _NAME.fullmatch(symbol.name):
            raise BadObject(f"its BTF does not describe the map {symbol.name!r}")
    return {symbol.name: specs[symbol.name] for symbol in found}, {symbol.value: symbol.name for symbol in found}


def _is_program(sections: list[_Section], symbol: _Symbol) -> bool:
    if symbol.type != _STT_FUNC or symbol.binding != _STB_GLOBAL or symbol.section >= len(sections):
        return False
    section = sections[symbol.section]
    return section.type == _SHT_PROGBITS and bool(section.flags & _SHF_EXECINSTR) and section.name != ".text"


def _code(section: _Section, symbol: _Symbol) -> bytes:
    if not _NAME.fullmatch(symbol.name):
        raise BadObject(f"a function of it has no proper name: {symbol.name!r}")
    end = symbol.value + symbol.size
    if end > len(section.body) or symbol.value % _INSTRUCTION or symbol.size % _INSTRUCTION or not symbol.size:
        raise BadObject(f"the function {symbol.name} is cut off")
    return section.body[symbol.value : end]


def _relocations(
    sections: list[_Section],
    symbols: list[_Symbol],
    program: _Symbol,
    code: bytes,
    maps_section: int | None,
    places: Mapping[int, str],
) -> tuple[MapRelocation, ...]:
    found: list[MapRelocation] = []
    for offset, target, kind in _all_relocations(sections, symbols, program.section):
        at = offset - program.value
        if not 0 <= at < len(code):
            continue
        wide = at % _INSTRUCTION == 0 and at + 2 * _INSTRUCTION <= len(code) and code[at] == _LD_IMM64
        if kind != _R_BPF_64_64 or target.section != maps_section or not wide:
            raise BadObject(
                f"the function {program.name} refers to {target.name or 'global data'}, which is no map: "
                "inline all functions (always_inline) and use no global variables"
            )
        inside = int.from_bytes(code[at + 4 : at + 8], "little") if target.type == _STT_SECTION else 0
        name = places.get(target.value + inside)
        if name is None:
            raise BadObject(f"the function {program.name} refers to a map that is not there")
        found.append(MapRelocation(at, name))
    return tuple(sorted(found, key=lambda relocation: relocation.offset))


def _all_relocations(
    sections: list[_Section], symbols: list[_Symbol], section: int
) -> Iterator[tuple[int, _Symbol, int]]:
    """Offset in the section, symbol and kind of each of a section's relocations."""
    for table in sections:
        if table.info != section or table.type not in (_SHT_REL, _SHT_RELA):
            continue
        if table.type == _SHT_RELA or len(table.body) % _RELOCATION.size:
            raise BadObject("its relocations are damaged or of another kind than eBPF's")
        for offset, info in _RELOCATION.iter_unpack(table.body):
            if info >> 32 >= len(symbols):
                raise BadObject("a relocation of it refers to a symbol that is not there")
            yield offset, symbols[info >> 32], info & 0xFFFFFFFF


def _refuse_calls(name: str, code: bytes) -> None:
    at = 0
    while at < len(code):
        if code[at] == _CALL and code[at + 1] >> 4 == _PSEUDO_CALL:
            raise BadObject(f"the function {name} calls another one: inline it (always_inline)")
        at += 2 * _INSTRUCTION if code[at] == _LD_IMM64 else _INSTRUCTION
