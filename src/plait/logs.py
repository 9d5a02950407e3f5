"""The node's log: one event, one line, to standard error (systemd, `plait daemon`) or where `launch` sends that."""

import logging
import os
from collections import deque

# Lines kept while the disk is full; what is said then is the same few sentences.
MAX_WAITING_LINES = 500
_STANDARD_ERROR = 2
# C0, DEL and C1.
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "?")


def set_up(level: str) -> None:
    """Log from `level` (debug, info, warning, error) on."""
    handler = PatientHandler(_STANDARD_ERROR)
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # aiohttp tells every request at info; status polling would drown what matters.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


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
        return super().formatMessage(record).translate(_CONTROLS)
