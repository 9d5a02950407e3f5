"""Hosts of which all know each other and share a range of addresses."""

from lab.node_lab import report
from plait.testing.lab import Host, Lab, wait_until


def launched(lab: Lab, *names: str, extra: tuple[str, ...]) -> list[Host]:
    """Hosts of which all call the first."""
    hosts = [lab.host(name) for name in names]
    for number, host in enumerate(hosts):
        host.launch(*hosts[:1] if number else (), extra=extra)
    wait_until(lambda: all(len(report(host)["Router"]["Peers"]) == len(hosts) for host in hosts), "all know all")
    return hosts


def owners(host: Host) -> dict[str, int]:
    """How many addresses each peer owns, by nickname, as this host sees it."""
    found: dict[str, int] = {}
    for entry in report(host)["IPAM"]["Entries"] or []:
        found[entry["Nickname"]] = found.get(entry["Nickname"], 0) + entry["Size"]
    return found
