"""Nodes tell each other the addresses of their containers: what is for them is not flooded, and nobody takes them."""

import os
import signal
import time

import pytest

from lab.fastdp_lab import PATIENCE, Arrivals, frame, mac_of, pins, send_frames, wait_for_mesh
from lab.node_lab import report
from lab.path_lab import USER_SPACE
from plait.host.bpf.maps import Map
from plait.testing.lab import Container, Host, Lab, wait_until

WAYS = pytest.mark.parametrize("extra", [(), USER_SPACE], ids=["kernel", "user space"])


def silent(host: Host, number: int) -> Container:
    """A container that says nothing by itself once it is attached: IPv6 reports its groups now and then."""
    container = host.container("c")
    for name in ("all", "default"):
        container.run(["sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1"])
    host.attach(container, f"10.32.0.{number}/12")
    return container


def forget_learned(host: Host) -> None:
    """Have a node that has learned no address: an empty table in the kernel, and another pump."""
    pump = report(host)["Plait"]["Pump"]
    os.kill(pump["pid"], signal.SIGKILL)

    def is_replaced() -> bool:
        now = report(host)["Plait"]["Pump"]
        return now["pid"] not in (pump["pid"], None) and now["answers"] == "yes"

    wait_until(is_replaced, "another pump answers", PATIENCE)
    path = pins(host) / "learned"
    if path.exists():
        with Map.open_pinned(path) as learned:
            for mac, _ in list(learned.items()):
                learned.delete(mac)


def knows_all(host: Host, count: int) -> bool:
    """Whether a node has heard of the containers of the others."""
    path = pins(host) / "announced"
    if path.exists():
        with Map.open_pinned(path) as announced:
            return len(list(announced.items())) == count
    counters = report(host)["Router"]["OverlayDiagnostics"]["sleeve"]
    return bool(counters["macs_announced"] == count)


@WAYS
def test_frames_for_containers_that_say_nothing_are_not_flooded(lab: Lab, extra: tuple[str, ...]) -> None:
    hosts = [lab.host(f"h{number}") for number in (1, 2, 3)]
    one, two = hosts[:2]
    for host in hosts:
        host.launch(*hosts[: hosts.index(host)], extra=extra)
    wait_for_mesh(*hosts)
    here, there, other = (silent(host, number) for number, host in enumerate(hosts, 1))
    wait_until(lambda: all(knows_all(host, 2) for host in hosts), "each knows the containers of the others", PATIENCE)
    for host in hosts:
        host.run(["ip", "link", "set", "weave", "type", "bridge", "fdb_flush"])
    forget_learned(one)
    wait_until(lambda: knows_all(one, 2), "so does a new pump", PATIENCE)
    with Arrivals(there, other) as arrivals:

        def arrives(text: bytes) -> bool:
            send_frames(here, frame(mac_of(there), mac_of(here), text))
            return arrivals.of(text).keys() == {"h2/c"}

        wait_until(lambda: arrives(b"first"), "frames arrive where they belong", PATIENCE)
        assert "h3/c" not in arrivals.of(b"first")
        # Another container claims the address: it can send with it, but not have what is sent to it.
        send_frames(other, *(frame(mac_of(here), mac_of(there), b"claimed") for _ in range(5)))
        for _ in range(5):
            assert arrives(b"second")
            time.sleep(0.05)
        assert arrivals.of(b"second").keys() == {"h2/c"}
    assert "that peer announced it" in one.plait("trace", here.spec, "10.32.0.2").stdout
    there.run(["ip", "link", "set", "ethwe", "down"])
    two.plait("detach", "10.32.0.2/12", there.spec)
    wait_until(lambda: knows_all(one, 1), "a container that is gone is announced no longer", PATIENCE)
