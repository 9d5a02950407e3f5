"""The node's log: one event, one line, to standard error (systemd, `plait daemon`) or where `launch` sends that."""

import logging
import sys


def set_up(level: str) -> None:
    """Log from `level` (debug, info, warning, error) on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # aiohttp tells every request at info; status polling would drown what matters.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
