"""Which nftables rules plait needs: descriptions only, pure. `firewall` places them.

Each concern has a table of its own, so that each can be replaced and removed without the others.
"""

from collections.abc import Iterable
from ipaddress import IPv4Network

from plait.host.firewall import OWN_COMMENT, Chain, Hook, Rule, Table
from plait.host.nftables import quoted

EXPOSE, API_GUARD, MULTICAST = "plait_expose", "plait_api", "plait_multicast"
_MULTICAST = "224.0.0.0/4"


def expose(networks: Iterable[IPv4Network], kept: Iterable[IPv4Network] = ()) -> Table:
    """Masquerade between the networks that the host is exposed to and everything else, multicast excepted.

    What goes to addresses in `kept` keeps its source. Without networks the table is empty. Ports are chosen at random,
    or two new connections get the same one now and then, and one of them is lost (`doctor`: nat-race).
    """
    rules: list[Rule] = []
    exposed = sorted(set(networks))
    if exposed:
        rules += [Rule(f"ip daddr {network} return") for network in sorted(set(kept))]
    for network in exposed:
        rules += [
            Rule(f"ip saddr {network} ip daddr {_MULTICAST} return"),
            Rule(f"ip daddr {network} ip saddr != {network} masquerade fully-random"),
            Rule(f"ip saddr {network} ip daddr != {network} masquerade fully-random"),
        ]
    return Table("ip", EXPOSE, (Chain("postrouting", tuple(rules), Hook("postrouting", "nat", "srcnat")),))


def forward_accepts(bridge: str, exposed: Iterable[IPv4Network]) -> tuple[Rule, ...]:
    """What a foreign chain that drops on the forward hook must let through, for `firewall.keep_accepts`.

    Answers to containers need no rule on connection state: without an exposed network nothing is routed to them, and
    iptables 1.8.9 cannot show such a rule made by nftables, so that its users (Docker) would fail on the whole chain.
    """
    name = quoted(bridge)
    return (
        Rule(f"iifname {name}", f"{OWN_COMMENT}from containers"),
        *(
            Rule(f"oifname {name} ip daddr {network}", f"{OWN_COMMENT}to the exposed {network}")
            for network in sorted(set(exposed))
        ),
    )


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
