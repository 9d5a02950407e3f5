"""plait between two plait nodes, as its commands make it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.systems.base import System
from plait.testing.lab import Container, Host, LabError


@dataclass(frozen=True, slots=True)
class Variant:
    """The only format that is offered, and what moves the frames: python, compiled, or None for what there is."""

    overlay: str
    loop: str | None = None

    def options(self) -> list[str]:
        """Give the options of `plait launch`."""
        return ["--overlays", self.overlay, *(["--sleeve-loop", self.loop] if self.loop else [])]


WEAVE_FORMAT = Variant("sleeve")
PYTHON_LOOP = Variant("plait1", "python")
COMPILED_LOOP = Variant("plait1", "compiled")


class Plait(System):
    """Nodes of one variant, encrypted with a password. Figures of another variant under its name would be wrong."""

    def __init__(self, variant: Variant, password: str | None = None) -> None:
        self._variant = variant
        self._password = password
        self._hosts: list[Host] = []

    def launch(self, host: Host, peers: Sequence[Host]) -> None:
        """Run `plait launch`."""
        host.launch(*peers, password=self._password, extra=self._variant.options())
        self._hosts.append(host)

    def attach(self, host: Host, container: Container, cidr: str) -> None:
        """Run `plait attach`."""
        host.attach(container, cidr)

    def processes(self, host: Host) -> Mapping[str, int]:
        """Give daemon and pump."""
        daemon = int(Path(host.environment()["PLAIT_RUN_DIR"], "plait.pid").read_text())
        return {"daemon": daemon, "pump": int(host.status_json()["Plait"]["Pump"]["pid"])}

    def is_settled(self) -> bool:
        """Say whether all nodes are connected as their variant says. Raise LabError if one uses another."""
        return all(is_as_launched(self._variant, host.name, host.status_json()) for host in self._hosts)


def is_as_launched(variant: Variant, name: str, status: Mapping[str, Any]) -> bool:
    """Read `plait status --json` of a node; False as long as it does not know. Raise LabError if it is another variant.

    A node without a compiled loop says so in words with "Python" in them, and goes on.
    """
    loop = str(status["Plait"]["Pump"].get("loop") or "")
    if variant.loop and loop and ("python" in loop.lower()) != (variant.loop == "python"):
        raise LabError(f"{name} was launched with --sleeve-loop {variant.loop} but works with its {loop}")
    overlays = [str(each.get("Attrs", {}).get("name", "")) for each in status["Router"]["Connections"] or ()]
    wrong = [overlay for overlay in overlays if overlay not in ("", variant.overlay)]
    if wrong:
        raise LabError(f"{name} was launched with --overlays {variant.overlay} but sends {wrong[0]}")
    return all(overlays) and bool(overlays) and bool(loop or not variant.loop)
