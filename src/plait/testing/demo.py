"""`make demo`: three virtual hosts on this machine, two containers each, one network; a link is cut and healed."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from plait.errors import PlaitError
from plait.testing.lab import Container, Host, Lab, missing_features

TRANSFER_BYTES = 20_000_000
# A cut is noticed by heartbeats that stay out (5 s between plait nodes) and gossiped within another second or two.
REROUTE_SECONDS = 20.0
HOST_COUNT = 3
CONTAINERS_PER_HOST = 2


@dataclass
class Demo:
    """What the demo has built."""

    console: Console
    lab: Lab
    hosts: list[Host] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)
    address: dict[str, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show what happens, then how long it took."""
        started = time.monotonic()
        with self.console.status(title):
            yield
        self.console.print(f" [green]ok[/] {title} [dim]({time.monotonic() - started:.1f} s)[/]")


def main() -> int:
    """Run the demo; gives the exit code."""
    console = Console(highlight=False)
    missing = missing_features()
    if missing:
        console.print("[red]the demo cannot run here:[/] " + "; ".join(missing))
        return 1
    keep = os.environ.get("KEEP", "") not in ("", "0")
    started = time.monotonic()
    console.print(Panel("plait: containers of three hosts in one network. Everything happens in network namespaces."))
    try:
        with Lab(keep=keep) as lab:
            demo = Demo(console, lab)
            _play(demo)
            console.print(f"\nDone in {time.monotonic() - started:.0f} s.")
            if keep:
                _tell_how_to_look_around(demo)
    except PlaitError as error:
        console.print(f"[red]the demo failed:[/] {error}")
        return error.exit_code
    return 0


def _play(demo: Demo) -> None:
    _build(demo)
    _show_topology(demo)
    first, last = demo.containers[0], demo.containers[-1]
    _ping_all(demo)
    _move_data(demo, first, last)
    _show_path(demo, first, last)
    _cut_and_heal(demo, first, last)


def _build(demo: Demo) -> None:
    with demo.step("three hosts on a virtual switch"):
        demo.hosts = [demo.lab.host(f"host{number}") for number in range(1, HOST_COUNT + 1)]
    for host in demo.hosts:
        peers = [demo.hosts[0].ip] if host is not demo.hosts[0] else []
        with demo.step(f"{host.name}: plait launch {' '.join(peers)}"):
            host.launch(*peers)
    number = 0
    with demo.step("two containers on each host: plait attach 10.32.0.N/12 CONTAINER"):
        for host in demo.hosts:
            for _ in range(CONTAINERS_PER_HOST):
                number += 1
                container = host.container(f"c{number}")
                demo.address[container.name] = f"10.32.0.{number}"
                host.plait("attach", f"10.32.0.{number}/12", container.spec)
                demo.containers.append(container)
    with demo.step("every node knows every other"):
        _wait(lambda: all(_established(host) == HOST_COUNT - 1 for host in demo.hosts), "the mesh to become whole")


def _ping_all(demo: Demo) -> None:
    table = Table(title="round trips, ms", title_justify="left")
    table.add_column("from \\ to")
    for container in demo.containers:
        table.add_column(f"{container.name} {container.host.name}", justify="right")
    with demo.step("every container pings every other"):
        for source in demo.containers:
            cells = [_round_trip(demo, source, target) for target in demo.containers]
            table.add_row(f"{source.name} {source.host.name}", *cells)
    demo.console.print(table)


def _round_trip(demo: Demo, source: Container, target: Container) -> str:
    if source is target:
        return "-"
    result = source.ping(demo.address[target.name], count=1, timeout=3.0)
    if not result.received:
        raise PlaitError(f"{source.name} on {source.host.name} got no answer of {target.name} on {target.host.name}")
    return f"{result.rtts_ms[0]:.1f}"


def _move_data(demo: Demo, source: Container, target: Container) -> None:
    title = f"{TRANSFER_BYTES // 1_000_000} MB over TCP from {source.name} to {target.name}"
    started = time.monotonic()
    with demo.step(title):
        source.transfer(target, demo.address[target.name], TRANSFER_BYTES)
    rate = TRANSFER_BYTES * 8 / (time.monotonic() - started) / 1e6
    demo.console.print(f"    [dim]{rate:.0f} Mbit/s with connection set-up[/]")


