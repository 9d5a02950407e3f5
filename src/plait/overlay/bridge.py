"""The bridge that containers and overlays share, and the tap by which sleeve takes part in it: kept as desired.

The node calls `ensure` again and again: what another tool removed or changed is put right, and said.
"""

from dataclasses import dataclass

from plait.errors import AddressInUse
from plait.host import sysctl
from plait.host.netlink import Netlink

# Starts with the prefix by which Weave's own clean-up finds its links.
TAP = "vethwe-sleeve"

# Weave's neighbour settings on the bridge and on container interfaces: a moved MAC is noticed in seconds.
NEIGHBOUR_SETTINGS = {"base_reachable_time_ms": "5000", "delay_first_probe_time": "2", "ucast_solicit": "1"}


@dataclass(frozen=True, slots=True)
class BridgeSettings:
    """What the bridge must be. `mac` is used only when it is made: an existing one keeps its address."""

    name: str
    mac: str
    mtu: int


class BridgeKeeper:
    """Keeps the bridge and the tap in it. The tap's file descriptor is the pump's; its link is ours to place."""

    def __init__(self, settings: BridgeSettings) -> None:
        self.settings = settings

    def ensure(self) -> list[str]:
        """Make and repair; gives a sentence for each thing that was not as it should be. Blocking: call in a thread."""
        with Netlink() as netlink:
            return [*self._ensure_bridge(netlink), *self._ensure_tap(netlink)]

    def _ensure_bridge(self, netlink: Netlink) -> list[str]:
        wanted = self.settings
        link = netlink.link(wanted.name)
        if link is None:
            netlink.create_bridge(wanted.name, wanted.mac, wanted.mtu)
            netlink.set_link(wanted.name, up=True)
            self._set_sysctls()
            return [f"bridge {wanted.name} was absent: made it"]
        if link.kind != "bridge":
            raise AddressInUse(
                f"the link {wanted.name} exists but is of kind {link.kind or 'unknown'}, not a bridge: if Weave left "
                f"it, run 'weave reset' (or 'ip link delete {wanted.name}'), or choose another name with --weave-bridge"
            )
        repairs = []
        if link.mtu != wanted.mtu:
            netlink.set_link(wanted.name, mtu=wanted.mtu)
            repairs.append(f"bridge {wanted.name} had MTU {link.mtu}: set it to {wanted.mtu}")
        if not link.is_up:
            netlink.set_link(wanted.name, up=True)
            repairs.append(f"bridge {wanted.name} was down: set it up")
        self._set_sysctls()
        return repairs

    def _ensure_tap(self, netlink: Netlink) -> list[str]:
        wanted = self.settings
        bridge, tap = netlink.link(wanted.name), netlink.link(TAP)
        if bridge is None or tap is None:
            return [f"the tap {TAP} is gone: frames of containers cannot reach other hosts until the node restarts"]
        repairs = []
        if tap.master_index != bridge.index:
            netlink.set_link(TAP, master=wanted.name)
            repairs.append(f"tap {TAP} was not in bridge {wanted.name}: put it there")
        if tap.mtu != wanted.mtu:
            netlink.set_link(TAP, mtu=wanted.mtu)
            repairs.append(f"tap {TAP} had MTU {tap.mtu}: set it to {wanted.mtu}")
        if not tap.is_up:
            netlink.set_link(TAP, up=True)
            repairs.append(f"tap {TAP} was down: set it up")
        return repairs

    def _set_sysctls(self) -> None:
        name = self.settings.name
        sysctl.write(f"net.ipv6.conf.{name}.accept_ra", "0")
        for key, value in NEIGHBOUR_SETTINGS.items():
            sysctl.write(f"net.ipv4.neigh.{name}.{key}", value)
