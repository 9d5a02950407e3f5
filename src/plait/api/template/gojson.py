"""Compact JSON in the manner of Go's encoding/json: maps in key order, structs in theirs, HTML characters escaped."""

import math
from decimal import Decimal

from plait.api.template.formatting import shortest
from plait.api.template.values import Failure, Nil, Record, Value

_ESCAPES = {ord('"'): '\\"', ord("\\"): "\\\\", 10: "\\n", 13: "\\r", 9: "\\t"}
_ESCAPES |= {code: f"\\u{code:04x}" for code in (*range(32), *map(ord, "<>&"), 0x2028, 0x2029) if code not in _ESCAPES}


def to_json(value: Value) -> str:
    """A value as JSON. Raises Failure for a float that JSON has no way to write."""
    match value:
        case Nil():
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return '"' + value.translate(_ESCAPES) + '"'
        case float():
            return _float(value)
        case int():
            return str(value)
        case list():
            return "[" + ",".join(map(to_json, value)) + "]"
        case Record():
            return "{" + ",".join(f"{to_json(name)}:{to_json(item)}" for name, item in value.fields.items()) + "}"


def _float(value: float) -> str:
    if not math.isfinite(value):
        raise Failure("json: unsupported value: " + ("NaN" if math.isnan(value) else f"{value:+f}"[:4].title()))
    if value and not 1e-6 <= abs(value) < 1e21:
        return shortest(value).replace("e-0", "e-")
    text = format(Decimal(repr(value)), "f")
    return text.removesuffix(".0")
