"""A client of the Docker Engine's HTTP API, as small as attaching needs: look at one container, list the running ones,
hear of their starts and ends. It changes nothing in the engine.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from plait.attach.runtime import NoSuchContainer, RuntimeContainer, RuntimeUnavailable
from plait.errors import UsageError

DEFAULT_ADDRESS = "unix:///var/run/docker.sock"
_T = TypeVar("_T")
# A local engine answers an inspect within milliseconds; one that is starting hundreds of containers takes seconds.
_TIMEOUT = aiohttp.ClientTimeout(total=15, sock_connect=3)
_STREAM_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=3)
# `die` is the end of a process, `destroy` that of a container which had none any more.
_NEWS = urlencode({"filters": json.dumps({"type": ["container"], "event": ["start", "die", "destroy"]})})
# An event has all labels of its container.
_MAX_EVENT = 1 << 20
# Inspects under way at once when all containers are listed; more only queue inside the engine.
_PARALLEL_INSPECTS = 16


class DockerClient:
    """Talks to the engine at `unix:///path`, `/path` or `tcp://host:port`. Every call opens its own connection."""

    def __init__(self, address: str = DEFAULT_ADDRESS) -> None:
        """Raise UsageError for an address of another form."""
        self.address = address
        self._socket_path, self._base = _split(address)

    async def inspect(self, container: str) -> RuntimeContainer:
        """Look at a container by its id, a prefix of it, or its name.

        Raise NoSuchContainer or RuntimeUnavailable.
        """
        answer = await self._get(f"/containers/{quote(container, safe='')}/json", _Inspect, missing=container)
        return RuntimeContainer(
            ident=answer.id,
            name=answer.name.removeprefix("/"),
            pid=answer.state.pid,
            running=answer.state.running,
            network_mode=answer.host_config.network_mode,
            fqdn=answer.config.fqdn,
        )

    async def version(self) -> str:
        """The engine's version. Raise RuntimeUnavailable."""
        return (await self._get("/version", _Version)).version

    async def names_with(self, part: str) -> list[str]:
        """Names of all containers, running or not, that have `part` in them. Raise RuntimeUnavailable."""
        filters = quote(json.dumps({"name": [part]}))
        listed = await self._get(f"/containers/json?all=1&filters={filters}", list[_Listed])
        return [name.removeprefix("/") for item in listed for name in item.names]

    async def running(self) -> list[RuntimeContainer]:
        """All containers that have a process. Raise RuntimeUnavailable."""
        listed = await self._get("/containers/json", list[_Listed])
        gate = asyncio.Semaphore(_PARALLEL_INSPECTS)

        async def look(ident: str) -> RuntimeContainer | None:
            async with gate:
                try:
                    return await self.inspect(ident)
                except NoSuchContainer:  # it ended since it was listed
                    return None

        found = await asyncio.gather(*(look(item.id) for item in listed))
        return [container for container in found if container is not None and container.running]

    @contextlib.asynccontextmanager
    async def news(self) -> AsyncIterator[AsyncIterator[tuple[str, str]]]:
        """Give what happens (`start`, `die`, `destroy`) and the id of the container, for as long as the engine answers.

        Raise RuntimeUnavailable.
        """
        try:
            async with (
                aiohttp.ClientSession(connector=self._connector(), timeout=_STREAM_TIMEOUT) as session,
                session.get(f"{self._base}/events?{_NEWS}", allow_redirects=False, read_bufsize=_MAX_EVENT) as response,
            ):
                if response.status != 200:
                    raise self._unavailable(f"it answered {response.status}: {_message(await response.read())}")
                yield self._events(response.content)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unavailable(str(error) or "no answer in time") from error

    async def _events(self, stream: aiohttp.StreamReader) -> AsyncIterator[tuple[str, str]]:
        while line := await self._line(stream):  # one JSON object each
            if line.strip():
                try:
                    event = msgspec.json.decode(line, type=_Event)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise self._unavailable(f"an event of it is not understood: {error}") from error
                yield event.action, event.actor.id

    async def _line(self, stream: aiohttp.StreamReader) -> bytes:
        try:
            return await stream.readline()
        except ValueError as error:
            raise self._unavailable(f"an event of it is too long: {error}") from error

    def _connector(self) -> aiohttp.BaseConnector:
        return aiohttp.UnixConnector(self._socket_path) if self._socket_path else aiohttp.TCPConnector()

    async def _get(self, path: str, shape: type[_T], missing: str = "") -> _T:
        try:
            async with (
                aiohttp.ClientSession(connector=self._connector(), timeout=_TIMEOUT) as session,
                session.get(self._base + path, allow_redirects=False) as response,
            ):
                status, body = response.status, await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unavailable(str(error) or "no answer in time") from error
        if status == 404 and missing:
            raise NoSuchContainer(f"unable to inspect container {missing}: No such container: {missing}")
        if status != 200:
            raise self._unavailable(f"it answered {status}: {_message(body)}")
        try:
            return msgspec.json.decode(body, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._unavailable(f"its answer to {path} is not understood: {error}") from error

    def _unavailable(self, why: str) -> RuntimeUnavailable:
        return RuntimeUnavailable(
            f"no use of the Docker engine at {self.address}: {why}; start Docker, or name the container by its "
            "process id or as netns:NAME"
        )


class _State(msgspec.Struct, rename="pascal"):
    running: bool
    pid: int


class _HostConfig(msgspec.Struct, rename="pascal"):
    network_mode: str = ""


class _Config(msgspec.Struct, rename="pascal"):
    hostname: str = ""
    domainname: str = ""

    @property
    def fqdn(self) -> str:
        """Engines of today leave the domain in the host name; those of old kept it apart."""
        whole = f"{self.hostname}.{self.domainname}" if self.domainname else self.hostname
        return whole if "." in whole else ""


class _Inspect(msgspec.Struct, rename="pascal"):
    id: str
    name: str
    state: _State
    host_config: _HostConfig
    config: _Config = msgspec.field(default_factory=_Config)


class _Actor(msgspec.Struct, rename={"id": "ID"}):
    id: str


class _Event(msgspec.Struct, rename="pascal"):
    action: str
    actor: _Actor


class _Version(msgspec.Struct, rename="pascal"):
    version: str


class _Listed(msgspec.Struct, rename="pascal"):
    id: str
    names: list[str] = []


class _Message(msgspec.Struct):
    message: str


def _split(address: str) -> tuple[str, str]:
    """The socket's path (empty for TCP) and the start of every URL."""
    scheme, separator, rest = address.partition("://")
    if address.startswith("/"):
        return address, "http://docker"
    if scheme == "unix" and rest.startswith("/"):
        return rest, "http://docker"
    if scheme == "tcp" and separator and rest and "/" not in rest.rstrip("/"):
        return "", f"http://{rest.rstrip('/')}"
    raise UsageError(f"{address!r} is no address of a Docker engine; write unix:///path or tcp://host:port")


def _message(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Message).message
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body[:200].decode(errors="replace").strip() or "nothing"
