import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plait.api.client import Client
from plait.errors import NodeUnreachable, NotFound, PermissionNeeded, PlaitError
from unit.api.nodes import directory

NOBODY = 65534


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with directory() as path:
        yield path


@contextmanager
def answering(run_dir: Path, answer: bytes) -> Iterator[None]:
    """Answer one request with these bytes."""

    def serve_one() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as request:
            head = b"".join(iter(request.readline, b"\r\n")).lower()
            request.read(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0))
            connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(run_dir / "plait.sock"))
        listener.listen()
        listener.settimeout(10)
        thread = threading.Thread(target=serve_one)
        thread.start()
        try:
            yield
        finally:
            thread.join()


def http_answer(status: str, body: str, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", body]
    return "\r\n".join(lines).encode()


def test_no_node(run_dir: Path) -> None:
    with pytest.raises(NodeUnreachable, match="not running here; start it with 'plait launch'"):
        Client(run_dir).text("/status")
    with pytest.raises(NodeUnreachable, match="not running here"):
        Client(run_dir / "nowhere").text("/status")


def test_a_socket_that_a_dead_node_left(run_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(run_dir / "plait.sock"))
    with pytest.raises(NodeUnreachable, match="not running here") as caught:
        Client(run_dir).text("/status")
    assert caught.value.exit_code == 7


def test_a_node_that_hangs(run_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(run_dir / "plait.sock"))
        listener.listen()
        with pytest.raises(NodeUnreachable, match="has not answered"):
            Client(run_dir, timeout=0.05).text("/status")


def test_a_path_that_no_socket_can_have(run_dir: Path) -> None:
    with pytest.raises(NodeUnreachable):
        Client(run_dir / ("x" * 200)).text("/status")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_somebody_else_is_told_to_use_sudo(run_dir: Path) -> None:
    (run_dir / "plait.sock").touch(mode=0o600)
    with socket.socket(socket.AF_UNIX) as listener:
        (run_dir / "plait.sock").unlink()
        listener.bind(str(run_dir / "plait.sock"))
        listener.listen()
        (run_dir / "plait.sock").chmod(0o600)
        run_dir.chmod(0o755)
        os.seteuid(NOBODY)
        try:
            with pytest.raises(PermissionNeeded, match="sudo"):
                Client(run_dir).text("/status")
        finally:
            os.seteuid(0)


@pytest.mark.parametrize("answer", [b"", b"gibberish\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"])
def test_an_answer_that_breaks_off(run_dir: Path, answer: bytes) -> None:
    with answering(run_dir, answer), pytest.raises(NodeUnreachable, match="broke off"):
        Client(run_dir).text("/status")


def test_weaves_errors_are_the_body_and_404_is_silent(run_dir: Path) -> None:
    with (
        answering(run_dir, http_answer("400 Bad Request", "one\ntwo\n")),
        pytest.raises(PlaitError, match=r"^one\ntwo$"),
    ):
        Client(run_dir).text("/x")
    (run_dir / "plait.sock").unlink()
    with answering(run_dir, http_answer("404 Not Found", "404 page not found\n")), pytest.raises(NotFound, match=r"^$"):
        Client(run_dir).text("/x")


def test_an_error_without_a_body_is_named_by_its_number(run_dir: Path) -> None:
    with answering(run_dir, http_answer("405 Method Not Allowed", "")), pytest.raises(PlaitError, match="answered 405"):
        Client(run_dir).text("/x")


def test_a_detail_follows_the_body(run_dir: Path) -> None:
    answer = http_answer("500 Internal Server Error", "failed\n", "X-Plait-Detail: no such field")
    with answering(run_dir, answer), pytest.raises(PlaitError, match=r"^failed: no such field$"):
        Client(run_dir).text("/x")


@pytest.mark.parametrize("body", ["hello", "[1]", '{"a": '])
def test_somebody_elses_server_is_no_node(run_dir: Path, body: str) -> None:
    with answering(run_dir, http_answer("200 OK", body)), pytest.raises(PlaitError, match="no node of plait"):
        Client(run_dir).report()


def test_an_error_of_a_verb_keeps_its_exit_code(run_dir: Path) -> None:
    answer = http_answer("400 Bad Request", '{"error": "taken", "exit_code": 9}')
    with answering(run_dir, answer), pytest.raises(PlaitError, match=r"^taken$") as caught:
        Client(run_dir).call("attach", container="c")
    assert caught.value.exit_code == 9
