"""Go's fmt: Sprint, Sprintln and Sprintf over template values. Argument indexes (`%[1]d`) are not understood."""

import math
import re
from dataclasses import dataclass, replace

from plait.api.template.literals import is_character, quote, quote_character
from plait.api.template.values import Failure, Nil, Record, Value, type_name

MAX_STRING = 4 * 1024 * 1024
"""Characters of one string that a function makes, and of a template's output: some tens of the largest report."""
MAX_WIDTH = 1000
"""Width and precision of a verb; Go takes a million, which is one way to fill memory."""


def sprint(values: list[Value]) -> str:
    """The values one after the other, with a space between two that are both no strings."""
    text = _Text()
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            text.add(" ")
        text.add(show(value))
    return text.get()


def sprintln(values: list[Value]) -> str:
    """The values with spaces between them and a newline after them."""
    text = _Text()
    for index, value in enumerate(values):
        text.add(" " * bool(index) + show(value))
    return text.get() + "\n"


def sprintf(form: str, values: list[Value]) -> str:
    """The values by a format's verbs; what does not fit is shown in Go's `%!` notation."""
    text = _Text()
    rest = list(values)
    end = 0
    for match in _VERB.finditer(form):
        text.add(form[end : match.start()])
        text.add(_directive(match, rest))
        end = match.end()
    text.add(form[end:])
    if rest:
        extra = ", ".join("<nil>" if isinstance(v, Nil) else f"{type_name(v)}={show(v)}" for v in rest)
        text.add(f"%!(EXTRA {extra})")
    return text.get()


def show(value: Value) -> str:
    """A value as %v shows it."""
    return _format(value, _Spec("v"))


def shown_alone(value: Value) -> str:
    """A value as an action prints it."""
    return value.text if isinstance(value, Nil) else show(value)


@dataclass(frozen=True, slots=True)
class _Spec:
    verb: str
    flags: str = ""
    width: int | None = None
    precision: int | None = None


class _Text:
    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0

    def add(self, part: str) -> None:
        self._length += len(part)
        if self._length > MAX_STRING:
            raise Failure(f"a string is longer than {MAX_STRING} characters")
        self._parts.append(part)

    def get(self) -> str:
        return "".join(self._parts)


_VERB = re.compile(
    r"%(?P<flags>[-+# 0]*)(?P<width>\*|[0-9]*)(?:\.(?P<precision>\*|[0-9]*))?(?P<verb>.?)", re.DOTALL | re.ASCII
)


def _directive(match: re.Match[str], rest: list[Value]) -> str:
    verb, flags, complaint = match["verb"], match["flags"], ""
    width, wrong = _size(match["width"] or None, rest, "%!(BADWIDTH)")
    complaint += wrong
    if width is not None and width < 0:
        flags, width = flags + "-", -width
    precision, wrong = _size(None if match["precision"] is None else match["precision"] or "0", rest, "%!(BADPREC)")
    complaint += wrong
    if precision is not None and precision < 0:
        precision, complaint = None, complaint + "%!(BADPREC)"
    if not verb:
        return complaint + "%!(NOVERB)"
    if verb == "%":
        return complaint + "%"
    if not rest:
        return f"{complaint}%!{verb}(MISSING)"
    return complaint + _format(rest.pop(0), _Spec(verb, flags, width, precision))


def _size(text: str | None, rest: list[Value], complaint: str) -> tuple[int | None, str]:
    """A width or precision, given as digits or by the next value, and the complaint when it is none."""
    if text is None:
        return None, ""
    value: Value | None = int(text) if text != "*" and len(text) < 8 else None
    if text == "*" and rest:
        value = rest.pop(0)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_WIDTH:
        return None, complaint
    return value, ""


def _format(value: Value, spec: _Spec) -> str:
    if spec.verb == "T":
        return _padded(type_name(value), spec)
    match value:
        case Nil():
            return _nil(value, spec)
        case list():
            return _joined("[", [_format(item, spec) for item in value], "]")
        case Record():
            return _record(value, spec)
        case bool():
            done = _padded("true" if value else "false", spec) if spec.verb in "tv" else None
        case str():
            done = _string(value, spec)
        case int():
            done = _integer(value, spec)
        case float():
            done = _float(value, spec)
    return f"%!{spec.verb}({type_name(value)}={show(value)})" if done is None else done


def _nil(value: Nil, spec: _Spec) -> str:
    if value.inner != "<nil>" or spec.verb == "v":
        return _padded(value.inner, replace(spec, flags=spec.flags.replace("0", "")))
    return f"%!{spec.verb}(<nil>)"


