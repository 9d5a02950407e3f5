"""`make demo`: three virtual hosts on this machine, two containers each, one network; a link is cut and healed."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from plait.errors import PlaitError
from plait.testing.docker import DockerEngine, EngineFailed, docker_engine, why_not
from plait.testing.lab import Container, Host, Lab, LabError, missing_features, remove

LAB_NAME = "plaitdemo"
TRANSFER_BYTES = 20_000_000
# A cut is noticed by heartbeats that stay out (6 s between plait nodes) and gossiped at once; a healed link is found
# by the connection maker's next try.
PATIENCE_SECONDS = 30.0
HOST_COUNT = 3
CONTAINERS_PER_HOST = 2
_DOCKER_SOCKET = Path("/var/run/docker.sock")


@dataclass
class Demo:
    """What the demo has built. `engine` is None if containers are bare network namespaces."""

    console: Console
    lab: Lab
    engine: DockerEngine | None
    hosts: list[Host] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)
    address: dict[str, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show what happens, then how long it took."""
        started = time.monotonic()
        with self.console.status(title):
            yield
        self.console.print(f" [green]ok[/] {title} [dim]({time.monotonic() - started:.1f} s)[/]", soft_wrap=True)


def main(words: list[str]) -> int:
    """Run the demo, or with `stop` end one that was kept; gives the exit code."""
    console = Console(highlight=False)
    if words == ["stop"]:
        return _stop_kept(console)
    missing = missing_features()
    if missing:
        console.print("[red]the demo cannot run here:[/] " + "; ".join(missing))
        return 1
    keeper = _Keeper() if _is_set("KEEP") else None
    if keeper is not None and keeper.is_waiting:
        return keeper.exit_code()
    try:
        return _run(console, keeper)
    except (PlaitError, EngineFailed) as error:
        console.print(f"[red]the demo failed:[/] {error}", markup=True, soft_wrap=True)
        return getattr(error, "exit_code", 1)
    except KeyboardInterrupt:
        console.print("stopped; everything is removed")
        return 130


class _Keeper:
    """With KEEP=1 a process of its own plays the demo and stays; the one that the user started waits for its end."""

    def __init__(self) -> None:
        self._result, done = os.pipe()
        self._done = done
        self.is_waiting = os.fork() != 0

    def exit_code(self) -> int:
        """Wait until the demo was played (in the process that waits)."""
        os.close(self._done)
        word = os.read(self._result, 1)
        return 0 if word else 1

    def stay(self, lab: Lab) -> None:
        """Let the user's process end, then stay until told to stop (in the process that plays)."""
        sys.stdout.flush()
        _pid_file(lab.directory).write_text(str(os.getpid()))
        os.write(self._done, b"+")
        os.setsid()
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        signal.sigwait({signal.SIGTERM})


def _run(console: Console, keeper: _Keeper | None) -> int:
    started = time.monotonic()
    console.print(Panel("plait: containers of three hosts in one network. Everything happens in network namespaces."))
    with contextlib.ExitStack() as stack:
        engine = _engine(console, stack)
        try:
            lab = stack.enter_context(Lab(LAB_NAME))
        except LabError as error:
            raise PlaitError(f"a demo is there already: 'sudo make demo-stop' ends it ({error})") from error
        demo = Demo(console, lab, engine)
        _play(demo)
        console.print(f"\nDone in {time.monotonic() - started:.0f} s.")
        if keeper is not None:
            _tell_how_to_look_around(demo)
            keeper.stay(lab)
    return 0


def _engine(console: Console, stack: contextlib.ExitStack) -> DockerEngine | None:
    """A Docker engine of the demo's own, if one is asked for or this machine uses Docker anyway."""
    wish = os.environ.get("DEMO_DOCKER", "")
    if wish == "0" or (not wish and (not _DOCKER_SOCKET.exists() or why_not() is not None)):
        return None
    obstacle = why_not()
    if obstacle is not None:
        raise PlaitError(f"DEMO_DOCKER=1 cannot be done: {obstacle}")
    with console.status("a Docker engine of the demo's own"):
        return stack.enter_context(docker_engine())


