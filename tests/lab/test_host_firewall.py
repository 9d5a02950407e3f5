"""Plait's nftables tables and its rules in foreign chains, in a namespace."""

import os
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from plait.errors import KernelRefused
from plait.host import firewall, netns, nftables, tables
from plait.host.firewall import Chain, ForeignChain, Hook, Rule, Table

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces"),
    pytest.mark.skipif(nftables.missing() is not None, reason="needs libnftables"),
]

DOCKER = """table ip filter {
  chain FORWARD {
    type filter hook forward priority 0; policy drop;
    ip saddr 10.1.1.1 accept
  }
}
"""
FIREWALLD = """table inet firewalld {
  chain forwarding {
    type filter hook forward priority 10;
    counter reject
  }
}
"""
HARMLESS = """table ip other {
  chain forwarding {
    type filter hook forward priority 10;
    ip saddr 10.1.1.1 drop
  }
}
"""


@pytest.fixture(autouse=True)
def _inside() -> Iterator[Path]:
    name = f"plait-fw-{os.getpid()}"
    path = netns.create(name)
    try:
        with netns.entered(path):
            yield path
    finally:
        netns.delete(name)


def rules(listing: str) -> list[str]:
    return [entry["rule"].get("comment", "") for entry in nftables.query(listing) if "rule" in entry]


def listed() -> str:
    return subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout


def test_table_is_replaced_as_a_whole_and_deleted() -> None:
    first = Chain(
        "input", (Rule("ip saddr 10.0.0.1 drop", "one"), Rule("ip saddr 10.0.0.2 drop", "two")), Hook("input")
    )
    second = Chain("other", (Rule("ip saddr 10.0.0.3 drop", "three"),), Hook("output", priority=-10, policy="accept"))
    assert not firewall.exists("ip", "plait_test")
    firewall.apply(Table("ip", "plait_test", (first,)))
    firewall.apply(Table("ip", "plait_test", (first,)))
    assert firewall.exists("ip", "plait_test")
    assert rules("list table ip plait_test") == ["one", "two"]
    firewall.apply(Table("ip", "plait_test", (second,)))
    assert rules("list table ip plait_test") == ["three"]
    firewall.delete("ip", "plait_test")
    firewall.delete("ip", "plait_test")
    assert not firewall.exists("ip", "plait_test")


def test_refused_table_leaves_the_old_one_and_says_why() -> None:
    good = Table("ip", "plait_test", (Chain("input", (Rule("ip saddr 10.0.0.1 drop", "one"),), Hook("input")),))
    firewall.apply(good)
    bad = Table("ip", "plait_test", (Chain("input", (Rule("ip saddr nonsense drop"),), Hook("input")),))
    with pytest.raises(KernelRefused, match="refused nftables rules"):
        firewall.apply(bad)
    assert rules("list table ip plait_test") == ["one"]


@pytest.mark.parametrize(
    "table",
    [
        tables.expose([]),
        tables.expose([IPv4Network("10.32.0.0/12"), IPv4Network("10.48.0.0/16")]),
        tables.api_guard(6784),
        tables.multicast("ethwe", [IPv4Network("10.32.0.0/12")]),
        tables.multicast("ethwe", []),
    ],
)
def test_kernel_takes_every_table_of_ours(table: Table) -> None:
    firewall.apply(table)
    assert firewall.exists(table.family, table.name)
    assert len(rules(f"list table {table.family} {table.name}")) == len(table.chains[0].rules)


def test_only_chains_that_drop_the_rest_are_found() -> None:
    assert firewall.droppers("forward") == []
    nftables.run(DOCKER + FIREWALLD + HARMLESS)
    firewall.apply(Table("ip", "plait_test", (Chain("forwarding", (Rule("drop"),), Hook("forward")),)))
    assert firewall.droppers("forward") == [
        ForeignChain("ip", "filter", "FORWARD"),
        ForeignChain("inet", "firewalld", "forwarding"),
    ]


def test_accepts_in_a_foreign_chain_are_kept_as_wanted() -> None:
    nftables.run(DOCKER)
    (chain,) = firewall.droppers("forward")
    one, two = IPv4Network("10.32.0.0/12"), IPv4Network("10.48.0.0/16")
    assert firewall.keep_accepts(chain, tables.forward_accepts("weave", [one]))
    assert not firewall.keep_accepts(chain, tables.forward_accepts("weave", [one]))
    assert firewall.keep_accepts(chain, tables.forward_accepts("weave", [two]))
    found = rules(f"list chain {chain}")
    assert found[-1] == ""
    assert sorted(found[:-1]) == ["plait: from containers", f"plait: to the exposed {two}"]
    assert firewall.delete_accepts() == 2
    assert firewall.delete_accepts() == 0
    assert rules(f"list chain {chain}") == [""]


def test_iptables_still_shows_a_chain_with_our_rules() -> None:
    try:
        made = subprocess.run(["iptables-nft", "-P", "FORWARD", "DROP"], check=False, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs iptables-nft (Debian: iptables)")
    assert made.returncode == 0, made.stderr
    (chain,) = firewall.droppers("forward")
    firewall.keep_accepts(chain, tables.forward_accepts("weave", [IPv4Network("10.32.0.0/12")]))
    shown = subprocess.run(["iptables-nft", "-S", "FORWARD"], check=True, capture_output=True, text=True)
    assert "incompatible" not in shown.stderr
    assert "-A FORWARD -d 10.32.0.0/12 -o weave" in shown.stdout
    assert "-A FORWARD -i weave" in shown.stdout


def test_rules_are_of_the_namespace_entered() -> None:
    firewall.apply(tables.api_guard(6784))
    name = f"plait-fw2-{os.getpid()}"
    with netns.entered(netns.create(name)):
        assert not firewall.exists("ip", tables.API_GUARD)
    netns.delete(name)
    assert firewall.exists("ip", tables.API_GUARD)
    assert "tcp dport 6784" in listed()


def test_strings_that_nft_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        tables.multicast('eth"; drop', [])
    with pytest.raises(ValueError, match="must begin with"):
        firewall.keep_accepts(ForeignChain("ip", "filter", "FORWARD"), [Rule("iifname weave", "mine")])
