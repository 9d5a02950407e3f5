"""What a node of a lab measures."""

from prometheus_client.parser import text_string_to_metric_families

from lab.node_lab import client
from plait.testing.lab import Host


def samples(host: Host) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All samples: name and labels -> value."""
    families = text_string_to_metric_families(client(host).text("/metrics"))
    return {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}


def value(host: Host, name: str, **labels: str) -> float | None:
    """One sample, None if it is not there."""
    return samples(host).get((name, frozenset(labels.items())))


def names(host: Host) -> set[str]:
    """The names of all metrics."""
    return {name for name, _ in samples(host)}
