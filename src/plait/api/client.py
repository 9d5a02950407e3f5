"""The CLI's side of the API: HTTP over the node's unix socket, with the standard library (import time counts)."""

import http.client
import json
import socket
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plait.errors import NodeUnreachable, NotFound, PlaitError

SOCKET_NAME = "plait.sock"
# Long enough for an attach on a busy host.
TIMEOUT = 60.0

NOT_RUNNING = "plait is not running here: start it with 'plait launch' (a node with another --run-dir is not looked at)"


class Refused(PlaitError):
    """The node answered with an error; carries the node's exit code."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: str


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket file in the place of a TCP port."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Client:
    """Talks to the node whose run directory this is."""

    def __init__(self, run_dir: Path, timeout: float = TIMEOUT) -> None:
        self._path = run_dir / SOCKET_NAME
        self._timeout = timeout

    def request(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """Send one request; raises NodeUnreachable."""
        connection = _UnixConnection(self._path, self._timeout)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.read().decode(errors="replace"))
        except (FileNotFoundError, ConnectionError) as error:
            raise NodeUnreachable(NOT_RUNNING) from error
        except PermissionError as error:
            raise NodeUnreachable(f"no access to {self._path}: plait's commands need root; use sudo") from error
        except (TimeoutError, OSError, http.client.HTTPException) as error:
            raise NodeUnreachable(f"the node at {self._path} does not answer ({error}); see its log") from error
        finally:
            connection.close()

    def text(self, path: str) -> str:
        """GET a text; raises PlaitError with the body if the answer is not a good one."""
        return _good(self.request("GET", path)).body

    def report(self) -> dict[str, Any]:
        """GET the report."""
        answer = _good(self.request("GET", "/report", headers={"Accept": "application/json"}))
        report: dict[str, Any] = json.loads(answer.body)
        return report

    def form(self, path: str, fields: Sequence[tuple[str, str]]) -> None:
        """POST a form, as Weave's routes take it."""
        body = urllib.parse.urlencode(fields).encode()
        _good(self.request("POST", path, body, {"Content-Type": "application/x-www-form-urlencoded"}))

    def call(self, verb: str, **arguments: object) -> dict[str, Any]:
        """POST to one of plait's own routes; raises Refused with the node's sentence and exit code."""
        body = json.dumps(arguments).encode()
        answer = self.request("POST", f"/plait/{verb}", body, {"Content-Type": "application/json"})
        try:
            value: dict[str, Any] = json.loads(answer.body)
        except ValueError as error:
            raise PlaitError(f"the node answered {answer.status} without JSON: {answer.body[:200]}") from error
        if answer.status >= 400:
            raise Refused(str(value.get("error")), int(value.get("exit_code", 1)))
        return value


def _good(answer: Answer) -> Answer:
    if answer.status == 404:
        raise NotFound("")
    if not 200 <= answer.status < 300:
        raise PlaitError(answer.body.rstrip("\n"))
    return answer