def _is_set(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


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
            host.launch(*peers, extra=("--docker-api", demo.engine.address if demo.engine else ""))
    number = 0
    with demo.step("two containers on each host: plait attach 10.32.0.N/12 CONTAINER"):
        for host in demo.hosts:
            for _ in range(CONTAINERS_PER_HOST):
                number += 1
                _add_container(demo, host, f"c{number}", f"10.32.0.{number}")
    with demo.step("every node knows every other"):
        _wait(lambda: all(_established(host) == HOST_COUNT - 1 for host in demo.hosts), "the mesh to become whole")


def _add_container(demo: Demo, host: Host, name: str, address: str) -> None:
    """Make a container and attach it by the name that its user would use."""
    if demo.engine is None:
        container = host.container(name)
        known_as = container.spec
    else:
        known_as = f"demo-{name}"
        demo.engine.run(known_as)
        netns = f"{host.netns}-{name}"
        # A name for its namespace, so that the lab can work in it and removes it.
        subprocess.run(["ip", "netns", "attach", netns, str(demo.engine.pid(known_as))], check=True)
        directory = Path(f"{host.directory}-{name}")
        directory.mkdir()
        container = Container(name, netns, directory, host=host)
    host.plait("attach", f"{address}/12", known_as)
    demo.address[name] = address
    demo.containers.append(container)


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
    if not result.ok:
        raise PlaitError(f"{source.name} on {source.host.name} got no answer of {target.name} on {target.host.name}")
    return f"{result.rtts_ms[0]:.1f}"


def _move_data(demo: Demo, source: Container, target: Container) -> None:
    title = f"{TRANSFER_BYTES // 1_000_000} MB over TCP from {source.name} to {target.name}"
    with demo.step(title):
        transfer = source.transfer(target, TRANSFER_BYTES)
    demo.console.print(f"    [dim]{transfer.gigabits_per_second:.2f} Gbit/s[/]")


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
    return source.ping(demo.address[target.name], count=1, timeout=1.0).ok


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
    lines.append("   all joined by one switch; control: TCP 6783, frames: UDP 6784 (the kernel) or 6783 (plait)")
    demo.console.print(Panel("\n".join(lines), title="topology", title_align="left"))


def _own_name(host: Host) -> str:
    return str(host.status_json()["Router"]["Name"])


def _show_path(demo: Demo, source: Container, target: Container) -> None:
    """Print the way of a frame, as the nodes' own routes give it."""
    by_name = {host.name: host for host in demo.hosts}
    here, way = source.host, [f"{source.name} (ethwe)"]
    who = source.host.name
    for _ in demo.hosts:
        hop = _next_hop(here, target.host)
        if hop is None or hop not in by_name:
            raise PlaitError(f"{here.name} knows no way to {target.host.name}")
        overlay, port = _carrier(here, by_name[hop])
        way.append(f"{who}: {overlay}  --UDP {here.ip} -> {by_name[hop].ip}:{port}-->")
        here = by_name[hop]
        who = here.name if here is target.host else f"{here.name} (relay)"
        if here is target.host:
            break
    way += [who, f"{target.name} (ethwe)"]
    demo.console.print("    [cyan]" + "\n    ".join(way) + "[/]")


def _carrier(here: Host, there: Host) -> tuple[str, int]:
    """What carries frames between two neighbours, in words, and its UDP port."""
    details = here.status_json()["Plait"]["Connections"]
    overlay = next((each["Overlay"] for each in details if each["Peer"] == there.peer_name), "none")
    return (f"eBPF, VXLAN ({overlay})", 6784) if overlay == "fastdp" else (f"bridge, tap, plait ({overlay})", 6783)


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise PlaitError(f"waited {PATIENCE_SECONDS:.0f} s in vain for {what}")
        time.sleep(0.1)


def _tell_how_to_look_around(demo: Demo) -> None:
    host, container = demo.hosts[0], demo.containers[0]
    demo.console.print("\nIt stays. Look around, for example:")
    for command in (
        f"{host.plait_command()} status",
        f"{host.plait_command()} status connections",
        f"sudo ip netns exec {container.netns} ping {demo.address[demo.containers[-1].name]}",
        f"sudo ip netns exec {host.netns} tcpdump -ni eth0 -T vxlan udp port 6784",
        "sudo make demo-stop     # removes everything",
    ):
        demo.console.print(f"  {command}", soft_wrap=True, markup=False)


def _pid_file(lab_directory: Path) -> Path:
    return lab_directory / "demo.pid"


def _stop_kept(console: Console) -> int:
    directory = Path(tempfile.gettempdir(), f"plait-{LAB_NAME}")
    with contextlib.suppress(OSError, ValueError):
        keeper = int(_pid_file(directory).read_text())
        os.kill(keeper, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while Path("/proc", str(keeper)).exists() and time.monotonic() < deadline:
            time.sleep(0.1)
    remove(LAB_NAME)
    console.print("the demo is gone")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
