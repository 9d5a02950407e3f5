"""Who holds a port, and what a process may have: of this very process."""

import os
import resource
import socket
from pathlib import Path

import pytest

from plait.host import modules
from plait.host.modules import State
from plait.host.processes import holders, limits


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_who_holds_a_port(family: socket.AddressFamily, address: str, kind: socket.SocketKind) -> None:
    with socket.socket(family, kind) as ours:
        try:
            ours.bind((address, 0))
        except OSError as error:
            pytest.skip(f"no {address} here: {error}")
        port = ours.getsockname()[1]
        if kind == socket.SOCK_STREAM:
            assert holders(port) == []
            ours.listen()
        (found,) = holders(port)
        assert (found.protocol, found.address) == ("tcp" if kind == socket.SOCK_STREAM else "udp", address)
        assert (found.pid, found.parent) == (os.getpid(), os.getppid())
        assert found.process == Path("/proc/self/comm").read_text().strip()
    assert holders(port) == []


def test_a_connected_socket_holds_no_port() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.bind(("127.0.0.1", 0))
        ours.connect(("127.0.0.1", 9))
        assert holders(ours.getsockname()[1]) == []


def test_what_a_process_may_have() -> None:
    found = limits(os.getpid())
    assert found is not None
    assert found.descriptor_limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert 3 <= found.descriptors < found.descriptor_limit
    assert limits(0x3FFFFFFF) is None


def test_parts_of_the_kernel() -> None:
    """Wherever it runs: nothing is said of what cannot be known, and an invented part is never there."""
    found = modules.states(("loop", "no_such_part"))
    assert set(found.values()) <= set(State)
    assert found.get("no_such_part", State.ABSENT) == State.ABSENT


def test_how_modules_are_listed(tmp_path: Path) -> None:
    (tmp_path / "modules.builtin").write_text("kernel/net/bridge/bridge.ko\n")
    (tmp_path / "modules.dep").write_text("kernel/net/ipv4/esp4.ko.xz: kernel/lib/x.ko.xz\nkernel/net/nf-tables.ko:\n")
    names = ("bridge", "esp4", "nf_tables", "no_such_part")
    assert modules.states(names, tmp_path) == {
        "bridge": State.PRESENT,
        "esp4": State.PRESENT if Path("/sys/module/esp4").exists() else State.LOADABLE,
        "nf_tables": State.PRESENT if Path("/sys/module/nf_tables").exists() else State.LOADABLE,
        "no_such_part": State.ABSENT,
    }
