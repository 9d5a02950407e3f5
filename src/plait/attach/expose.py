"""The host's own addresses on the bridge, and the rules that let exposed networks talk with the rest of the world.

The rules are made anew from the whole set of exposures each time, so that what another tool flushed comes back.
It blocks, so call it in a thread; it keeps no records.
"""

import time
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_interface

from plait.attach.interface import (
    ANNOUNCE_AFTER,
    CIDR,
    Bridge,
    addresses_of,
    keep_secondary_addresses,
    prepare_ipv6,
    require_bridge,
)
from plait.errors import KernelRefused
from plait.host import arp, firewall, sysctl, tables
from plait.host.netlink import Netlink
from plait.state import Exposure

_FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
_BEFORE_FORWARDING = {
    4: "",
    6: "; where this host's routes come by router advertisements, set accept_ra=2 there before, or they go",
}


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
    _place_rules(bridge, exposures, kept, warn)
    if added:
        time.sleep(ANNOUNCE_AFTER)
    for cidr in added:
        arp.announce(bridge.name, cidr.ip)
    masqueraded = {ip_interface(exposure.cidr).version for exposure in exposures if exposure.masquerade}
    for version, setting in _FORWARDING.items():
        if version in masqueraded and sysctl.read(setting) != "1":
            warn(
                f"this host does not forward packets of IPv{version}, so the containers reach the host but nothing "
                f"beyond it; allow it with 'sysctl -w {setting}=1'{_BEFORE_FORWARDING[version]}"
            )
    return added


def is_in_place(bridge: Bridge, exposures: Iterable[Exposure]) -> bool:
    """Whether the addresses and our own table are there: a cheap look that misses rules lost from foreign chains.

    Raise BridgeMissing.
    """
    exposures = list(exposures)
    wanted = {ip_interface(exposure.cidr) for exposure in exposures}
    versions = {cidr.version for cidr in wanted}
    # A kernel that cannot have the table of IPv6 is asked again with the thorough look only.
    is_stale = 6 not in versions and firewall.exists("ip6", tables.EXPOSE)
    return wanted <= set(present(bridge)) and firewall.exists("ip", tables.EXPOSE) == (4 in versions) and not is_stale


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


def _place_rules(
    bridge: Bridge, exposures: Iterable[Exposure], kept: Iterable[IPv4Network], warn: Callable[[str], None]
) -> None:
    """Without exposures only traffic of containers is accepted: with br_netfilter, Docker's policy drops even that."""
    networks = {ip_interface(exposure.cidr).network: exposure for exposure in exposures}
    masqueraded = [network for network, exposure in networks.items() if exposure.masquerade]
    if any(network.version == 4 for network in networks):
        firewall.apply(tables.expose(_of_version_4(masqueraded), kept))
    else:
        firewall.delete("ip", tables.EXPOSE)
    if any(network.version == 6 for network in networks):
        _masquerade_ipv6(_of_version_6(masqueraded), warn)
    elif firewall.exists("ip6", tables.EXPOSE):
        firewall.delete("ip6", tables.EXPOSE)
    for chain in firewall.droppers("forward", {*firewall.IPV4_FAMILIES, *firewall.IPV6_FAMILIES}):
        met: list[IPv4Network | IPv6Network] = []
        if chain.family in firewall.IPV4_FAMILIES:
            met += _of_version_4(networks)
        if chain.family in firewall.IPV6_FAMILIES:
            met += _of_version_6(networks)
        firewall.keep_accepts(chain, tables.forward_accepts(bridge.name, met))


def _masquerade_ipv6(networks: list[IPv6Network], warn: Callable[[str], None]) -> None:
    try:
        firewall.apply(tables.expose_ipv6(networks))
    except KernelRefused as error:
        warn(
            f"what containers send by IPv6 beyond this host keeps its source, as it cannot be masqueraded ({error}); "
            "give their network a route to this host, or a kernel with NFT_NAT and NFT_MASQ for IPv6"
        )


def _of_version_4(networks: Iterable[IPv4Network | IPv6Network]) -> list[IPv4Network]:
    return [network for network in networks if isinstance(network, IPv4Network)]


def _of_version_6(networks: Iterable[IPv4Network | IPv6Network]) -> list[IPv6Network]:
    return [network for network in networks if isinstance(network, IPv6Network)]
