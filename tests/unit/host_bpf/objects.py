"""Makes eBPF object files by hand, so that each part of one can be wrong."""

from dataclasses import dataclass, field
from pathlib import Path
from struct import pack

SAMPLE = Path(__file__).parents[2] / "lab" / "bpf" / "sample.bpf.o"
"""What clang makes of sample.bpf.c."""

LOAD_MAP = pack("<BBhi", 0x18, 1, 0, 0) + pack("<BBhi", 0, 0, 0, 0)
RETURN_ZERO = pack("<BBhi", 0xB7, 0, 0, 0) + pack("<BBhi", 0x95, 0, 0, 0)
PROGBITS, SYMTAB, STRTAB, REL = 1, 2, 3, 9
OBJECT, FUNC, SECTION = 1, 2, 3
GLOBAL = 1


class Strings:
    """A string table."""

    def __init__(self) -> None:
        self.raw = b"\0"

    def add(self, text: str) -> int:
        offset = len(self.raw)
        self.raw += text.encode() + b"\0"
        return offset


@dataclass
class Section:
    name: str
    type: int
    body: bytes
    flags: int = 0
    link: int = 0
    info: int = 0
    entry: int = 0


@dataclass
class Symbol:
    name: str
    type: int
    section: int
    value: int = 0
    size: int = 0
    binding: int = GLOBAL


@dataclass
class Btf:
    """BTF types by hand; `add` gives a type's number."""

    strings: Strings = field(default_factory=Strings)
    types: list[bytes] = field(default_factory=list)

    def add(self, kind: int, name: str = "", size_or_type: int = 0, count: int = 0, trailer: bytes = b"") -> int:
        offset = self.strings.add(name) if name else 0
        self.types.append(pack("<III", offset, kind << 24 | count, size_or_type) + trailer)
        return len(self.types)

    def integer(self, size: int = 4) -> int:
        return self.add(1, "int", size, trailer=pack("<I", size * 8))

    def pointer(self, to: int) -> int:
        return self.add(2, size_or_type=to)

    def number(self, value: int) -> int:
        """__uint(name, value)."""
        integer = self.integer()
        return self.pointer(self.add(3, trailer=pack("<III", integer, integer, value)))

    def struct(self, members: dict[str, int], size: int = 0) -> int:
        parts = [pack("<III", self.strings.add(name), type, 0) for name, type in members.items()]
        return self.add(4, "", size, len(parts), b"".join(parts))

    def maps(self, definitions: dict[str, int]) -> bytes:
        variables = [self.add(14, name, type, trailer=pack("<I", 1)) for name, type in definitions.items()]
        entries = b"".join(pack("<III", variable, 0, 0) for variable in variables)
        self.add(15, ".maps", 0, len(variables), entries)
        return self.bytes()

    def bytes(self) -> bytes:
        types = b"".join(self.types)
        sizes = (0, len(types), len(types), len(self.strings.raw))
        return pack("<HBBIIIII", 0xEB9F, 1, 0, 24, *sizes) + types + self.strings.raw


def hash_map(btf: Btf, **attributes: int) -> int:
    """The struct of a hash map, keys of 4 and values of 8 bytes; `attributes` change numbers, -1 removes one."""
    numbers = {"type": 1, "max_entries": 16, "key_size": 4, "value_size": 8} | attributes
    return btf.struct({name: btf.number(value) for name, value in numbers.items() if value >= 0})


def elf(sections: list[Section], symbols: list[Symbol], machine: int = 247) -> bytes:
    """An object; the sections get the numbers 1, 2, ..., the tables of symbols and names come behind them."""
    names, symbol_names = Strings(), Strings()
    table = pack("<IBBHQQ", 0, 0, 0, 0, 0, 0)
    for symbol in symbols:
        place = (symbol.section, symbol.value, symbol.size)
        table += pack("<IBBHQQ", symbol_names.add(symbol.name), symbol.binding << 4 | symbol.type, 0, *place)
    number = len(sections) + 1
    everything = [
        *sections,
        Section(".symtab", SYMTAB, table, link=number + 1, entry=24),
        Section(".strtab", STRTAB, symbol_names.raw),
        Section(".shstrtab", STRTAB, b""),
    ]
    offsets = [names.add(section.name) for section in everything]
    everything[-1].body = names.raw
    body, headers = b"", bytes(64)
    for name, section in zip(offsets, everything, strict=True):
        where = (64 + len(body), len(section.body), section.link, section.info)
        headers += pack("<IIQQQQIIQQ", name, section.type, section.flags, 0, *where, 1, section.entry)
        body += section.body
    start = 64 + len(body)
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    counts = (64, len(everything) + 1, len(everything))
    return pack("<16sHHIQQQIHHHHHH", identity, 1, machine, 1, 0, 0, start, 0, 64, 0, 0, *counts) + body + headers


def relocations(*entries: tuple[int, int, int]) -> bytes:
    """Of offsets, numbers of symbols (the first is 1) and types."""
    return b"".join(pack("<QQ", offset, symbol << 32 | kind) for offset, symbol, kind in entries)


def _one_map() -> bytes:
    btf = Btf()
    return btf.maps({"table": hash_map(btf)})


@dataclass
class Parts:
    """An object with a map `table` and a program `first` that refers to it, to be changed and put together."""

    code: bytes = LOAD_MAP + RETURN_ZERO
    btf: bytes = field(default_factory=_one_map)
    license: bytes = b"Apache-2.0\0"
    relocations: bytes = relocations((0, 2, 1))
    symbols: list[Symbol] = field(
        default_factory=lambda: [Symbol("first", FUNC, 1, 0, 32), Symbol("table", OBJECT, 2, 0, 32)]
    )
    more: list[Section] = field(default_factory=list)

    def put_together(self) -> bytes:
        sections = [
            Section("tc", PROGBITS, self.code, flags=6),
            Section(".maps", PROGBITS, bytes(64), flags=3),
            Section("license", PROGBITS, self.license, flags=3),
            Section(".reltc", REL, self.relocations, link=6, info=1, entry=16),
            Section(".BTF", PROGBITS, self.btf),
            *self.more,
        ]
        return elf(sections, self.symbols)
