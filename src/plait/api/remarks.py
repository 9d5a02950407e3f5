"""What a node has to say to whoever makes a request, beside the answer: warnings, which the CLI prints.

They travel in a header, so that Weave's bodies stay as they are. Rooms that warn know nothing of requests.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

HEADER = "X-Plait-Remarks"
# Of one request; a header line has at most 8190 bytes in aiohttp and 65536 in Python's http.client.
MAX_REMARKS = 10
MAX_LENGTH = 500


@dataclass(slots=True)
class _Listener:
    said: list[str] = field(default_factory=list)
    is_open: bool = True


_current: ContextVar[_Listener | None] = ContextVar("remarks", default=None)


@contextmanager
def heard() -> Iterator[list[str]]:
    """Collect what `say` is told meanwhile, here and in the tasks and threads that are started here."""
    listener = _Listener()
    token = _current.set(listener)
    try:
        yield listener.said
    finally:
        _current.reset(token)
        # A task that outlives the request goes on in a copy of this context.
        listener.is_open = False


def say(text: str) -> None:
    """Tell it to who listens; nobody may."""
    listener = _current.get()
    if listener is not None and listener.is_open and text not in listener.said and len(listener.said) < MAX_REMARKS:
        listener.said.append(text[:MAX_LENGTH])


def encode(said: list[str]) -> str:
    """Give the value of the header: one line of ASCII."""
    return json.dumps(said).replace("\x7f", "\\u007f")  # the one control character that JSON leaves alone


def decode(value: str) -> list[str]:
    """Read the header; what is no list of texts is none."""
    try:
        texts = json.loads(value or "[]")
    except ValueError:
        return []
    return [text for text in texts if isinstance(text, str)] if isinstance(texts, list) else []
