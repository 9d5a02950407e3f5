"""Where a node keeps its things, and their names. Imports nothing heavy: every command needs it."""

from pathlib import Path

DEFAULT_STATE_DIR = Path("/var/lib/plait")
DEFAULT_RUN_DIR = Path("/run/plait")
SOCKET_NAME = "plait.sock"
"""In the run directory: the node's API."""
PID_NAME = "plait.pid"
"""In the run directory: the node's process."""
LOG_NAME = "plait.log"
"""In the state directory: what a node that was started by `plait launch` says."""
