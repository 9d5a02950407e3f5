"""The node's log: one event, one line, to standard error (systemd, `plait daemon`) or where `launch` sends that.

A line is text, or a JSON object with `ts` (UTC), `level`, `logger`, `message` and, where there is one, `event`, `peer`,
`cure`, `traceback`.
"""

import json
import logging
import os
import time
from collections import deque
from datetime import UTC, datetime

from plait.printable import printable
from plait.repeats import Repeats

# Lines kept while the disk is full; what is said then is the same few sentences.
MAX_WAITING_LINES = 500
_STANDARD_ERROR = 2
# What a record can have besides (plait.chronicle).
_FIELDS = ("event", "peer", "cure")


def set_up(level: str, form: str = "text") -> None:
    """Log from `level` (debug, info, warning, error) on, in the form `text` or `json`."""
    handler = PatientHandler(_STANDARD_ERROR)
    handler.setFormatter(_Json() if form == "json" else _OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(_Repeated(handler).filter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # aiohttp tells every request at info; status polling would drown what matters.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


class _Repeated:
    """Counts what is said again and again, and says the count with the first line after the window."""

    def __init__(self, handler: logging.Handler) -> None:
        self._repeats = Repeats()
        self._handler = handler

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record is to be written."""
        now = time.monotonic()
        self._handler.acquire()  # threads log too, and logging itself takes this only to write
        try:
            for (name, level, message), count in self._repeats.due(now):
                text = f"repeated {count} times: {message}"
                self._handler.emit(logging.LogRecord(name, level, "", 0, text, None, None))
            return self._repeats.passes((record.name, record.levelno, record.getMessage()), now)
        finally:
            self._handler.release()


class PatientHandler(logging.Handler):
    """Writes to a descriptor; lines that a full disk refuses wait for the next one. Writing never fails."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._waiting: deque[bytes] = deque(maxlen=MAX_WAITING_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Write what waits, then this."""
        try:
            line = f"{self.format(record)}\n"
        except Exception:
            self.handleError(record)
            return
        self._waiting.append(line.encode(errors="backslashreplace"))
        while self._waiting:
            oldest = self._waiting.popleft()
            try:
                written = os.write(self._fd, oldest)
            except OSError:
                self._waiting.appendleft(oldest)
                return
            if written < len(oldest):
                self._waiting.appendleft(oldest[written:])


class _OneLine(logging.Formatter):
    """What peers say of themselves cannot make a second line, or drive a terminal. Tracebacks keep theirs."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        cure = getattr(record, "cure", "")
        return printable(f"{super().formatMessage(record)}{f'; cure: {cure}' if cure else ''}")


class _Json(logging.Formatter):
    """One object a line; a traceback is a text in it."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {name: value for name in _FIELDS if (value := getattr(record, name, ""))}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)