def _record(value: Record, spec: _Spec) -> str:
    if value.is_map:
        return _joined("map[", [f"{_format(k, spec)}:{_format(v, spec)}" for k, v in value.fields.items()], "]")
    named = spec.verb == "v" and "+" in spec.flags
    return _joined("{", [f"{k}:" * named + _format(v, spec) for k, v in value.fields.items()], "}")


def _joined(before: str, parts: list[str], after: str) -> str:
    text = _Text()
    text.add(before)
    for index, part in enumerate(parts):
        text.add(" " * bool(index) + part)
    text.add(after)
    return text.get()


def _padded(text: str, spec: _Spec) -> str:
    if spec.width is None:
        return text
    if "-" in spec.flags:
        return text.ljust(spec.width)
    return text.rjust(spec.width, "0" if "0" in spec.flags else " ")


def _padded_number(text: str, spec: _Spec) -> str:
    """Zeros go between the sign and the digits."""
    if "0" in spec.flags and "-" not in spec.flags and spec.width is not None and text[:1] in ("-", "+", " "):
        return text[0] + text[1:].rjust(spec.width - 1, "0")
    return _padded(text, spec)


def _string(value: str, spec: _Spec) -> str | None:
    cut = value if spec.precision is None else value[: spec.precision]
    match spec.verb:
        case "v" if "#" in spec.flags:
            return _padded(quote(cut), spec)
        case "v" | "s":
            return _padded(cut, spec)
        case "q":
            return _padded(f"`{cut}`" if "#" in spec.flags and "`" not in cut else quote(cut), spec)
        case "x" | "X":
            data = value.encode(errors="replace")[: spec.precision]
            digits = data.hex(" ") if " " in spec.flags and data else data.hex()
            digits = "0x" * ("#" in spec.flags and bool(data)) + digits
            return _padded(digits.upper() if spec.verb == "X" else digits, spec)
        case _:
            return None


_BASES: dict[str, tuple[str, str]] = {
    "v": ("d", ""),
    "d": ("d", ""),
    "b": ("b", "0b"),
    "o": ("o", "0"),
    "O": ("o", ""),
    "x": ("x", "0x"),
    "X": ("X", "0X"),
}


def _integer(value: int, spec: _Spec) -> str | None:
    if spec.verb == "c":
        return _padded(chr(value) if is_character(value) else "\ufffd", spec)
    if spec.verb == "q":
        return _padded(quote_character(value), spec)
    if spec.verb == "U":
        return _padded(f"U+{value & (2**64 - 1):04X}", spec)
    if spec.verb not in _BASES:
        return None
    base, prefix = _BASES[spec.verb]
    digits = format(abs(value), base)
    if spec.precision is not None:
        digits = "" if not spec.precision and not value else digits.rjust(spec.precision, "0")
        spec = replace(spec, flags=spec.flags.replace("0", ""))
    if "#" in spec.flags:
        digits = prefix + digits
    if spec.verb == "O":
        digits = "0o" + digits
    return _padded_number(_sign(value < 0, spec) + digits, spec)


def _sign(negative: bool, spec: _Spec) -> str:
    if negative:
        return "-"
    if spec.verb == "v":
        return ""
    return "+" if "+" in spec.flags else " " if " " in spec.flags else ""


def _float(value: float, spec: _Spec) -> str | None:
    if spec.verb not in "vgGeEfF":
        return None
    if not math.isfinite(value):
        text = "NaN" if math.isnan(value) else _sign(value < 0, spec) + "Inf"
        text = "+Inf" if text == "Inf" else text
        return _padded(text, replace(spec, flags=spec.flags.replace("0", "")))
    negative = math.copysign(1, value) < 0
    return _padded_number(_sign(negative, spec) + _digits(abs(value), spec), spec)


def _digits(value: float, spec: _Spec) -> str:
    if spec.verb in "fF":
        return f"{value:.{6 if spec.precision is None else spec.precision}f}"
    if spec.verb in "eE":
        return f"{value:.{6 if spec.precision is None else spec.precision}{spec.verb}}"
    text = shortest(value) if spec.precision is None else f"{value:.{max(spec.precision, 1)}g}"
    return text.upper() if spec.verb == "G" else text


def shortest(value: float) -> str:
    """The shortest digits that give a float again, with an exponent when it is below -4 or above 5."""
    mantissa, _, exponent = _scientific(value).partition("e")
    power = int(exponent)
    if -4 <= power < 6:
        places = len(mantissa.replace("-", "").replace(".", "")) - 1 - power
        return f"{value:.{max(places, 0)}f}"
    return f"{mantissa}e{'-' if power < 0 else '+'}{abs(power):02d}"


def _scientific(value: float) -> str:
    candidates = (f"{value:.{digits}e}" for digits in range(17))
    return next((text for text in candidates if float(text) == value), f"{value:.17e}")
