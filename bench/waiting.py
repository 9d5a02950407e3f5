"""What a user waits for: from `launch` to the first ping, and an attach."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from bench import machine
from bench.network import core_of, join, namespaces, two_hosts, wait_for_ping, wait_until_settled
from bench.systems import System
from bench.systems.base import cidr
from plait.api.client import Client
from plait.testing.lab import CommandFailed, Host, Lab


def launch_to_ping(make: Callable[[], System]) -> tuple[dict[str, float], machine.Meter]:
    """Give the seconds from launching the second host to the first answer its container gets from the first host.

    The container is attached right after launch returns, and then pings without pause.
    """
    with Lab() as lab, closing(make()) as system:
        one, other = two_hosts(lab)
        first = join(system, one, [], 1)
        with machine.Meter(namespaces([one, other, first])) as meter:
            container = join(system, other, [one], 2)
            wait_for_ping(container, first.ip)
        wait_until_settled(system)
        return {"launch_to_ping_s": meter.seconds}, meter


def attach(make: Callable[[], System], count: int) -> tuple[dict[str, float], machine.Meter]:
    """Give the milliseconds of an attach: of the command, and of the call to the node that it makes."""
    with Lab() as lab, closing(make()) as system:
        host, _ = two_hosts(lab)
        first = join(system, host, [], 1)
        with machine.Meter(namespaces([host, first])) as meter, machine.pinned(core_of(host)):
            commands = [_command_ms(host, number) for number in range(2, 2 + count)]
            calls = [_call_ms(host, number) for number in range(2 + count, 2 + 2 * count)]
        return {"attach_ms": statistics.median(commands), "attach_api_ms": statistics.median(calls)}, meter


def _command_ms(host: Host, number: int) -> float:
    """`plait attach`, from the start of the process to its end; its node is found by a file, in any namespace."""
    container = host.container(f"c{number}")
    argv = [sys.executable, "-m", "plait", "attach", cidr(number), container.spec]
    started = time.monotonic()
    done = subprocess.run(argv, env=host.environment(), capture_output=True, text=True, check=False)
    elapsed = time.monotonic() - started
    if done.returncode:
        raise CommandFailed(argv, host.name, done.returncode, done.stdout + done.stderr)
    return elapsed * 1e3


def _call_ms(host: Host, number: int) -> float:
    container = host.container(f"c{number}")
    client = Client(Path(host.environment()["PLAIT_RUN_DIR"]))
    started = time.monotonic()
    client.call("attach", container=container.spec, cidrs=[cidr(number)], multicast_route=True)
    return (time.monotonic() - started) * 1e3
