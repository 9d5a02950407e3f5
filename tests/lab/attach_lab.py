"""A host with a bridge, and containers, for tests of attaching: network namespaces that go away with the test."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from plait.attach.container import Container, namespace_id
from plait.attach.interface import Bridge
from plait.host import netns
from plait.host.netlink import Netlink

PREFIX = f"plait-att{os.getpid()}"


@dataclass(frozen=True)
class Host:
    """The calling thread is inside it."""

    cleanup: ExitStack
    bridge: Bridge
    netns: Path

    def container(self, name: str) -> Container:
        """A named namespace with its loopback up."""
        full = f"{PREFIX}-{name}"
        path = netns.create(full)
        self.cleanup.callback(netns.delete, full)
        with Netlink(path) as inside:
            inside.set_link("lo", up=True)
        return Container(f"netns:{full}", path, namespace_id(path))

    def process(self) -> tuple[Container, subprocess.Popen[str]]:
        """A process with a namespace of its own."""
        code = "import sys; print('ready', flush=True); sys.stdin.read()"
        command = ["unshare", "--net", sys.executable, "-c", code]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.cleanup.callback(end, child)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        path = Path(f"/proc/{child.pid}/ns/net")
        return Container(str(child.pid), path, namespace_id(path), child.pid), child


def end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()


@contextmanager
def host(bridge: Bridge | None = None) -> Iterator[Host]:
    """Enter a new host with its bridge."""
    bridge = bridge or Bridge()
    with ExitStack() as cleanup:
        name = f"{PREFIX}-host"
        path = netns.create(name)
        cleanup.callback(netns.delete, name)
        cleanup.enter_context(netns.entered(path))
        with Netlink() as link:
            link.set_link("lo", up=True)
            link.create_bridge(bridge.name, "7a:00:00:00:00:01", bridge.mtu)
            link.set_link(bridge.name, up=True)
        yield Host(cleanup, bridge, path)


def run_in(container: Container, *command: str) -> str:
    """Run a command inside a container and give what it prints."""
    done = subprocess.run(
        ["nsenter", f"--net={container.netns}", *command], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def reaches(source: Path, target: Path, address: str) -> bool:
    """Whether a datagram from one namespace to an address of another comes there. An address that nobody has: False."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with ExitStack() as stack:
        with netns.entered(target):
            receiver = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        receiver.settimeout(2)
        receiver.bind(("", 0))
        with netns.entered(source):
            sender = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        try:
            sender.sendto(b"hello", (address, receiver.getsockname()[1]))
            return receiver.recv(16) == b"hello"
        except OSError:
            return False
