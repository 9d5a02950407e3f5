"""The host's own addresses on the bridge, and the rules that let exposed networks talk with the rest of the world.

The rules are made anew from the whole set of exposures each time, so that what another tool flushed comes back.
It blocks, so call it in a thread; it keeps no records.
"""

import time
from collections.abc import Callable, Iterable
from ipaddress import IPv4Interface, IPv4Network, ip_interface

from plait.attach.interface import (
    ANNOUNCE_AFTER,
    CIDR,
    Bridge,
    addresses_of,
    keep_secondary_addresses,
    prepare_ipv6,
    require_bridge,
)
from plait.host import arp, firewall, sysctl, tables
from plait.host.netlink import Netlink
from plait.state import Exposure


def apply(
    bridge: Bridge, exposures: Iterable[Exposure], warn: Callable[[str], None], kept: Iterable[IPv4Network] = ()
) -> list[CIDR]:
    """Have all these addresses on the bridge, and exactly their rules; give the addresses that were not there.

    What goes to networks in `kept` is not masqueraded. Other addresses on the bridge stay. Raise BridgeMissing, or what
    the kernel refuses.
    """
    exposures = list(exposures)
    cidrs = [ip_interface(exposure.cidr) for exposure in exposures]
    with Netlink() as host:
        require_bridge(host, bridge)
        if any(cidr.version == 6 for cidr in cidrs):
            prepare_ipv6(bridge.name)
        added = [cidr for cidr in cidrs if host.add_address(bridge.name, cidr)]
    _place_rules(bridge, exposures, kept)
    if added:
        time.sleep(ANNOUNCE_AFTER)
    for cidr in added:
        arp.announce(bridge.name, cidr.ip)
    if any(exposure.masquerade for exposure in exposures) and sysctl.read("net.ipv4.ip_forward") != "1":
        warn(
            "this host does not forward packets, so the containers reach the host but nothing beyond it; "
            "allow it with 'sysctl -w net.ipv4.ip_forward=1'"
        )
    return added


def is_in_place(bridge: Bridge, exposures: Iterable[Exposure]) -> bool:
    """Whether the addresses and our own table are there: a cheap look that misses rules lost from foreign chains.

    Raise BridgeMissing.
    """
    exposures = list(exposures)
    wanted = {ip_interface(exposure.cidr) for exposure in exposures}
    needs_table = any(_ipv4_network(exposure) is not None for exposure in exposures)
    return wanted <= set(present(bridge)) and firewall.exists("ip", tables.EXPOSE) == needs_table


def remove(bridge: Bridge, cidrs: Iterable[CIDR]) -> list[CIDR]:
    """Take these addresses from the bridge, and give those that were there. The rules follow with the next `apply`.

    Raise BridgeMissing, or what the kernel refuses.
    """
    with Netlink() as host:
        require_bridge(host, bridge)
        keep_secondary_addresses(bridge.name)
        return [cidr for cidr in cidrs if host.delete_address(bridge.name, cidr)]


def present(bridge: Bridge) -> list[CIDR]:
    """The host's addresses on the bridge. Raise BridgeMissing."""
    with Netlink() as host:
        require_bridge(host, bridge)
        return addresses_of(host, bridge.name)


def _place_rules(bridge: Bridge, exposures: Iterable[Exposure], kept: Iterable[IPv4Network]) -> None:
    """Without exposures only traffic of containers is accepted: with br_netfilter, Docker's policy drops even that."""
    networks = {network: exposure for exposure in exposures if (network := _ipv4_network(exposure)) is not None}
    if networks:
        masqueraded = [network for network, exposure in networks.items() if exposure.masquerade]
        firewall.apply(tables.expose(masqueraded, kept))
    else:
        firewall.delete("ip", tables.EXPOSE)
    for chain in firewall.droppers("forward"):
        firewall.keep_accepts(chain, tables.forward_accepts(bridge.name, networks))


def _ipv4_network(exposure: Exposure) -> IPv4Network | None:
    cidr = ip_interface(exposure.cidr)
    return cidr.network if isinstance(cidr, IPv4Interface) else None
