"""The values a template works on: plain data given the distinctions of Go's types that can be seen in the output
(struct or map, nil pointer, nil list or nil map). Does no formatting."""

from dataclasses import dataclass, field

MAX_DATA_DEPTH = 32
"""Nesting of the data: a report has seven levels."""

MAP_FIELDS = frozenset({"Attrs", "CaptureStats", "OverlayDiagnostics"})
"""Fields of the report that are maps in Go: a missing key is no error in or below them."""
LIST_FIELDS = frozenset(
    {"Connections", "Via", "Targets", "MACs", "Entries", "PendingClaims", "PendingAllocates", "Upstream"}
)
"""Fields of the report that may be a nil list: it has length 0 and prints as `[]`."""
OPTIONAL_FIELDS = frozenset({"IPAM", "DNS", "Proxy", "Plugin"})
"""Fields of the report that are left out when the service is off; in Go they are there and nil."""


class Failure(Exception):
    """A template cannot be executed further; `str()` is what stands at the end of the message."""


@dataclass(frozen=True, slots=True)
class Nil:
    """Nothing: how `{{.}}` prints it, how printf does, and its type."""

    text: str = "<nil>"
    inner: str = "<nil>"
    type_name: str = "<nil>"


@dataclass(frozen=True, slots=True)
class Record:
    """A struct or, with `is_map`, a map."""

    type_name: str
    is_map: bool
    fields: dict[str, "Value"] = field(default_factory=dict)


Value = Nil | Record | list["Value"] | str | int | float | bool

NIL = Nil()
NO_VALUE = Nil("<no value>")


def from_data(data: object, name: str = "Report", in_map: bool = False, depth: int = 0) -> Value:
    """Plain data as values; `name` is the field that holds them. Raises Failure when they nest too deep."""
    if depth > MAX_DATA_DEPTH:
        raise Failure(f"the data nest deeper than {MAX_DATA_DEPTH} levels")
    in_map = in_map or name in MAP_FIELDS
    match data:
        case None:
            return _nil(name, in_map)
        case dict():
            items = {str(key): from_data(item, str(key), in_map, depth + 1) for key, item in data.items()}
            type_name = "map[string]interface {}" if in_map else name
            return Record(type_name, in_map, dict(sorted(items.items())) if in_map else items)
        case list() | tuple():
            return [from_data(item, name, in_map, depth + 1) for item in data]
        case int() if abs(data) >= 2**64:
            raise Failure(f"{name} holds an integer of more than 64 bits")
        case bool() | int() | float() | str():
            return data
        case _:
            return str(data)


def get(value: Value, name: str) -> Value:
    """A field of a struct or the item of a map. Raises Failure when there is none."""
    if isinstance(value, Nil):
        if value is NO_VALUE or value.text == "map[]":
            return NO_VALUE
        if value.text == "<nil>":
            raise Failure(f"nil pointer evaluating {value.type_name}.{name}")
    elif isinstance(value, Record):
        if name in value.fields:
            return value.fields[name]
        if value.is_map:
            return NO_VALUE
        if value.type_name == "Report" and name in OPTIONAL_FIELDS:
            return _nil(name, False)
    raise Failure(f"can't evaluate field {name} in type {type_name(value)}")


def truth(value: Value) -> bool:
    """What `if` makes of a value: a struct is true, the empty of anything else is false."""
    if isinstance(value, Record):
        return bool(value.fields) or not value.is_map
    return not isinstance(value, Nil) and bool(value)


def length(value: Value) -> int:
    """`len`: bytes of a string, items of anything else. Raises Failure for what has none."""
    match value:
        case str():
            return len(value.encode(errors="replace"))
        case list():
            return len(value)
        case Record():
            return len(value.fields)
        case Nil() if value.text in ("[]", "map[]"):
            return 0
        case Nil():
            raise Failure("len of nil pointer")
        case _:
            raise Failure(f"len of type {type_name(value)}")


def type_name(value: Value) -> str:
    """The Go type of a value, as messages show it."""
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case int():
            return "int"
        case float():
            return "float64"
        case list():
            return "[]" + (type_name(value[0]) if value else "interface {}")
        case _:
            return value.type_name


def _nil(name: str, in_map: bool) -> Nil:
    if name in MAP_FIELDS:
        return Nil("map[]", "map[]", "map[string]interface {}")
    if in_map:
        return NO_VALUE
    if name in LIST_FIELDS:
        return Nil("[]", "[]", "[]" + name)
    return Nil("<nil>", "<nil>", "*" + name)
