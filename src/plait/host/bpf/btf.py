"""Maps as clang describes them in the section .BTF: the definitions that libbpf's __uint and __type make. Pure.

`__uint(max_entries, 64)` is a member `int (*max_entries)[64]`, a pointer to an array whose length is the number;
`__type(key, struct k)` is a member `struct k *key`. Layout: linux/btf.h.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from struct import Struct

from plait.host.bpf.spec import BadObject, MapKind, MapSpec

_MAGIC = 0xEB9F
_HEADER = Struct("<HBBIIIII")  # magic, version, flags, hdr_len, type_off, type_len, str_off, str_len
_TYPE = Struct("<III")  # name, info, size or type
_MEMBER = Struct("<III")  # name, type, offset
_ARRAY = Struct("<III")  # element type, index type, number of elements
_SECTION_ENTRY = Struct("<III")  # type, offset, size
_PTR, _ARRAY_KIND, _STRUCT, _VAR, _DATASEC = 2, 3, 4, 14, 15
_SIZED = {1, 4, 5, 6, 16, 19}  # INT, STRUCT, UNION, ENUM, FLOAT, ENUM64: `size` holds their size
_TRANSPARENT = {8, 9, 10, 11, 18}  # TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG
# Bytes after struct btf_type: those that are always there, and those for each of its `vlen` parts.
_TRAILERS = {
    **dict.fromkeys((2, 7, 8, 9, 10, 11, 12, 16, 18), (0, 0)),
    **{1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0), 15: (0, 12), 17: (4, 0)},
    19: (0, 12),
}
_POINTER_BYTES = 8
_DEEPEST = 32  # as many types one may lead through another (linux/btf.h has the same limit in the kernel)
_MOST = 0xFFFFFFFF
_NUMBERS = ("type", "max_entries", "map_flags", "key_size", "value_size")
_TYPES = {"key": "key_size", "value": "value_size"}


@dataclass(frozen=True, slots=True)
class _Type:
    name: str
    kind: int
    count: int
    size_or_type: int
    trailer: bytes


@dataclass(slots=True)
class _Types:
    """All types by their number; 0 is void."""

    strings: bytes
    all: list[_Type] = field(default_factory=lambda: [_Type("", 0, 0, 0, b"")])

    def get(self, number: int) -> _Type:
        if not 0 <= number < len(self.all):
            raise BadObject(f"its BTF refers to a type number {number}, which is not there")
        return self.all[number]

    def text(self, offset: int) -> str:
        end = self.strings.find(b"\0", offset)
        if end < 0:
            raise BadObject("a name in its BTF is cut off")
        return self.strings[offset:end].decode("ascii", "replace")

    def bare(self, number: int) -> _Type:
        """The type without typedefs and qualifiers."""
        for _ in range(_DEEPEST):
            found = self.get(number)
            if found.kind not in _TRANSPARENT:
                return found
            number = found.size_or_type
        raise BadObject("a type in its BTF leads to itself")

    def size(self, number: int) -> int:
        """Bytes of a value of the type."""
        elements = 1
        for _ in range(_DEEPEST):
            found = self.bare(number)
            if found.kind == _ARRAY_KIND:
                number, _, length = _ARRAY.unpack(found.trailer)
                elements *= length
            elif found.kind == _PTR:
                return elements * _POINTER_BYTES
            elif found.kind in _SIZED:
                return elements * found.size_or_type
            else:
                raise BadObject(f"the size of a type of kind {found.kind} in its BTF is not known")
        raise BadObject("a type in its BTF leads to itself")


def map_specs(btf: bytes) -> Mapping[str, MapSpec]:
    """The maps that the variables of the section `.maps` define, by name. Raise BadObject."""
    types = _read(btf)
    specs: dict[str, MapSpec] = {}
    for section in types.all:
        if section.kind == _DATASEC and section.name == ".maps":
            for number, _, _ in _SECTION_ENTRY.iter_unpack(section.trailer):
                variable = types.get(number)
                if variable.kind != _VAR:
                    raise BadObject("its section .maps holds something that is not a variable")
                specs[variable.name] = _spec(types, variable)
    return specs


def _read(btf: bytes) -> _Types:
    if len(btf) < _HEADER.size:
        raise BadObject("its BTF is cut off")
    magic, version, _, header, type_offset, type_bytes, string_offset, string_bytes = _HEADER.unpack_from(btf)
    if magic != _MAGIC or version != 1:
        raise BadObject("its BTF is of a version that is not known")
    start, strings = header + type_offset, header + string_offset
    if start + type_bytes > len(btf) or strings + string_bytes > len(btf):
        raise BadObject("its BTF is cut off")
    types = _Types(btf[strings : strings + string_bytes])
    body, at = btf[start : start + type_bytes], 0
    while at < len(body):
        at = _read_type(types, body, at)
    return types


def _read_type(types: _Types, body: bytes, at: int) -> int:
    """Add the type at this offset; give the offset of the next."""
    if at + _TYPE.size > len(body):
        raise BadObject("its BTF is cut off")
    name, info, size_or_type = _TYPE.unpack_from(body, at)
    kind, count = info >> 24 & 0x1F, int(info & 0xFFFF)
    if kind not in _TRAILERS:
        raise BadObject(f"its BTF has a type of kind {kind}, which is not known")
    fixed, each = _TRAILERS[kind]
    begin = at + _TYPE.size
    end = begin + fixed + each * count
    if end > len(body):
        raise BadObject("its BTF is cut off")
    types.all.append(_Type(types.text(name), kind, count, size_or_type, body[begin:end]))
    return end


def _spec(types: _Types, variable: _Type) -> MapSpec:
    name = variable.name
    definition = types.bare(variable.size_or_type)
    if definition.kind != _STRUCT:
        raise BadObject(f"the map {name} is not defined by a struct")
    values: dict[str, int] = {}
    for member_name, member_type, _ in _MEMBER.iter_unpack(definition.trailer):
        attribute, number = _attribute(types, name, types.text(member_name), member_type)
        if values.setdefault(attribute, number) != number:
            raise BadObject(f"the map {name} says its {attribute} twice, and differently")
    return _checked(name, values)


def _attribute(types: _Types, name: str, member: str, number: int) -> tuple[str, int]:
    pointer = types.bare(number)
    if pointer.kind != _PTR or (member not in _NUMBERS and member not in _TYPES):
        raise BadObject(
            f"the map {name} has an attribute {member!r} that is not supported: only type, max_entries, map_flags, "
            "key, value, key_size and value_size are, written with __uint and __type"
        )
    if member in _TYPES:
        return _TYPES[member], types.size(pointer.size_or_type)
    array = types.bare(pointer.size_or_type)
    if array.kind != _ARRAY_KIND:
        raise BadObject(f"the map {name} has a {member} that is not written with __uint")
    _, _, length = _ARRAY.unpack(array.trailer)
    return member, int(length)


def _checked(name: str, values: Mapping[str, int]) -> MapSpec:
    try:
        kind = MapKind(values.get("type", 0))
    except ValueError as error:
        known = ", ".join(sorted(kind.name for kind in MapKind))
        raise BadObject(
            f"the map {name} is of the type {values.get('type', 0)}, which is not supported: {known} are"
        ) from error
    key, value, entries = (values.get(part, 0) for part in ("key_size", "value_size", "max_entries"))
    if kind == MapKind.RINGBUF:
        good = key == value == 0
    elif kind in (MapKind.ARRAY, MapKind.PERCPU_ARRAY):
        good = key == 4 and value > 0
    else:
        good = key > 0 and value > 0
    if not good or max(key, value, entries) > _MOST:
        raise BadObject(f"the map {name} cannot have keys of {key} and values of {value} bytes as a {kind.name}")
    return MapSpec(name, kind, key, value, entries, values.get("map_flags", 0))
