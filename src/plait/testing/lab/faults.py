"""What is wrong with the wire: cuts, losses and detours between two nodes, as rules at the switches. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from plait.host.firewall import Chain, Hook, Rule, Table
from plait.host.nftables import quoted
from plait.testing.lab.topology import Port

TABLE = "lab"
_DISCOVERY = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"


@dataclass(frozen=True)
class Fault:
    """One packet in `one_in` from one node's ports to another's is lost: of any kind, or of these UDP and TCP ports."""

    source: tuple[Port, ...]
    target: tuple[Port, ...]
    one_in: int = 1
    udp: tuple[int, ...] = ()
    tcp: tuple[int, ...] = ()


@dataclass(frozen=True)
class Detour:
    """UDP from one port to another, whose MAC address is given, is carried by a program beside the switch."""

    source: Port
    target: Port
    mac: str


def table(faults: Iterable[Fault], detours: Iterable[Detour] = ()) -> Table:
    """The rules that make these faults, for the namespace of the switches; what takes a detour goes no other way."""
    faults = list(faults)
    is_ipv6 = any(port.address.version == 6 for fault in faults for port in fault.source)
    rules = [Rule(_DISCOVERY)] if is_ipv6 else []
    rules += [Rule(text) for fault in faults for text in _rules(fault)]
    rules += [Rule(_bypassed(detour)) for detour in detours]
    return Table("bridge", TABLE, (Chain("wire", tuple(rules), Hook("forward")),))


def _bypassed(detour: Detour) -> str:
    ports = f"iifname {_outer(detour.source)} oifname {_outer(detour.target)}"
    return f"{ports} ether daddr {detour.mac} ip protocol udp drop"


def _rules(fault: Fault) -> list[str]:
    chance = "" if fault.one_in == 1 else f"numgen random mod {fault.one_in} 0 "
    return [f"{path} {kind}{chance}drop" for path in _paths(fault.source, fault.target) for kind in _kinds(fault)]


def _paths(source: Sequence[Port], target: Sequence[Port]) -> list[str]:
    """Matches for everything that goes from one node to the other: by ports on one switch, else by addresses.

    ARP, and what IPv6 has in its place, passes: without its answers a cut of one direction would, some seconds later,
    cut the other too. The address is matched at both ends, because with a source NAT between them only one of the two
    sees it.
    """
    paths = []
    for near in source:
        for far in target:
            if near.segment is far.segment:
                paths.append(f"iifname {_outer(near)} oifname {_outer(far)} ether type != arp")
            else:
                ip = "ip" if near.address.version == 4 else "ip6"
                paths.append(f"iifname {_outer(near)} {ip} daddr {far.address.ip}")
                paths.append(f"oifname {_outer(far)} {ip} saddr {near.address.ip}")
    return paths


def _kinds(fault: Fault) -> list[str]:
    protocols: tuple[tuple[Literal["udp", "tcp"], tuple[int, ...]], ...] = (("udp", fault.udp), ("tcp", fault.tcp))
    chosen = [(protocol, port) for protocol, ports in protocols for port in ports]
    if not chosen:
        return [""]
    # A conversation has its port as destination one way and, mostly, as source the other.
    return [f"{protocol} {end} {port} " for protocol, port in chosen for end in ("dport", "sport")]


def _outer(port: Port) -> str:
    if port.outer is None:
        raise ValueError(f"{port.segment.name} is a cable, which has no switch to lose packets at")
    return quoted(port.outer)
