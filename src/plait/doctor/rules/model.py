"""Chains and rules of both backends in one shape, and whether a rule fits a packet: yes, no, or not to be known."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network
from typing import Literal

Value = str | tuple[int, int] | IPv4Network
"""A word, a range of ports (both ends belong to it), or addresses."""

Key = Literal["protocol", "dport", "iif", "oif", "saddr", "daddr", "state", "fragment", "destination", "family", ""]
"""What is looked at; "" is something that is not understood here. `destination` is LOCAL, BROADCAST and such."""

Backend = Literal["legacy", "nft"]

_PROTOCOLS = {"1": "icmp", "6": "tcp", "17": "udp", "50": "esp", "58": "icmpv6", "ipv6-icmp": "icmpv6"}


class Verdict(Enum):
    """What a rule does with a packet that fits. UNSURE: accepts or drops it, nobody knows; NONE: neither."""

    ACCEPT = "accept"
    DROP = "drop"
    RETURN = "return"
    JUMP = "jump"
    GOTO = "goto"
    UNSURE = "unsure"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Packet:
    """An IPv4 packet, as far as it is known. Addresses are the networks that they may be from; None is unknown."""

    protocol: str
    dport: int | None = None
    iif: str | None = None
    oif: str | None = None
    source: IPv4Network | None = None
    destination: IPv4Network | None = None
    state: str = "new"
    is_fragment: bool = False
    """Any but the first: it has no ports."""
    is_local: bool = False
    """It is for this host."""


@dataclass(frozen=True, slots=True)
class Match:
    """A condition: one of the values is the packet's, or, negated, none."""

    key: Key
    values: tuple[Value, ...] = ()
    is_negated: bool = False

    def fits(self, packet: Packet) -> bool | None:
        """Whether the packet meets it; None if that cannot be known."""
        found = self._is_one(packet)
        return None if found is None else found != self.is_negated

    def _is_one(self, packet: Packet) -> bool | None:
        match self.key:
            case "protocol":
                return packet.protocol in {_PROTOCOLS.get(str(value), value) for value in self.values}
            case "dport":
                return _any(_has(value, packet.dport) for value in self.values) if not packet.is_fragment else False
            case "iif":
                return _any(_is_named(value, packet.iif) for value in self.values)
            case "oif":
                return _any(_is_named(value, packet.oif) for value in self.values)
            case "saddr":
                return _any(_is_from(value, packet.source) for value in self.values)
            case "daddr":
                return _any(_is_from(value, packet.destination) for value in self.values)
            case "state":
                return packet.state in self.values
            case "fragment":
                return packet.is_fragment
            case "destination":
                return "local" in self.values if packet.is_local else None
            case "family":
                return "ipv4" in self.values
        return None


UNKNOWN = Match("")
"""A condition that nobody here understands."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`target`: of a jump the chain, else what the backend calls it, in capitals (MASQUERADE). `text` is for people.

    `is_random`: of a MASQUERADE or SNAT, whether it chooses ports fully at random; None if that is not shown.
    `to_port`: of a DNAT.
    """

    matches: tuple[Match, ...]
    verdict: Verdict
    target: str = ""
    text: str = ""
    comment: str = ""
    is_random: bool | None = False
    to_port: int | None = None

    def fits(self, packet: Packet) -> bool | None:
        """Whether all conditions are met; None if that cannot be known."""
        answers = [match.fits(packet) for match in self.matches]
        return False if False in answers else None if None in answers else True


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain; `hook` is empty if it is called by jumps only. `kind`: filter, nat or route."""

    backend: Backend
    family: str
    table: str
    name: str
    rules: tuple[Rule, ...] = ()
    hook: str = ""
    kind: str = "filter"
    policy: Verdict = Verdict.ACCEPT

    @property
    def where(self) -> str:
        """Its place, for people."""
        if self.backend == "legacy":
            return f"chain {self.name} of iptables-legacy's table {self.table}"
        return f"chain {self.name} of nftables' table {self.family} {self.table}"


class Ruleset:
    """All chains of a host that IPv4 packets may meet."""

    def __init__(self, chains: Iterable[Chain]) -> None:
        self.chains = tuple(chain for chain in chains if chain.family in ("ip", "inet"))
        self._by_place = {_place(chain, chain.name): chain for chain in self.chains}

    def base(self, hook: str, kind: str = "filter") -> list[Chain]:
        """The chains that are called at a hook; those of kind route are filters too."""
        kinds = (kind, "route") if kind == "filter" else (kind,)
        return [chain for chain in self.chains if chain.hook == hook and chain.kind in kinds]

    def target(self, chain: Chain, name: str) -> Chain | None:
        """The chain that a rule in `chain` jumps to."""
        return self._by_place.get(_place(chain, name))

    def nat(self, target: str) -> list[tuple[Chain, Rule]]:
        """All rules with a target such as MASQUERADE."""
        return [(chain, rule) for chain in self.chains for rule in chain.rules if rule.target == target]


def _place(chain: Chain, name: str) -> tuple[str, str, str, str]:
    return chain.backend, chain.family, chain.table, name


def _any(answers: Iterable[bool | None]) -> bool | None:
    found = list(answers)
    return True if True in found else None if None in found else False


def _has(value: Value, port: int | None) -> bool | None:
    if port is None or not isinstance(value, tuple):
        return None
    return value[0] <= port <= value[1]


def _is_named(value: Value, name: str | None) -> bool | None:
    if name is None or not isinstance(value, str):
        return None
    return name.startswith(value[:-1]) if value[-1:] in ("+", "*") else name == value


def _is_from(value: Value, network: IPv4Network | None) -> bool | None:
    if not isinstance(value, IPv4Network):
        return None
    if value.prefixlen == 0:
        return True
    if network is None:
        return None
    return True if network.subnet_of(value) else None if network.overlaps(value) else False
