"""`ethwe` in a container: one end of a veth pair whose other end is a port of the bridge.

Everything here may be repeated: what is there stays, what is missing is added. It blocks, so call it in a thread;
it keeps no records, and does not know who owns an address.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface

from plait.attach.container import Container, ContainerDied
from plait.errors import KernelLacks, PlaitError
from plait.host import arp, ethtool, firewall, netns, sysctl, tables
from plait.host.netlink import Link, Netlink

GUEST_NAME = "ethwe"
HOST_PREFIX = "vethwepl"
PREPARING_PREFIX = "vethwepg"  # the container's end until it is ready to be `ethwe`
MULTICAST = "224.0.0.0/4"

CIDR = IPv4Interface | IPv6Interface

_IFNAME_CHARACTERS = 15  # IFNAMSIZ of linux/if.h without the final zero
_NAME_BASE = 36
_NAME_DIGITS = _IFNAME_CHARACTERS - len(HOST_PREFIX) - 1
# Neighbours notice within seconds that an address moved to another MAC (Weave's values).
NEIGHBOUR_SETTINGS = {"base_reachable_time": "5", "delay_first_probe_time": "2", "ucast_solicit": "1"}
# Largest TCP or UDP super-frame of a container, bytes: cut into datagrams that each repeat its headers, and encrypted,
# it is still one send of at most 65507 bytes.
MAX_SUPER_FRAME = 59000
ANNOUNCE_AFTER = 0.001  # seconds from link up; Weave's value


class BridgeMissing(PlaitError):
    """The node's bridge is not there."""


class InterfaceTaken(PlaitError):
    """The container has an `ethwe` that is none of this bridge's."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """The bridge that containers join. Without `tx_checksum` their ends compute checksums themselves: needed where
    frames reach a capture that does not know offloads."""

    name: str = "weave"
    mtu: int = 1376
    tx_checksum: bool = True


def attach(container: Container, cidrs: Iterable[CIDR], bridge: Bridge, multicast_route: bool = True) -> list[CIDR]:
    """Give the container `ethwe` with these addresses, and give those that it had not.

    Raise ContainerDied (then nothing of it is left), BridgeMissing, InterfaceTaken, or what the kernel refuses;
    a pair made by a call that fails is removed.
    """
    with _pinned(container) as namespace, Netlink() as host, Netlink(namespace) as guest:
        require_bridge(host, bridge)
        present = guest.link(GUEST_NAME)
        if present is None:
            host_end = host_end_name(container)
            host.delete_link(host_end)  # of a dead container with the same number, or half made by a node that died
            host.create_veth(host_end, PREPARING_PREFIX + _suffix(container), bridge.mtu, namespace)
        else:
            host_end = _host_end(host, namespace, present, bridge).name
        try:
            if present is None:
                _prepare(host_end, PREPARING_PREFIX + _suffix(container), namespace, guest)
            _join(host, host_end, bridge)
            added = _equip(guest, namespace, list(cidrs), bridge, multicast_route)
            _check_alive(container)
        except BaseException:
            if present is None or not container.is_alive():
                host.delete_link(host_end)
            raise
        return added


def detach(container: Container, cidrs: Iterable[CIDR] | None) -> list[CIDR]:
    """Take these addresses (None: all) from `ethwe`, `ethwe` with the last, and give those that were there.

    A container without `ethwe` is fine. Raise ContainerDied, or what the kernel refuses.
    """
    with _pinned(container) as namespace, Netlink(namespace) as guest:
        if guest.link(GUEST_NAME) is None:
            return []
        present = addresses_of(guest, GUEST_NAME)
        removed = present if cidrs is None else [cidr for cidr in cidrs if cidr in present]
        remaining = [cidr for cidr in present if cidr not in removed]
        with netns.entered(namespace):
            if not remaining:
                guest.delete_link(GUEST_NAME)
                firewall.delete("ip", tables.MULTICAST)
                return removed
            keep_secondary_addresses(GUEST_NAME)
            for cidr in removed:
                guest.delete_address(GUEST_NAME, cidr)
            firewall.apply(tables.multicast(GUEST_NAME, _subnets(remaining)))
        return removed


def host_end_name(container: Container) -> str:
    """The name that the host's end gets; no two live containers share it."""
    return HOST_PREFIX + _suffix(container)


def require_bridge(host: Netlink, bridge: Bridge) -> Link:
    """The bridge. Raise BridgeMissing."""
    link = host.link(bridge.name)
    if link is None or link.kind != "bridge":
        raise BridgeMissing(f'bridge "{bridge.name}" not present; did you launch weave?')
    return link


def addresses_of(netlink: Netlink, interface: str) -> list[CIDR]:
    """The addresses of an interface in the kernel's order, without IPv6's link-local ones."""
    return [address.cidr for address in netlink.addresses(interface) if not _is_link_local(address.cidr)]


def keep_secondary_addresses(interface: str) -> None:
    """Else the kernel drops all addresses of a subnet with the first one. In the calling thread's namespace."""
    sysctl.write(f"net/ipv4/conf/{interface}/promote_secondaries", "1")


