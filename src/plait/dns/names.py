"""Host names: how they are written, compared and put on the wire; pure.

The comparison key of a name is its DNS wire form in lower case. Lengths of labels are below 64 and letters are not, so
`bytes.lower()` of a question's name is the key of what it asks for, whatever its spelling.
"""

import re

from plait.errors import UsageError

MAX_LABEL = 63
"""Bytes of a label (RFC 1035, 2.3.4)."""

MAX_WIRE = 255
"""Bytes of a name on the wire, with lengths and the final zero (RFC 1035, 2.3.4)."""

# Letters, digits and inner hyphens (RFC 952, 1123), and the underscore of container and service names.
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?\Z")
# In front of keys of names that no question can ask for; no length of a label.
_UNASKABLE = b"\xff"


class BadName(UsageError):
    """A text that cannot be a host name."""


def absolute(text: str) -> str:
    """Give the name with its trailing dot, in the spelling that it came in."""
    return text if text.endswith(".") else f"{text}."


def checked(text: str) -> str:
    """Give a name that an operator wrote, with its trailing dot. Raises BadName."""
    name = absolute(text)
    for label in name[:-1].split("."):
        if not label:
            raise BadName(
                f"{text!r} is no host name: it is empty, or two dots follow each other; write one like web.weave.local"
            )
        if len(label) > MAX_LABEL:
            raise BadName(
                f"{text!r} is no host name: {label[:20]!r}... has {len(label)} characters, {MAX_LABEL} is the most"
            )
        if not _LABEL.match(label):
            raise BadName(
                f"{text!r} is no host name: {label!r} may have letters, digits, '_' and inner '-' only; "
                "write other alphabets in their xn-- form"
            )
    if len(name) + 1 > MAX_WIRE:
        raise BadName(
            f"{text[:20]!r}... is no host name: it has {len(name) - 1} characters, {MAX_WIRE - 2} is the most"
        )
    return name


def is_in(name: str, domain: str) -> bool:
    """Tell if a name is the domain or below it, whatever the spelling; both with trailing dots."""
    lower, domain = name.lower(), domain.lower()
    return lower == domain or lower.endswith(f".{domain}")


def wire(name: str) -> bytes | None:
    """Give the wire form of a name with trailing dot; None if it has none (labels empty or too long)."""
    if name == ".":
        return b"\0"
    out = bytearray()
    for label in name.removesuffix(".").encode("utf-8", "surrogateescape").split(b"."):
        if not 0 < len(label) <= MAX_LABEL:
            return None
        out.append(len(label))
        out += label
    out.append(0)
    return bytes(out) if len(out) <= MAX_WIRE else None


def key(name: str) -> bytes:
    """Give what is equal for all spellings of a name."""
    form = wire(name)
    return form.lower() if form is not None else _UNASKABLE + name.lower().encode("utf-8", "surrogateescape")
