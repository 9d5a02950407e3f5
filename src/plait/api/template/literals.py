"""Go's constants: strings with escapes, characters, numbers, and quoting. Wrong ones raise ValueError with the words
that a message has after the line."""

import math
import re

MAX_INT = 2**63
"""Go's integers end here; a longer number in a template is a mistake."""

_SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34}
_ESCAPE = re.compile(
    r"\\(?:(?P<simple>[abfnrtv\\'\"])|(?P<octal>[0-7]{3})|x(?P<byte>[0-9a-fA-F]{2})"
    r"|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})|(?P<bad>.?))",
    re.DOTALL,
)
_INTEGER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO]?[0-7_]+|[1-9][0-9_]*|0)", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:[0-9_]+\.?[0-9_]*|\.[0-9_]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)


def unquote(body: str) -> str:
    """The string that stands between double quotes. Bytes that are not UTF-8 become U+FFFD."""
    parts: list[bytes] = []
    end = 0
    for match in _ESCAPE.finditer(body):
        parts += [body[end : match.start()].encode(errors="replace"), _escape(match)]
        end = match.end()
    parts.append(body[end:].encode(errors="replace"))
    return b"".join(parts).decode(errors="replace")


def character(body: str) -> int:
    """The number of the character that stands between single quotes."""
    text = unquote(body)
    if len(text) != 1 or body == "'":
        raise ValueError(f"malformed character constant: '{body}'")
    return ord(text)


def number(text: str) -> int | float:
    """An integer in Go's bases, or a float."""
    digits = text.replace("_", "")
    if _INTEGER.fullmatch(text) and len(digits) < 80:
        integer = int(re.sub(r"^([+-]?)0(?=[0-7])", r"\g<1>0o", digits), 0)
        if abs(integer) >= MAX_INT:
            raise ValueError(f"integer overflow: {quote(text)}")
        return integer
    if _FLOAT.fullmatch(text):
        value = float(digits)
        if math.isfinite(value):
            return value
    raise ValueError(f"bad number syntax: {quote(text)}")


def quote(text: str) -> str:
    """A string as Go's %q shows it."""
    return '"' + "".join(_quoted(c, '"') for c in text) + '"'


def quote_character(code: int) -> str:
    """A character as Go's %q shows it; U+FFFD for a number that is none."""
    return "'" + _quoted(chr(code) if is_character(code) else "\ufffd", "'") + "'"


def is_character(code: int) -> bool:
    """Whether a number is a Unicode scalar value."""
    return 0 <= code < 0xD800 or 0xE000 <= code <= 0x10FFFF


_NAMED = {7: "\\a", 8: "\\b", 12: "\\f", 10: "\\n", 13: "\\r", 9: "\\t", 11: "\\v", 92: "\\\\"}


def _quoted(char: str, mark: str) -> str:
    code = ord(char)
    if char == mark:
        return "\\" + mark
    if code in _NAMED:
        return _NAMED[code]
    if char.isprintable():
        return char
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escape(match: re.Match[str]) -> bytes:
    if match["simple"]:
        return bytes([_SIMPLE[match["simple"]]])
    if match["octal"] or match["byte"]:
        value = int(match["octal"], 8) if match["octal"] else int(match["byte"], 16)
        if value < 256:
            return bytes([value])
    elif match["u"] or match["U"]:
        code = int(match["u"] or match["U"], 16)
        if is_character(code):
            return chr(code).encode()
    raise ValueError("invalid syntax")