def tune_neighbours(interface: str) -> None:
    """Set NEIGHBOUR_SETTINGS, in the calling thread's namespace."""
    for setting, value in NEIGHBOUR_SETTINGS.items():
        sysctl.write(f"net/ipv4/neigh/{interface}/{setting}", value)


def prepare_ipv6(interface: str) -> None:
    """Allow IPv6 addresses (Docker turns them off in containers), usable at once, without asking for duplicates first.

    In the calling thread's namespace. Raise KernelLacks without IPv6.
    """
    sysctl.write(f"net/ipv6/conf/{interface}/disable_ipv6", "0")
    sysctl.write(f"net/ipv6/conf/{interface}/accept_dad", "0")


def ignore_router_advertisements(interface: str) -> None:
    """No container of the network may give another one a route. In the calling thread's namespace."""
    try:
        sysctl.write(f"net/ipv6/conf/{interface}/accept_ra", "0")
    except KernelLacks:
        pass  # a kernel without IPv6 accepts none


@contextmanager
def _pinned(container: Container) -> Iterator[str]:
    """Hold the container's namespace, so that its path cannot become another's, and give a path that stays good."""
    try:
        descriptor = os.open(container.netns, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ContainerDied(container.ident) from error
    try:
        path = f"/proc/{os.getpid()}/fd/{descriptor}"
        _check_alive(container)
        yield path
    except PlaitError as error:
        if isinstance(error, ContainerDied) or container.is_alive():
            raise
        raise ContainerDied(container.ident) from error
    finally:
        os.close(descriptor)


def _check_alive(container: Container) -> None:
    if not container.is_alive():
        raise ContainerDied(container.ident)


def _host_end(host: Netlink, namespace: str, ethwe: Link, bridge: Bridge) -> Link:
    """The other end of an `ethwe` that was there: on our bridge, or on none (another tool took it off)."""
    end = host.link_by_index(ethwe.peer_index) if ethwe.kind == "veth" and ethwe.peer_index else None
    places = (None, require_bridge(host, bridge).index)
    other = (ethwe.index, host.namespace_number(namespace))
    if end is not None and (end.peer_index, end.peer_netns_id) == other and end.master_index in places:
        return end
    raise InterfaceTaken(
        f"the container has an interface {GUEST_NAME} that leads to no port of the bridge {bridge.name}; "
        "remove that interface first"
    )


def _prepare(host_end: str, guest_end: str, namespace: str, guest: Netlink) -> None:
    """What comes before the container's end is seen under its final name."""
    ignore_router_advertisements(host_end)
    with netns.entered(namespace):
        ignore_router_advertisements(guest_end)
    guest.set_link(guest_end, new_name=GUEST_NAME)


def _join(host: Netlink, host_end: str, bridge: Bridge) -> None:
    host.set_link(host_end, mtu=bridge.mtu, master=bridge.name, up=True)
    host.set_hairpin(host_end, True)


def _equip(guest: Netlink, namespace: str, cidrs: list[CIDR], bridge: Bridge, multicast_route: bool) -> list[CIDR]:
    """Everything inside the container. The multicast route comes last: a waiting process takes it as the sign to go."""
    with netns.entered(namespace):
        tune_neighbours(GUEST_NAME)
        keep_secondary_addresses(GUEST_NAME)
        ethtool.set_tx_checksum(GUEST_NAME, bridge.tx_checksum)
        if any(cidr.version == 6 for cidr in cidrs):
            prepare_ipv6(GUEST_NAME)
        guest.set_link(GUEST_NAME, mtu=bridge.mtu, gso_max_size=MAX_SUPER_FRAME)
        present = addresses_of(guest, GUEST_NAME)
        firewall.apply(tables.multicast(GUEST_NAME, _subnets([*present, *cidrs])))
        added = [cidr for cidr in cidrs if guest.add_address(GUEST_NAME, cidr)]
        guest.set_link(GUEST_NAME, up=True)
        if added:
            time.sleep(ANNOUNCE_AFTER)
        for cidr in added:
            arp.announce(GUEST_NAME, cidr.ip)
        if multicast_route:
            guest.add_route(MULTICAST, GUEST_NAME, scope="link")
    return added


def _subnets(cidrs: Iterable[CIDR]) -> list[IPv4Network]:
    return [cidr.network for cidr in cidrs if isinstance(cidr, IPv4Interface)]


def _is_link_local(cidr: CIDR) -> bool:
    return isinstance(cidr, IPv6Interface) and cidr.is_link_local


def _suffix(container: Container) -> str:
    """The process id, or for a namespace without one `n` and its inode number, which live namespaces never share."""
    if container.pid is not None:
        return str(container.pid)[: _NAME_DIGITS + 1]
    return "n" + _in_base_36(container.inode % _NAME_BASE**_NAME_DIGITS)


def _in_base_36(number: int) -> str:
    digits = ""
    while number or not digits:
        number, digit = divmod(number, _NAME_BASE)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits
