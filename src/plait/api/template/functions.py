"""The functions a template can call, other than `and` and `or`, which the evaluator does because they stop early."""

from collections.abc import Callable
from dataclasses import dataclass

from plait.api.template.formatting import sprint, sprintf, sprintln
from plait.api.template.gojson import to_json
from plait.api.template.values import NO_VALUE, Failure, Nil, Record, Value, length, truth, type_name

ANY = 1_000_000
"""More arguments than a template can hold."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A function with the number of arguments it takes. It raises Failure."""

    call: Callable[[list[Value]], Value]
    least: int
    most: int

    def check(self, name: str, count: int) -> None:
        """Raise Failure for a wrong number of arguments."""
        if not self.least <= count <= self.most:
            least = "at least " * (self.most == ANY) + str(self.least)
            raise Failure(f"wrong number of args for {name}: want {least} got {count}")


def index(values: list[Value]) -> Value:
    """`index x 1 "key"`: into lists, strings (giving a byte) and maps one after the other."""
    value = values[0]
    for key in values[1:]:
        value = _item(value, key)
    return value


def printf(values: list[Value]) -> Value:
    """`printf FORMAT VALUE...`."""
    form = values[0]
    if not isinstance(form, str):
        raise Failure(f"wrong type for value; expected string; got {type_name(form)}")
    return sprintf(form, values[1:])


def equal(values: list[Value]) -> Value:
    """`eq A B...`: A is one of the others."""
    if len(values) < 2:
        raise Failure("missing argument for comparison")
    return any(_equal(values[0], other) for other in values[1:])


def less(values: list[Value]) -> bool:
    """`lt A B`, for numbers and strings."""
    match values[0], values[1]:
        case (bool() | Nil() | Record() | list(), _) | (_, bool() | Nil() | Record() | list()):
            raise Failure("invalid type for comparison")
        case (str() as a, str() as b):
            return a < b
        case (int() as i, int() as j):
            return i < j
        case (float() as x, float() as y):
            return x < y
        case _:
            raise Failure("incompatible types for comparison")


def less_or_equal(values: list[Value]) -> bool:
    """`le A B`."""
    return less(values) or _equal(values[0], values[1])


FUNCTIONS: dict[str, Entry] = {
    "len": Entry(lambda values: length(values[0]), 1, 1),
    "index": Entry(index, 1, ANY),
    "json": Entry(lambda values: to_json(values[0]), 1, 1),
    "not": Entry(lambda values: not truth(values[0]), 1, 1),
    "print": Entry(sprint, 0, ANY),
    "println": Entry(sprintln, 0, ANY),
    "printf": Entry(printf, 1, ANY),
    "eq": Entry(equal, 1, ANY),
    "ne": Entry(lambda values: not _equal(values[0], values[1]), 2, 2),
    "lt": Entry(less, 2, 2),
    "le": Entry(less_or_equal, 2, 2),
    "gt": Entry(lambda values: not less_or_equal(values), 2, 2),
    "ge": Entry(lambda values: not less(values), 2, 2),
}
STOPPING = {"and": Entry(lambda values: values[-1], 1, ANY), "or": Entry(lambda values: values[-1], 1, ANY)}
"""`and` and `or`: only their number of arguments counts here."""
NAMES = FUNCTIONS.keys() | STOPPING.keys()


def _item(value: Value, key: Value) -> Value:
    match value:
        case Nil() if value.text == "map[]" and isinstance(key, str):
            return NO_VALUE
        case Nil() if value.text != "[]":
            raise Failure("index of untyped nil" if value.text == "<no value>" else "index of nil pointer")
        case Record():
            if not isinstance(key, str):
                raise Failure(f"value has type {type_name(key)}; should be string")
            return value.fields.get(key, NO_VALUE)
        case str() | list() | Nil():
            sequence = value.encode(errors="replace") if isinstance(value, str) else value
            return _at([] if isinstance(sequence, Nil) else sequence, key)
        case _:
            raise Failure(f"can't index item of type {type_name(value)}")


def _at(sequence: bytes | list[Value], key: Value) -> Value:
    if isinstance(key, bool) or not isinstance(key, int):
        shown = "nil" if isinstance(key, Nil) else f"type {type_name(key)}"
        raise Failure(f"cannot index slice/array with {shown}")
    if not 0 <= key < len(sequence):
        raise Failure(f"index out of range: {key}")
    return sequence[key]


def _equal(a: Value, b: Value) -> bool:
    for value in (a, b):
        if isinstance(value, list | Record):
            raise Failure(f"non-comparable type {type_name(value)}")
    if isinstance(a, Nil) or isinstance(b, Nil):
        return isinstance(a, Nil) and isinstance(b, Nil)
    if type_name(a) != type_name(b):
        raise Failure("incompatible types for comparison")
    return a == b
