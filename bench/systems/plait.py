"""plait between two plait nodes, as its commands make it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.systems.base import System
from plait.testing.lab import Container, Host

WEAVE_FORMAT = ("--overlays", "sleeve")
PYTHON_LOOP = ("--overlays", "plait1", "--sleeve-loop", "python")
COMPILED_LOOP = ("--overlays", "plait1", "--sleeve-loop", "compiled")


class Plait(System):
    """Nodes launched with these options, so that no other format or loop is chosen; encrypted with a password."""

    def __init__(self, options: Sequence[str], password: str | None = None) -> None:
        self._options = options
        self._password = password

    def launch(self, host: Host, peers: Sequence[Host]) -> None:
        """Run `plait launch`."""
        host.launch(*peers, password=self._password, extra=self._options)

    def attach(self, host: Host, container: Container, cidr: str) -> None:
        """Run `plait attach`."""
        host.attach(container, cidr)

    def processes(self, host: Host) -> Mapping[str, int]:
        """Give daemon and pump."""
        daemon = int(Path(host.environment()["PLAIT_RUN_DIR"], "plait.pid").read_text())
        return {"daemon": daemon, "pump": int(host.status_json()["Plait"]["Pump"]["pid"])}
