"""plait between two plait nodes, as its commands make it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.systems.base import System, address_at
from plait.testing.lab import Container, Host, LabError


@dataclass(frozen=True, slots=True)
class Variant:
    """What carries the frames, and the options of `plait launch` that make it so.

    `loop`: python or compiled, None for what there is. `is_direct`, of fastdp alone: whether eBPF writes the outer
    headers, or the VXLAN device.
    """

    overlay: str
    options: tuple[str, ...]
    loop: str | None = None
    is_direct: bool | None = None


def in_user_space(overlay: str, loop: str | None = None) -> Variant:
    """Give the variant in which nothing but this format is offered."""
    return Variant(overlay, ("--overlays", overlay, *(("--sleeve-loop", loop) if loop else ())), loop)


WEAVE_FORMAT = in_user_space("sleeve")
PYTHON_LOOP = in_user_space("plait1", "python")
COMPILED_LOOP = in_user_space("plait1", "compiled")
DIRECT = Variant("fastdp", (), is_direct=True)
BY_DEVICE = Variant("fastdp", ("--fastdp-encapsulation", "device"), is_direct=False)


class Plait(System):
    """Nodes of one variant, encrypted with a password. Figures of another variant under its name would be wrong."""

    def __init__(self, variant: Variant, password: str | None = None) -> None:
        self._variant = variant
        self._password = password
        self.hosts: list[Host] = []

    def launch(self, host: Host, peers: Sequence[Host]) -> None:
        """Run `plait launch`."""
        addresses = [address_at(host, peer) or peer.ip for peer in peers]
        host.launch(*addresses, password=self._password, extra=self._variant.options)
        self.hosts.append(host)

    def attach(self, host: Host, container: Container, cidr: str) -> None:
        """Run `plait attach`."""
        host.attach(container, cidr)

    def processes(self, host: Host) -> Mapping[str, int]:
        """Give daemon and pump."""
        daemon = int(Path(host.environment()["PLAIT_RUN_DIR"], "plait.pid").read_text())
        return {"daemon": daemon, "pump": int(host.status_json()["Plait"]["Pump"]["pid"])}

    def is_settled(self) -> bool:
        """Say whether all nodes are connected as their variant says. Raise LabError if one uses another."""
        return all(is_as_launched(self._variant, host.name, host.status_json()) for host in self.hosts)


def is_as_launched(variant: Variant, name: str, status: Mapping[str, Any]) -> bool:
    """Read `plait status --json` of a node; False as long as it does not know. Raise LabError if it is another variant.

    A node without a compiled loop says so in words with "Python" in them, and goes on.
    """
    loop = str(status["Plait"]["Pump"].get("loop") or "")
    if variant.loop and loop and ("python" in loop.lower()) != (variant.loop == "python"):
        raise LabError(f"{name} was launched with --sleeve-loop {variant.loop} but works with its {loop}")
    # Those without attributes are peers that it cannot reach: two of three hosts in a line.
    details = [each["Attrs"] for each in status["Router"]["Connections"] or () if each.get("Attrs") is not None]
    overlays = [str(each.get("name", "")) for each in details]
    if variant.is_direct is not None:
        # Until the kernel's path is proved, user space carries a connection.
        return bool(overlays) and {*overlays} == {variant.overlay} and _has_hops(variant, name, status)
    wrong = [overlay for overlay in overlays if overlay not in ("", variant.overlay)]
    if wrong:
        raise LabError(f"{name} was launched with --overlays {variant.overlay} but sends {wrong[0]}")
    return all(overlays) and bool(overlays) and bool(loop or not variant.loop)


def _has_hops(variant: Variant, name: str, status: Mapping[str, Any]) -> bool:
    datapath = status["Plait"]["Datapath"]
    if not datapath["Carries"]:
        raise LabError(f"{name} was launched for fastdp but its kernel carries nothing: {datapath['Why']}")
    hops = [hop for hop in datapath["Hops"] if hop["Via"] != "nothing"]
    if any(hop["Via"] != "vxlan" for hop in hops):
        return False
    wrong = [hop for hop in hops if hop["Direct"] != variant.is_direct]
    if wrong:
        words = " ".join(variant.options) or "no options"
        raise LabError(f"{name} was launched with {words} but direct is {wrong[0]['Direct']} for {wrong[0]['Peer']}")
    return bool(hops)
