"""Plait's own nftables tables, replaced as a whole, and single accept rules in chains of others that drop.

Works in the network namespace of the calling thread. Rules of plait's own are in tables of its own, so that nothing of
another tool is touched; but a drop in one base chain is final, so foreign chains that drop need a rule inside them.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from plait.host import nftables

Family = Literal["ip", "ip6", "inet", "bridge", "netdev", "arp"]
Verdict = Literal["accept", "drop"]

OWN_PREFIX = "plait"
"""With which the name of each table of ours begins."""

OWN_COMMENT = "plait: "
"""With which the comment of each rule of ours in a foreign chain begins."""

IPV4_FAMILIES, IPV6_FAMILIES = ("ip", "inet"), ("ip6", "inet")
"""Families in which packets of a version meet hooks."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule in the language of nft(8), such as `ip saddr 10.32.0.0/12 masquerade`, and a comment beside it."""

    text: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Hook:
    """Where a base chain is called. `priority` is a number or a name of nft(8) (`filter`, `srcnat`)."""

    point: Literal["prerouting", "input", "forward", "output", "postrouting", "ingress", "egress"]
    kind: Literal["filter", "nat", "route"] = "filter"
    priority: int | str = "filter"
    policy: Verdict = "accept"
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain; without a hook it is called by jumps only."""

    name: str
    rules: tuple[Rule, ...]
    hook: Hook | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A whole table as it should be."""

    family: Family
    name: str
    chains: tuple[Chain, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class ForeignChain:
    """A base chain of another tool that drops packets, by policy or by its last rule."""

    family: str
    table: str
    name: str

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"


def apply(table: Table) -> None:
    """Make a table of ours exactly so, in one transaction, whatever was there. Raise KernelRefused, PermissionNeeded.

    KernelLacks: libnftables is missing.
    """
    nftables.run(render(table))


def delete(family: Family, name: str) -> None:
    """Delete a table of ours. Absent is fine."""
    nftables.run(f"table {family} {name}\ndelete table {family} {name}\n")


def exists(family: Family, name: str) -> bool:
    """Whether there is such a table; another tool's flush may have taken it."""
    tables = [entry["table"] for entry in nftables.query("list tables") if "table" in entry]
    return any((table["family"], table["name"]) == (family, name) for table in tables)


def droppers(hook: Literal["forward", "input"], families: Collection[str] = IPV4_FAMILIES) -> list[ForeignChain]:
    """Base chains of others on a hook that drop or reject packets that no rule accepted; IPv4's, if not told else.

    Rules of the legacy iptables interface are not seen: nftables does not know them.
    """
    entries = nftables.query("list ruleset")
    found = []
    for chain in (entry["chain"] for entry in entries if "chain" in entry):
        if chain.get("hook") != hook or chain["family"] not in families or _is_ours(chain["table"]):
            continue
        rules = [entry["rule"] for entry in entries if "rule" in entry and _is_in(entry["rule"], chain)]
        if chain.get("policy") == "drop" or (rules and _drops_everything(rules[-1])):
            found.append(ForeignChain(chain["family"], chain["table"], chain["name"]))
    return found


def keep_accepts(chain: ForeignChain, rules: Iterable[Rule]) -> bool:
    """Have exactly these accept rules of ours at the top of a foreign chain; whether anything was changed.

    The text of a rule is its match alone; its comment tells it from the others and must begin with `OWN_COMMENT`.
    Keep to matches that iptables-nft can show (interfaces, addresses, ports), else it calls its table incompatible.
    """
    wanted = {rule.comment: rule for rule in rules}
    if not all(comment.startswith(OWN_COMMENT) for comment in wanted):
        raise ValueError(f"comments of accept rules must begin with {OWN_COMMENT!r}")
    present = {rule["comment"]: rule for rule in _own_accepts(f"list chain {chain}")}
    lines = [_deletion(rule) for comment, rule in present.items() if comment not in wanted]
    for comment, rule in wanted.items():
        if comment not in present:
            lines.append(f"insert rule {chain} {rule.text} counter accept comment {nftables.quoted(comment)}\n")
    if lines:
        nftables.run("".join(lines))
    return bool(lines)


def delete_accepts() -> int:
    """Delete all accept rules of ours from all chains, and give their number."""
    ours = _own_accepts("list ruleset")
    if ours:
        nftables.run("".join(_deletion(rule) for rule in ours))
    return len(ours)


def render(table: Table) -> str:
    """The commands that make a table exactly so: pure, for reading and for tests."""
    name = f"{table.family} {table.name}"
    lines = [f"table {name}", f"delete table {name}", f"table {name} {{"]
    for chain in table.chains:
        lines += [f"  chain {chain.name} {{", *_hook(chain.hook), *(_rule(rule) for rule in chain.rules), "  }"]
    return "\n".join([*lines, "}", ""])


def _hook(hook: Hook | None) -> list[str]:
    if hook is None:
        return []
    device = "" if hook.device is None else f" device {nftables.quoted(hook.device)}"
    return [f"    type {hook.kind} hook {hook.point}{device} priority {hook.priority}; policy {hook.policy};"]


def _rule(rule: Rule) -> str:
    return f"    {rule.text}" + (f" comment {nftables.quoted(rule.comment)}" if rule.comment else "")


def _own_accepts(listing: str) -> list[dict[str, Any]]:
    rules = [entry["rule"] for entry in nftables.query(listing) if "rule" in entry]
    return [r for r in rules if r.get("comment", "").startswith(OWN_COMMENT) and not _is_ours(r["table"])]


def _deletion(rule: dict[str, Any]) -> str:
    return f"delete rule {rule['family']} {rule['table']} {rule['chain']} handle {rule['handle']}\n"


def _is_ours(table: str) -> bool:
    return table.startswith(OWN_PREFIX)


def _is_in(rule: dict[str, Any], chain: dict[str, Any]) -> bool:
    return (rule["family"], rule["table"], rule["chain"]) == (chain["family"], chain["table"], chain["name"])


def _drops_everything(rule: dict[str, Any]) -> bool:
    """Whether a rule has a drop or reject and no condition (a counter is none)."""
    statements = [statement for statement in rule.get("expr", ()) if not {"counter", "log"} & statement.keys()]
    return len(statements) == 1 and bool({"drop", "reject"} & statements[0].keys())
