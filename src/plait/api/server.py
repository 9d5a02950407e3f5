"""The node's HTTP listeners: control (unix socket and loopback), status (read-only), metrics."""

from pathlib import Path

from aiohttp import web

from plait.api.client import SOCKET_NAME
from plait.api.guard import refuse_foreign_pages
from plait.api.model import NodeService
from plait.api.routes import Routes, explain_errors
from plait.config import Config, split_listen_address
from plait.errors import AddressInUse

# Ends of requests are waited for this long when a listener closes, seconds.
_SHUTDOWN_TIMEOUT = 1.0


class ApiServer:
    """Open listeners."""

    def __init__(self) -> None:
        self._runners: list[web.AppRunner] = []

    async def listen(self, routes: list[web.RouteDef], addresses: list[str]) -> None:
        """Serve routes at these addresses (`ip:port` or absolute paths); raises AddressInUse."""
        app = web.Application(middlewares=[refuse_foreign_pages, explain_errors])
        app.add_routes(routes)
        runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT)
        await runner.setup()
        self._runners.append(runner)
        for address in addresses:
            await _start(runner, address)

    async def close(self) -> None:
        """Stop listening; requests under way get their answers."""
        for runner in self._runners:
            await runner.cleanup()


async def serve(service: NodeService, config: Config) -> ApiServer:
    """Open all listeners of a node; raises AddressInUse that names the address."""
    routes, server = Routes(service), ApiServer()
    try:
        # The directory keeps others out until the socket in it has its own mode.
        config.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        await server.listen(routes.control(), [str(config.run_dir / SOCKET_NAME), *filter(None, [config.http_addr])])
        await server.listen(routes.read_only(), [*filter(None, [config.status_addr])])
        await server.listen(routes.metrics(), [*filter(None, [config.metrics_addr])])
    except BaseException:
        await server.close()
        raise
    return server


async def _start(runner: web.AppRunner, address: str) -> None:
    try:
        if address.startswith("/"):
            _remove(address)
            await web.UnixSite(runner, address).start()
            _restrict(address)
        else:
            host, port = split_listen_address(address)
            await web.TCPSite(runner, host or None, port).start()
    except OSError as error:
        raise AddressInUse(
            f"cannot listen at {address} for HTTP ({error.strerror or error}): another Weave or plait node may run "
            "here; stop it, or choose other addresses with --http-addr and --status-addr"
        ) from error


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def _restrict(path: str) -> None:
    Path(path).chmod(0o600)
