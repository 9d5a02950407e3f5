"""Who is on the bridge: every container's interfaces, found in the kernel and in no record, and what was left over.

It blocks, so call it in a thread; it changes nothing but in `remove_leftovers`.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from plait.api.model import Interface
from plait.attach.container import Container
from plait.attach.interface import CIDR, HOST_PREFIX, PREPARING_PREFIX, Bridge, addresses_of, require_bridge
from plait.errors import PermissionNeeded
from plait.host import netns
from plait.host.kernel_errors import NoSuchLink, NoSuchNamespace
from plait.host.netlink import Link, Netlink

EXPOSED = "weave:expose"  # Weave's name for the host itself, as owner of addresses
ALL_CONTAINERS = "weave:allids"
_DOCKER_NAMESPACES = Path("/run/docker/netns")


def bridge_interface(bridge: Bridge) -> Interface:
    """The bridge itself. Raise BridgeMissing."""
    with Netlink() as host:
        link = require_bridge(host, bridge)
        return Interface(EXPOSED, link.mac, [str(cidr) for cidr in addresses_of(host, bridge.name)])


def container_interfaces(bridge: Bridge, containers: Iterable[Container]) -> list[Interface]:
    """Every interface of these containers whose other end is a port of the bridge, whoever made it.

    Containers that are gone give none. Raise BridgeMissing.
    """
    found: list[Interface] = []
    with Netlink() as host:
        require_bridge(host, bridge)
        ports = [port for port in host.ports(bridge.name) if port.kind == "veth"]
        for container in containers:
            for pair in _pairs(host, ports, container.netns):
                found.append(Interface(container.ident, pair.other.mac, [str(cidr) for cidr in pair.cidrs]))
    return found


@dataclass(frozen=True, slots=True)
class End:
    """A container's interface on the bridge: what is inside, and the port that is its other end."""

    ident: str
    netns: Path
    interface: str
    mac: str
    mtu: int
    is_up: bool
    cidrs: list[CIDR]
    port: str
    port_is_up: bool


def container_ends(bridge: Bridge, containers: Iterable[Container]) -> list[End]:
    """The same interfaces as `container_interfaces`, with their ports. Raise BridgeMissing."""
    found: list[End] = []
    with Netlink() as host:
        require_bridge(host, bridge)
        ports = [port for port in host.ports(bridge.name) if port.kind == "veth"]
        for container in containers:
            for pair in _pairs(host, ports, container.netns):
                inside, port = pair.other, pair.end
                found.append(
                    End(
                        container.ident,
                        container.netns,
                        inside.name,
                        inside.mac,
                        inside.mtu,
                        inside.is_up,
                        pair.cidrs,
                        port.name,
                        port.is_up,
                    )
                )
    return found


def sound_ports(bridge: Bridge) -> set[str]:
    """Names of the bridge's ports that are as `attach` makes them, with the other end up. Raise BridgeMissing."""
    with Netlink() as host:
        require_bridge(host, bridge)
        ports = host.ports(bridge.name)
    return {port.name for port in ports if port.is_up and port.has_carrier and port.mtu == bridge.mtu}


def remove_leftovers(bridge: Bridge) -> list[str]:
    """Delete the host's ends of veth pairs that `attach` made and no container has, and give their names.

    A pair is left over if its container's process is gone and no namespace that can be seen has its other end, or if
    it was never finished. Call it only while nothing is being attached. Raise BridgeMissing.
    """
    with Netlink() as host:
        ours = require_bridge(host, bridge)
        ends = [link for link in host.links() if _is_host_end(link, ours)]
        if not ends:
            return []
        pairs = {pair.end.index: pair for path in _live_namespaces() for pair in _pairs(host, ends, path)}
        left_over = [end.name for end in ends if _is_left_over(end, pairs.get(end.index))]
        for name in left_over:
            host.delete_link(name)
    return left_over


@dataclass(frozen=True, slots=True)
class _Pair:
    """A veth pair: our end, the other one, and the other one's addresses."""

    end: Link
    other: Link
    cidrs: list[CIDR]


def _pairs(host: Netlink, ends: list[Link], path: Path) -> list[_Pair]:
    """Those of our ends whose other ends are in the namespace at this path."""
    with suppress(NoSuchNamespace, NoSuchLink):  # it ended meanwhile: it has none
        number = host.namespace_number(path)
        here = {end.peer_index: end for end in ends if number is not None and end.peer_netns_id == number}
        if here:
            with Netlink(path) as guest:
                others = [link for link in guest.links() if link.index in here]
                return [_Pair(here[link.index], link, addresses_of(guest, link.name)) for link in others]
    return []


def _is_host_end(link: Link, bridge: Link) -> bool:
    return link.kind == "veth" and link.name.startswith(HOST_PREFIX) and link.master_index in (None, bridge.index)


def _is_left_over(end: Link, pair: _Pair | None) -> bool:
    """Names of another form (Weave's CNI plugin cuts container ids) are not ours to judge."""
    if pair is not None:
        return pair.other.name.startswith(PREPARING_PREFIX)
    suffix = end.name.removeprefix(HOST_PREFIX)
    return suffix.startswith("n") or (suffix.isdigit() and not Path("/proc", suffix).exists())


def _live_namespaces() -> Iterator[Path]:
    """One path for each network namespace that a process is in or a name keeps, ours left out."""
    own = netns.identity("/proc/self/ns/net")
    seen = {own}
    for path in (*_process_namespaces(), *_named_namespaces(netns.NAMED), *_named_namespaces(_DOCKER_NAMESPACES)):
        with suppress(NoSuchNamespace, PermissionNeeded):  # it ended meanwhile, or may not be seen
            identity = netns.identity(path)
            if identity not in seen and identity[0] == own[0]:  # a left-over file is on another device
                seen.add(identity)
                yield path


def _process_namespaces() -> list[Path]:
    return [Path("/proc", entry, "ns/net") for entry in os.listdir("/proc") if entry.isdigit()]


def _named_namespaces(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []
