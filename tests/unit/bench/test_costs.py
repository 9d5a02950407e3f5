"""Costs and their goals."""

from bench.costs import Cost
from bench.goals import costs_to_markdown


def verdict(metric: str, system: str, value: float, unit: str) -> str:
    line = costs_to_markdown([Cost(metric, system, value, unit, 1)]).splitlines()[-1]
    return line.split("|")[-2].strip()


def test_rates_are_to_be_high_and_all_else_low() -> None:
    assert verdict("dns_per_s", "plait-dns", 20_000, "1/s") == "met"
    assert verdict("dns_per_s", "plait-dns", 19_999, "1/s") == "missed"
    assert verdict("allocate_ms", "plait-ipam", 1.9, "ms") == "met"
    assert verdict("allocate_ms", "plait-ipam", 2.1, "ms") == "missed"


def test_rivals_and_side_figures_have_no_goal() -> None:
    assert verdict("dns_per_s", "dnsmasq", 1, "1/s") == ""
    assert verdict("disk_sync_ms", "plait-ipam", 4, "ms") == ""