def _cut_and_heal(demo: Demo, source: Container, target: Container) -> None:
    one, other = source.host, target.host
    with demo.step(f"the link {one.name} - {other.name} is cut; frames find the way through {demo.hosts[1].name}"):
        demo.lab.cut(one, other)
        _wait(lambda: _is_relayed(one, other) and _pings(demo, source, target), "traffic to be relayed")
    _show_path(demo, source, target)
    with demo.step("the link is healed; frames go straight again"):
        demo.lab.heal(one, other)
        _wait(lambda: not _is_relayed(one, other) and _pings(demo, source, target), "the straight way to return")
    _show_path(demo, source, target)


def _pings(demo: Demo, source: Container, target: Container) -> bool:
    return bool(source.ping(demo.address[target.name], count=1, timeout=1.0).received)


def _next_hop(one: Host, other: Host) -> str | None:
    """The name of the peer to which `one` sends what is for `other`."""
    router = one.status_json()["Router"]
    names = {peer["NickName"]: peer["Name"] for peer in router["Peers"]}
    routes = {route["Dest"]: route["Via"] for route in router["UnicastRoutes"]}
    via = routes.get(names.get(other.name, ""))
    return next((nickname for nickname, name in names.items() if name == via), None)


def _is_relayed(one: Host, other: Host) -> bool:
    hop = _next_hop(one, other)
    return hop is not None and hop != other.name


def _established(host: Host) -> int:
    connections = host.status_json()["Router"]["Connections"] or []
    return sum(connection["State"] == "established" for connection in connections)


def _show_topology(demo: Demo) -> None:
    lines = []
    for host in demo.hosts:
        inside = [container for container in demo.containers if container.host is host]
        addresses = "  ".join(f"{container.name} {demo.address[container.name]}" for container in inside)
        lines.append(f"[bold]{host.name}[/] {host.ip}   plait {_own_name(host)}   containers: {addresses}")
    lines.append("   all joined by one switch; control: TCP 6783, frames: UDP 6783 (sleeve)")
    demo.console.print(Panel("\n".join(lines), title="topology", title_align="left"))


def _own_name(host: Host) -> str:
    return str(host.status_json()["Router"]["Name"])


def _show_path(demo: Demo, source: Container, target: Container) -> None:
    """Print the way of a frame, as the nodes' own routes give it."""
    by_name = {host.name: host for host in demo.hosts}
    here, way = source.host, [f"{source.name} (ethwe)", f"{source.host.name}: bridge weave, tap, plait"]
    for _ in demo.hosts:
        hop = _next_hop(here, target.host)
        if hop is None or hop not in by_name:
            raise PlaitError(f"{here.name} knows no way to {target.host.name}")
        way[-1] += f"  --UDP {here.ip} -> {by_name[hop].ip}-->"
        here = by_name[hop]
        way.append(f"{here.name}: plait" + (", tap, bridge weave" if here is target.host else " (relay)"))
        if here is target.host:
            break
    way.append(f"{target.name} (ethwe)")
    demo.console.print("    [cyan]" + "\n    ".join(way) + "[/]")


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + REROUTE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise PlaitError(f"waited {REROUTE_SECONDS:.0f} s in vain for {what}")
        time.sleep(0.1)


def _tell_how_to_look_around(demo: Demo) -> None:
    host, container = demo.hosts[0], demo.containers[0]
    demo.console.print("\nIt stays. Look around, for example:")
    for command in (
        f"{host.plait_command()} status",
        f"{host.plait_command()} status connections",
        f"sudo ip netns exec {container.netns} ping {demo.address[demo.containers[-1].name]}",
        f"sudo ip netns exec {host.netns} tcpdump -ni eth0 udp port 6783",
    ):
        demo.console.print(f"  {command}", soft_wrap=True)
    demo.console.print("Press Ctrl-C here to remove everything.")
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    sys.exit(main())
