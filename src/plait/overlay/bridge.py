"""The bridge that containers and overlays share, and the tap by which sleeve takes part in it: kept as desired.

The node calls `ensure` again and again: what another tool removed or changed is put right, and said.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from plait.errors import AddressInUse
from plait.host import sysctl
from plait.host.netlink import Link, Netlink
from plait.host.tap import MAX_MTU
from plait.overlay.ethernet import octets

# Starts with the prefix by which Weave's own clean-up finds its links.
TAP = "vethwe-sleeve"

# The port by which Weave's router took part in the bridge. A port without its router is a hole: the bridge sends it all
# that is for containers which it saw behind it.
WEAVE_PORT = "vethwe-bridge"

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
            return [*self._ensure_bridge(netlink), *self._ensure_tap(netlink), *self._ensure_mtu(netlink)]

    def lacks(self) -> list[str]:
        """Say what of bridge and tap is not there or cannot carry frames. Blocking: call in a thread."""
        with Netlink() as netlink:
            bridge, tap = netlink.link(self.settings.name), netlink.link(TAP)
        if bridge is None:
            return [f"bridge {self.settings.name} is gone: no container of this host reaches another"]
        found = [] if bridge.is_up else [f"bridge {self.settings.name} is down"]
        if tap is None:
            found.append(f"tap {TAP} is gone: no frame goes through user space")
        elif tap.master_index != bridge.index or not tap.is_up:
            found.append(f"tap {TAP} is down or not in bridge {self.settings.name}")
        return found

    def has_tap(self) -> bool:
        """Whether the tap is there: without it `ensure` can do nothing for it. Blocking: call in a thread."""
        with Netlink() as netlink:
            return netlink.link(TAP) is not None

    def container_macs(self) -> list[bytes]:
        """Give the MAC addresses of the containers in the bridge. Blocking: call in a thread. Raises PlaitError."""
        with Netlink() as netlink:
            return [mac for mac, _ in containers(netlink, netlink.ports(self.settings.name))]

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
        if not link.is_up:
            netlink.set_link(wanted.name, up=True)
            repairs.append(f"bridge {wanted.name} was down: set it up")
        port = netlink.link(WEAVE_PORT)
        if port is not None and port.master_index == link.index:
            netlink.delete_link(WEAVE_PORT)
            repairs.append(f"Weave's router had left its port {WEAVE_PORT} in bridge {wanted.name}: removed it")
        self._set_sysctls()
        return repairs

    def _ensure_tap(self, netlink: Netlink) -> list[str]:
        wanted = self.settings
        bridge, tap = netlink.link(wanted.name), netlink.link(TAP)
        if bridge is None or tap is None:
            return []  # somebody is faster than we are: the next look will find it
        repairs = []
        if tap.master_index != bridge.index:
            netlink.set_link(TAP, master=wanted.name)
            repairs.append(f"tap {TAP} was not in bridge {wanted.name}: put it there")
        # Containers that Weave attached send up to 65535 bytes. What a port cannot take a bridge drops without a word;
        # the pump can cut it, or tell the sender what fits.
        if tap.mtu != MAX_MTU:
            netlink.set_link(TAP, mtu=MAX_MTU)
            repairs.append(f"tap {TAP} had MTU {tap.mtu}: set it to {MAX_MTU}")
        if not tap.is_up:
            netlink.set_link(TAP, up=True)
            repairs.append(f"tap {TAP} was down: set it up")
        return repairs

    def _ensure_mtu(self, netlink: Netlink) -> list[str]:
        """Set the bridge's own MTU, last: until somebody changes it, it follows the smallest of its ports."""
        wanted = self.settings
        bridge = netlink.link(wanted.name)
        if bridge is None or bridge.mtu == wanted.mtu:
            return []
        netlink.set_link(wanted.name, mtu=wanted.mtu)
        return [f"bridge {wanted.name} had MTU {bridge.mtu}: set it to {wanted.mtu}"]

    def _set_sysctls(self) -> None:
        name = self.settings.name
        sysctl.write(f"net.ipv6.conf.{name}.accept_ra", "0")
        for key, value in NEIGHBOUR_SETTINGS.items():
            sysctl.write(f"net.ipv4.neigh.{name}.{key}", value)


def containers(netlink: Netlink, ports: Iterable[Link]) -> Iterator[tuple[bytes, Link]]:
    """Give the MAC address of each container behind ports of a bridge, with its port: that of the veth's other end."""
    for port in ports:
        other = netlink.other_end(port) if port.kind == "veth" else None
        if other is not None and other.mac:
            yield octets(other.mac), port
