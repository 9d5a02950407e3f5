"""A member of a mixed mesh: a node of plait or a real weaver on a host of a lab, asked and used in the same words."""

import http.client
import json
import os
import signal
import urllib.parse
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from plait.testing.lab import Container, Host, wait_until

_API = ("127.0.0.1", 6784)
_HTTP_SECONDS = 5.0
MESH_SECONDS = 20.0
"""In which a mesh must be whole: the third attempt to connect begins at most 9 s after the first."""


class Member(ABC):
    """One router. Its name and nickname are those that the lab gave its host."""

    kind: ClassVar[str]

    def __init__(self, host: Host, password: str | None = None, extra: Sequence[str] = ()) -> None:
        self.host = host
        self.password = password
        self.extra = tuple(extra)

    def __repr__(self) -> str:
        return f"{self.kind} {self.host.name}"

    @abstractmethod
    def start(self, *peers: "Member") -> None:
        """Start it, with these peers to call, and wait until it answers."""

    @abstractmethod
    def stop(self) -> None:
        """End it as an operator does."""

    @abstractmethod
    def kill(self) -> None:
        """End it as a crash does."""

    @abstractmethod
    def check(self) -> None:
        """Fail if it panicked or ended unasked."""

    @abstractmethod
    def attach(self, number: int) -> Container:
        """Make a container with the addresses `address(number)` and `address6(number)`."""

    @property
    @abstractmethod
    def log(self) -> str:
        """What it has logged in all its lives."""

    @property
    def name(self) -> str:
        """Its name in the mesh."""
        return self.host.peer_name

    @property
    def nickname(self) -> str:
        """Its name for people."""
        return self.host.name

    # Its API

    def request(self, method: str, path: str, form: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Ask its HTTP API; gives status and body. Raise OSError if it does not answer."""
        headers = {"Accept": "application/json"}
        body = None
        if form is not None:
            body = urllib.parse.urlencode(form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection = http.client.HTTPConnection(*_API, timeout=_HTTP_SECONDS)
        try:
            with self.host.entered():
                connection.connect()
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def report(self) -> dict[str, Any]:
        """The router's part of its report."""
        status, body = self.request("GET", "/report")
        assert status == 200, body
        router: dict[str, Any] = json.loads(body)["Router"]
        return router

    def connect(self, other: "Member") -> None:
        """Have it call another one."""
        assert self.request("POST", "/connect", {"peer": other.host.ip}) == (200, "")

    def forget(self, other: "Member") -> None:
        """Have it call another one no longer."""
        assert self.request("POST", "/forget", {"peer": other.host.ip}) == (200, "")

    def connections(self) -> list[dict[str, Any]]:
        """Its connections and what it calls."""
        return self.report()["Connections"] or []

    def peers(self) -> list[dict[str, Any]]:
        """All peers that it knows, with what they say of their connections, in the order of names."""
        peers = sorted(self.report()["Peers"], key=_name)
        return [peer | {"Connections": sorted(peer["Connections"] or [], key=_name)} for peer in peers]

    def connection(self, other: "Member") -> dict[str, Any] | None:
        """Its live connection with another one."""
        wanted = f"{other.name}({other.nickname})"
        return next((each for each in self.connections() if each["Attrs"] and each["Info"].endswith(wanted)), None)

    def reaches(self, others: Sequence["Member"]) -> bool:
        """Whether it has routes to exactly these, and passes broadcasts to its established neighbours."""
        report = self.report()
        routes = {route["Dest"] for route in report["UnicastRoutes"] or []} - {self.name}
        established = any(each["State"] == "established" for each in report["Connections"] or [])
        copies = [each["Via"] for each in report["BroadcastRoutes"] or [] if each["Source"] == self.name]
        return routes == {other.name for other in others} and established and any(copies)

    def is_ready(self) -> bool:
        """Whether it answers and is ready."""
        try:
            return self.request("GET", "/status")[0] == 200
        except OSError:
            return False


class Plait(Member):
    """A node of plait, by its command line."""

    kind = "plait"

    def start(self, *peers: Member) -> None:
        """See Member."""
        self.host.launch(*(peer.host for peer in peers), password=self.password, extra=self.extra)

    def stop(self) -> None:
        """See Member."""
        self.host.plait("stop")

    def kill(self) -> None:
        """See Member."""
        pid = int((self._run_dir / "plait.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not _is_alive(pid), f"{self} is gone")

    def check(self) -> None:
        """See Member; also a defect that its log tells counts."""
        assert "Traceback" not in self.log, self.log

    def attach(self, number: int) -> Container:
        """See Member."""
        container = self.host.container(f"c{number}")
        self.host.attach(container, address(number), address6(number))
        return container

    def details(self) -> dict[str, Any]:
        """The part of its report that only plait has."""
        details: dict[str, Any] = self.host.status_json()["Plait"]
        return details

    def problems(self) -> str:
        """What its status says is wrong."""
        return "\n".join(problem["What"] for problem in self.details()["Problems"])

    @property
    def log(self) -> str:
        """See Member."""
        path = self.host.directory / "state" / "plait.log"
        return path.read_text() if path.exists() else ""

    @property
    def _run_dir(self) -> Path:
        return self.host.directory / "run"


def wait_for_mesh(*members: Member, seconds: float = MESH_SECONDS) -> None:
    """Wait until every one has routes to all others, and only to them."""
    for member in members:
        others = [other for other in members if other is not member]
        wait_until(partial(member.reaches, others), f"{member} reaches {others}", seconds)


def address(number: int) -> str:
    """The overlay's IPv4 address of a container, with its prefix length."""
    return f"10.32.0.{number}/12"


def address6(number: int) -> str:
    """The overlay's IPv6 address of a container, with its prefix length."""
    return f"fd00:32::{number}/64"


def _name(entry: dict[str, Any]) -> str:
    return str(entry["Name"])


def _is_alive(pid: int) -> bool:
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
