"""The node's log: one event, one line, to standard error (systemd, `plait daemon`) or where `launch` sends that."""

import logging
import os
from collections import deque

# Lines kept while the disk is full; what is said then is the same few sentences.
MAX_WAITING_LINES = 500
_STANDARD_ERROR = 2


def set_up(level: str) -> None:
    """Log from `level` (debug, info, warning, error) on."""
    handler = PatientHandler(_STANDARD_ERROR)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
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
        self._waiting.append(f"{self.format(record)}\n".encode(errors="backslashreplace"))
        while self._waiting:
            line = self._waiting.popleft()
            try:
                written = os.write(self._fd, line)
            except OSError:
                self._waiting.appendleft(line)
                return
            if written < len(line):
                self._waiting.appendleft(line[written:])
