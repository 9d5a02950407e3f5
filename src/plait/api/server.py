"""The node's HTTP listeners: control (unix socket and loopback), status (read-only), metrics."""

import errno
import logging
import os
import socket
import stat
from pathlib import Path

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Middleware

from plait.api.guard import refuse_foreign_pages
from plait.api.model import NodeService
from plait.api.routes import Routes, add_remarks, explain_errors, speak_like_weave
from plait.config import Config, split_listen_address
from plait.errors import AddressInUse, ConfigError, PermissionNeeded, PlaitError, StateError

# Ends of requests are waited for this long when a listener closes, seconds.
_SHUTDOWN_TIMEOUT = 1.0
_BACKLOG = 128
# Root's only: whoever can connect can attach containers and stop the node.
_SOCKET_MODE = 0o600


class ApiServer:
    """Open listeners."""

    def __init__(self) -> None:
        self._runners: list[web.AppRunner] = []
        self._socket_files: list[tuple[Path, int]] = []

    @property
    def addresses(self) -> list[str]:
        """What is listened at: `ip:port` (as given by the kernel, if port 0 was asked for) or paths."""
        places = [place for runner in self._runners for place in runner.addresses]
        return [place if isinstance(place, str) else f"{place[0]}:{place[1]}" for place in places]

    async def listen(self, app: web.Application, listeners: list[tuple[str, str]]) -> None:
        """Serve at these flags' addresses (`ip:port` or absolute paths); raises PlaitError that names the flag."""
        runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            logger=_quiet_log(),
            shutdown_timeout=_SHUTDOWN_TIMEOUT,
            handler_cancellation=True,  # whose client went does not wait for an address any more
        )
        await runner.setup()
        self._runners.append(runner)
        for flag, address in listeners:
            try:
                await (self._listen_unix if address.startswith("/") else _listen_tcp)(runner, address)
            except OSError as error:
                raise _explain(flag, address, error) from error

    async def close(self) -> None:
        """Stop listening; requests under way get their answers."""
        for runner in self._runners:
            await runner.cleanup()
        for path, inode in self._socket_files:
            if _inode(path) == inode:  # a node that was started meanwhile has a socket of its own there
                path.unlink(missing_ok=True)
        self._socket_files.clear()

    async def _listen_unix(self, runner: web.AppRunner, address: str) -> None:
        path = Path(address)
        _make_room(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # The file gets the socket's mode when it is bound: nobody else can connect in between (unix(7)).
            os.fchmod(listener.fileno(), _SOCKET_MODE)
            listener.bind(address)
            await web.SockSite(runner, listener, backlog=_BACKLOG).start()
        except BaseException:
            listener.close()
            raise
        self._socket_files.append((path, _inode(path)))


async def serve(service: NodeService, config: Config) -> ApiServer:
    """Open all listeners of a node; raises AddressInUse and other PlaitErrors that name the address and its flag."""
    routes, server = Routes(service), ApiServer()
    (http_flag, http_addr), status, metrics = config.listeners
    control = [("--run-dir", str(config.socket_path)), (http_flag, http_addr)]
    try:
        _make_directory(config.run_dir)
        await server.listen(
            _application(routes, routes.control(), refuse_foreign_pages), [each for each in control if each[1]]
        )
        for listener, table in ((status, routes.read_only()), (metrics, routes.metrics())):
            if listener[1]:
                await server.listen(_application(routes, table), [listener])
    except BaseException:
        await server.close()
        raise
    return server


def _application(routes: Routes, table: list[web.RouteDef], *guards: Middleware) -> web.Application:
    app = web.Application(middlewares=[routes.requests.middleware(), *guards, add_remarks, explain_errors])
    app.add_routes(table)
    app.on_response_prepare.append(speak_like_weave)
    return app


async def _listen_tcp(runner: web.AppRunner, address: str) -> None:
    host, port = split_listen_address(address)
    await web.TCPSite(runner, host or None, port, backlog=_BACKLOG).start()


def _quiet_log() -> logging.Logger:
    """A log for aiohttp without what strangers can fill it with: malformed requests, with a traceback each."""
    log = logging.getLogger(f"{__name__}.http")
    log.addFilter(_is_of_the_server)
    return log


def _is_of_the_server(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"cannot make {path} ({error.strerror}): free the disk or choose another --run-dir") from error


def _make_room(path: Path) -> None:
    """Remove a socket that nobody listens at. Raise OSError, with EADDRINUSE if somebody does or it is no socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            if not stat.S_ISSOCK(mode):
                raise OSError(errno.EADDRINUSE, "a file that is no socket")
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # somebody listens, but is slow
    raise OSError(errno.EADDRINUSE, "a socket in use")


def _inode(path: Path) -> int:
    try:
        return path.lstat().st_ino
    except OSError:
        return 0


def _explain(flag: str, address: str, error: OSError) -> PlaitError:
    why = os.strerror(error.errno) if error.errno else str(error)
    start = f"cannot listen at {address} for HTTP ({why}): "
    match error.errno:
        case errno.EADDRINUSE:
            return AddressInUse(f"{start}{_who(address)}; stop that, or choose another {flag}")
        case errno.EADDRNOTAVAIL:
            return ConfigError(f"{start}this host has no such address; correct {flag}")
        case errno.EACCES | errno.EPERM:
            return PermissionNeeded(f"{start}run plait as root, or choose another {flag}")
        case _:
            return StateError(f"{start}choose another {flag}")


def _who(address: str) -> str:
    if address.startswith("/"):
        return "another node may use this path (or it is no socket)"
    port = address.rpartition(":")[2]
    return f"another node of plait or Weave may run here, 'ss -ltnp sport = :{port}' shows who"
