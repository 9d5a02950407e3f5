"""plait between two plait nodes, as its commands make it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.systems.base import System
from plait.testing.lab import Container, Host


class Plait(System):
    """Frames travel in Weave's format, through the pump; encrypted with a password."""

    def __init__(self, password: str | None = None) -> None:
        self._password = password

    def launch(self, host: Host, peers: Sequence[Host]) -> None:
        """Run `plait launch`."""
        host.launch(*peers, password=self._password)

    def attach(self, host: Host, container: Container, cidr: str) -> None:
        """Run `plait attach`."""
        host.attach(container, cidr)

    def processes(self, host: Host) -> Mapping[str, int]:
        """Give daemon and pump."""
        daemon = int(Path(host.environment()["PLAIT_RUN_DIR"], "plait.pid").read_text())
        return {"daemon": daemon, "pump": int(host.status_json()["Plait"]["Pump"]["pid"])}
