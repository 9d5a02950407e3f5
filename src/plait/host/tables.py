"""Which nftables rules plait needs: descriptions only, pure. `firewall` places them.

Each concern has a table of its own, so that each can be replaced and removed without the others.
"""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

from plait.host.firewall import OWN_COMMENT, Chain, Hook, Rule, Table
from plait.host.nftables import quoted

EXPOSE, API_GUARD, MULTICAST = "plait_expose", "plait_api", "plait_multicast"
_MULTICAST, _MULTICAST_IPV6 = "224.0.0.0/4", "ff00::/8"
_OF_THE_LINK = (Rule("ip6 saddr fe80::/10 return"), Rule("ip6 daddr fe80::/10 return"))


def expose(networks: Iterable[IPv4Network], kept: Iterable[IPv4Network] = ()) -> Table:
    """Masquerade between the networks that the host is exposed to and everything else, multicast excepted.

    What goes to addresses in `kept` keeps its source. Without networks the table is empty. Ports are chosen at random,
    or two new connections get the same one now and then, and one of them is lost (`doctor`: nat-race).
    """
    exposed = sorted(set(networks))
    rules = [Rule(f"ip daddr {network} return") for network in sorted(set(kept))] if exposed else []
    for network in exposed:
        rules += [Rule(f"ip saddr {network} ip daddr {_MULTICAST} return"), *_masquerade("ip", network)]
    return Table("ip", EXPOSE, (_postrouting(rules),))


def expose_ipv6(networks: Iterable[IPv6Network]) -> Table:
    """As `expose`. What is of the link itself, as its routers and neighbours are, stays as it is."""
    exposed = sorted(set(networks))
    rules = [Rule(f"ip6 daddr {_MULTICAST_IPV6} return"), *_OF_THE_LINK] if exposed else []
    for network in exposed:
        rules += _masquerade("ip6", network)
    return Table("ip6", EXPOSE, (_postrouting(rules),))


def _masquerade(family: str, network: IPv4Network | IPv6Network) -> tuple[Rule, ...]:
    return (
        Rule(f"{family} daddr {network} {family} saddr != {network} masquerade fully-random"),
        Rule(f"{family} saddr {network} {family} daddr != {network} masquerade fully-random"),
    )


def _postrouting(rules: Iterable[Rule]) -> Chain:
    return Chain("postrouting", tuple(rules), Hook("postrouting", "nat", "srcnat"))


def forward_accepts(bridge: str, exposed: Iterable[IPv4Network | IPv6Network]) -> tuple[Rule, ...]:
    """What a foreign chain that drops on the forward hook must let through, for `firewall.keep_accepts`.

    Answers to containers need no rule on connection state: without an exposed network nothing is routed to them, and
    iptables 1.8.9 cannot show such a rule made by nftables, so that its users (Docker) would fail on the whole chain.
    """
    name = quoted(bridge)
    return (
        Rule(f"iifname {name}", f"{OWN_COMMENT}from containers"),
        *(
            Rule(f"oifname {name} {_family(network)} daddr {network}", f"{OWN_COMMENT}to the exposed {network}")
            for network in sorted(set(exposed), key=lambda each: (each.version, each))
        ),
    )


def _family(network: IPv4Network | IPv6Network) -> str:
    return "ip" if network.version == 4 else "ip6"


def name_accepts(address: str, port: int) -> tuple[Rule, ...]:
    """What a foreign chain that drops on the input hook must let through so that containers can ask for names."""
    return tuple(
        Rule(f"ip daddr {address} {protocol} dport {port}", f"{OWN_COMMENT}names by {protocol}")
        for protocol in ("udp", "tcp")
    )


def api_guard(port: int) -> Table:
    """Drop what reaches the API's loopback port from outside (a neighbour may route 127.0.0.1 to us)."""
    rule = f"ip daddr 127.0.0.1 tcp dport {port} fib saddr type != local ct state != {{ related, established }} drop"
    return Table("ip", API_GUARD, (Chain("input", (Rule(rule),), Hook("input")),))


def multicast(interface: str, subnets: Iterable[IPv4Network]) -> Table:
    """In a container: take multicast on the interface only from the subnets that it is attached to."""
    name = quoted(interface)
    allowed = [
        Rule(f"iifname {name} ip saddr {subnet} ip daddr {_MULTICAST} accept") for subnet in sorted(set(subnets))
    ]
    drop = Rule(f"iifname {name} ip daddr {_MULTICAST} drop")
    return Table("ip", MULTICAST, (Chain("input", (*allowed, drop), Hook("input")),))
