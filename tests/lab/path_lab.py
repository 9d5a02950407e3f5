"""Two nodes with a container each on paths of all kinds, what they say of the path, and bytes across it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lab.node_lab import report
from plait.testing.lab import Container, Host, Lab, Router, Segment, wait_until
from plait.testing.lab.node import Node

OVERLAY = "plait1"
USER_SPACE = ("--no-fastdp",)
PATIENCE = 60.0
"""Seconds within which what the path has become is found out, on a busy machine."""


def narrow(lab: Lab, icmp: bool, mtu: int = 1400) -> tuple[Host, Host, list[Router], Segment]:
    """Two hosts with an MTU of 1500, two routers, and a segment of this MTU between those."""
    left, middle, right = lab.switch(), lab.switch(mtu=mtu), lab.switch()
    routers = [lab.router("r1", left, middle, icmp=icmp), lab.router("r2", middle, right, icmp=icmp)]
    return lab.host("h1", on=[left]), lab.host("h2", on=[right]), routers, middle


def attach(one: Host, other: Host) -> tuple[Container, Container]:
    """Give the nodes on two hosts a container each, and wait until frames pass."""
    here, there = one.container("c"), other.container("c")
    one.attach(here, "10.32.0.1/12")
    other.attach(there, "10.32.0.2/12")
    wait_until(lambda: here.ping(there, count=1).ok, "frames pass", PATIENCE)
    return here, there


def join(one: Host, other: Host, password: str | None = None) -> tuple[Container, Container]:
    """Start nodes on two hosts that carry frames in user space, with a container each."""
    one.launch(password=password, extra=USER_SPACE)
    other.launch(one, password=password, extra=USER_SPACE)
    return attach(one, other)


def detail(host: Host, to: Host) -> dict[str, Any]:
    """What a node says of its connection with another."""
    found = [each for each in report(host)["Plait"]["Connections"] if each["NickName"] == to.name]
    assert len(found) == 1, found
    return dict(found[0])


def wait_for_path(host: Host, to: Host, fits: Callable[[int], bool], what: str) -> int:
    """Wait until the path MTU that a node tells fits, and give it."""
    seen = [0]

    def holds() -> bool:
        seen[0] = int(detail(host, to)["PathMtu"])
        return fits(seen[0])

    wait_until(holds, f"{host.name} says of the path that {what}; it says {detail(host, to)}", PATIENCE)
    return seen[0]


def both_ways(here: Container, there: Container, size: int, timeout: float = 30.0) -> None:
    """Transfers in both directions at once; every byte is compared."""
    with ThreadPoolExecutor(2) as threads:
        transfers = [
            threads.submit(source.transfer, target, size, timeout) for source, target in ((here, there), (there, here))
        ]
        assert [each.result().transferred_bytes for each in transfers] == [size, size]


def statistic(node: Node, device: str, name: str) -> int:
    """A counter of an interface, such as `tx_bytes`."""
    return int(node.run(["cat", f"/sys/class/net/{device}/statistics/{name}"]).stdout)
