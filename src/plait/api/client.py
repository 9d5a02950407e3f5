"""The CLI's side of the API: HTTP over the node's unix socket, with the standard library (import time counts)."""

import http.client
import json
import socket
import sys
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plait.api import remarks
from plait.errors import NodeUnreachable, NotFound, PermissionNeeded, PlaitError
from plait.paths import SOCKET_NAME

# Of one read: long enough for an attach on a busy host, short enough for a person to wait when the node hangs.
TIMEOUT = 60.0
# Where the node says more than Weave's bodies have room for.
DETAIL_HEADER = "X-Plait-Detail"
EXIT_CODE_HEADER = "X-Plait-Exit-Code"


class NotRunning(NodeUnreachable):
    """There is no socket, or nobody listens at it."""


class Refused(PlaitError):
    """The node answered with an error; carries the node's exit code."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer. `detail` is what the node has to say beside a body that is Weave's."""

    status: int
    body: str
    detail: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


class Client:
    """Talks to the node whose run directory this is. A request reads for `timeout` seconds at most at a time.

    None: as long as it takes.
    """

    def __init__(self, run_dir: Path, timeout: float | None = TIMEOUT) -> None:
        self._path = run_dir / SOCKET_NAME
        self._timeout = timeout

    def request(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """Send one request, and print the node's remarks to standard error.

        Raises NodeUnreachable, or PermissionNeeded if the socket is not for this user.
        """
        connection = _UnixConnection(self._path, self._timeout)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
            for remark in remarks.decode(response.headers.get(remarks.HEADER, "")):
                print(f"warning: {remark}", file=sys.stderr)
            return Answer(response.status, text, response.headers.get(DETAIL_HEADER, ""), dict(response.headers))
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
            raise NotRunning(
                f"plait is not running here; start it with 'plait launch' (looked for a node at {self._path})"
            ) from error
        except PermissionError as error:
            raise PermissionNeeded(
                f"no access to the node at {self._path}: plait's commands need root; use sudo"
            ) from (error)
        except TimeoutError as error:
            raise NodeUnreachable(
                f"the node at {self._path} has not answered for {self._timeout:.0f} s; see its log, or 'plait stop' it"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise NodeUnreachable(f"the talk with the node at {self._path} broke off ({error}); see its log") from error
        finally:
            connection.close()

    def text(self, path: str, method: str = "GET") -> str:
        """Get a text; raises PlaitError with the body if the answer is not a good one."""
        return _good(self.request(method, path)).body

    def act(self, method: str, path: str) -> None:
        """Send a request whose answer has no body; raises PlaitError with the body of one that is not good."""
        _good(self.request(method, path))

    def report_text(self) -> str:
        """GET the report as JSON, as the node wrote it."""
        return _good(self.request("GET", "/report", headers={"Accept": "application/json"})).body

    def report(self) -> dict[str, Any]:
        """GET the report."""
        return _object(self.report_text(), "/report")

    def form(self, path: str, fields: Sequence[tuple[str, str]]) -> None:
        """POST a form, as Weave's routes take it."""
        body = urllib.parse.urlencode(fields, errors="surrogatepass").encode()
        _good(self.request("POST", path, body, {"Content-Type": "application/x-www-form-urlencoded"}))

    def call(self, verb: str, **arguments: object) -> dict[str, Any]:
        """POST to one of plait's own routes; raises Refused with the node's sentence and exit code."""
        path = f"/plait/{verb}"
        answer = self.request("POST", path, json.dumps(arguments).encode(), {"Content-Type": "application/json"})
        value = _object(answer.body, path)
        if not 200 <= answer.status < 300:
            raise Refused(str(value.get("error")), int(value.get("exit_code", 1)))
        return value


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket file in the place of a TCP port."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _good(answer: Answer) -> Answer:
    """Weave's convention: 404 is exit code 4 without a word, anything else bad is the body of the answer."""
    if answer.status == 404:
        raise NotFound("")
    if not 200 <= answer.status < 300:
        sentence = answer.body.rstrip("\n") or f"the node answered {answer.status}"
        code = answer.headers.get(EXIT_CODE_HEADER, "")
        raise Refused(f"{sentence}: {answer.detail}" if answer.detail else sentence, int(code) if code.isdigit() else 1)
    return answer


def _object(text: str, path: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise PlaitError(
            f"what answers {path} is no node of plait (it said {text[:200]!r}); is --run-dir the right one?"
        )
    return value
