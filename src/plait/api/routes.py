"""The handlers of the HTTP API: Weave's routes for what exists, and plait's own under /plait/ (JSON)."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from plait.api import metrics, status
from plait.api.model import NodeService
from plait.errors import NotFound, PlaitError

_NOSNIFF = {"X-Content-Type-Options": "nosniff"}
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
_Body = TypeVar("_Body")


class AttachBody(msgspec.Struct, frozen=True):
    """Body of /plait/attach and /plait/detach."""

    container: str
    cidrs: list[str] = []
    multicast_route: bool = True


class ExposeBody(msgspec.Struct, frozen=True):
    """Body of /plait/expose and /plait/hide."""

    cidrs: list[str] = []
    masquerade: bool = True


class IdentsBody(msgspec.Struct, frozen=True):
    """Body of /plait/interfaces."""

    idents: list[str] = []


class StopBody(msgspec.Struct, frozen=True):
    """Body of /plait/stop."""

    reset: bool = False


class Routes:
    """Handlers bound to a node."""

    def __init__(self, service: NodeService) -> None:
        self._service = service

    def read_only(self) -> list[web.RouteDef]:
        """Routes of the status listener."""
        return [
            web.get("/status", self._status),
            web.get("/status/{sub}", self._status_sub),
            web.get("/report", self._report),
            *self.metrics(),
        ]

    def metrics(self) -> list[web.RouteDef]:
        """Routes of the metrics listener."""
        return [web.get("/metrics", self._metrics)]

    def control(self) -> list[web.RouteDef]:
        """All routes."""
        return [
            *self.read_only(),
            web.post("/connect", self._connect),
            web.post("/forget", self._forget),
            web.post("/expose/{ip}/{length}", self._weave_expose),
            web.delete("/peer", self._leave),
            web.post("/plait/attach", self._attach),
            web.post("/plait/detach", self._detach),
            web.post("/plait/expose", self._expose),
            web.post("/plait/hide", self._hide),
            web.post("/plait/interfaces", self._interfaces),
            web.post("/plait/stop", self._stop),
        ]

    # Weave's routes

    async def _status(self, request: web.Request) -> web.Response:
        report = await self._service.report()
        return web.Response(text=status.summary(report), status=200 if report.ready else 503)

    async def _status_sub(self, request: web.Request) -> web.Response:
        render = status.SUBS.get(request.match_info["sub"])
        if render is None:
            raise web.HTTPNotFound
        report = await self._service.report()
        return web.Response(text=render(report), status=200 if report.ready else 503)

    async def _report(self, request: web.Request) -> web.Response:
        """JSON if exactly that is accepted, else Weave's templates: one `format` parameter."""
        report = await self._service.report()
        if request.headers.get("Accept") == "application/json":
            body = msgspec.json.format(msgspec.json.encode(report), indent=4)
            return web.Response(body=body, content_type="application/json")
        from plait.api.template import TemplateError, execute, parse

        formats = request.query.getall("format", [])
        if len(formats) != 1:
            return _text_error(400, "error: must supply one format parameter")
        try:
            template = parse(formats[0])
        except TemplateError as error:
            return _text_error(400, str(error))
        output, failure = execute(template, msgspec.to_builtins(report))
        if failure is not None and not output:
            return _text_error(500, f"error during template execution: {failure}")
        return web.Response(text=output + ("" if failure is None else f"error during template execution: {failure}\n"))

    async def _metrics(self, request: web.Request) -> web.Response:
        body = metrics.render(await self._service.report())
        return web.Response(body=body, headers={"Content-Type": metrics.CONTENT_TYPE})

    async def _connect(self, request: web.Request) -> web.Response:
        form = await _form(request)
        refused = await self._service.connect(form.get("peer", []), _is_true(form.get("replace", [])))
        return _text_error(400, "\n".join(refused)) if refused else web.Response()

    async def _forget(self, request: web.Request) -> web.Response:
        form = await _form(request)
        await self._service.forget(form.get("peer", []))
        return web.Response()

    async def _weave_expose(self, request: web.Request) -> web.Response:
        skip_nat = request.query.get("skipNAT", "false")
        if skip_nat not in _TRUE + _FALSE:
            return _text_error(400, f"unable to parse skipNAT option: {skip_nat!r} is neither true nor false")
        cidr = f"{request.match_info['ip']}/{request.match_info['length']}"
        try:
            await self._service.expose([cidr], masquerade=skip_nat in _FALSE)
        except PlaitError as error:
            return _text_error(400, f"unable to expose: {error}")
        return web.Response(status=204)

    async def _leave(self, request: web.Request) -> web.Response:
        """Weave hands over address space here; a node without an allocator owns none."""
        return web.Response(status=204)

    # plait's own

    async def _attach(self, request: web.Request) -> web.Response:
        body = await _json_body(request, AttachBody)
        addresses = await self._service.attach(body.container, body.cidrs, body.multicast_route)
        return _json({"addresses": addresses})

    async def _detach(self, request: web.Request) -> web.Response:
        body = await _json_body(request, AttachBody)
        return _json({"addresses": await self._service.detach(body.container, body.cidrs)})

    async def _expose(self, request: web.Request) -> web.Response:
        body = await _json_body(request, ExposeBody)
        return _json({"addresses": await self._service.expose(body.cidrs, body.masquerade)})

    async def _hide(self, request: web.Request) -> web.Response:
        body = await _json_body(request, ExposeBody)
        return _json({"addresses": await self._service.hide(body.cidrs)})

    async def _interfaces(self, request: web.Request) -> web.Response:
        body = await _json_body(request, IdentsBody)
        return _json({"interfaces": msgspec.to_builtins(await self._service.interfaces(body.idents))})

    async def _stop(self, request: web.Request) -> web.Response:
        body = await _json_body(request, StopBody)
        await self._service.stop(body.reset)
        return _json({})


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def explain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give Weave's bodies for unknown paths and methods, and a sentence for everything that went wrong."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return _text_error(404, "404 page not found")
    except web.HTTPMethodNotAllowed as error:
        return web.Response(status=405, headers={"Allow": error.headers.get("Allow", "")})
    except PlaitError as error:
        code = 404 if isinstance(error, NotFound) else 400
        if request.path.startswith("/plait/"):
            return _json({"error": str(error), "exit_code": error.exit_code}, code)
        return _text_error(code, str(error))


async def _form(request: web.Request) -> dict[str, list[str]]:
    """Parameters of the query and, if there is one, of the form body."""
    values: dict[str, list[str]] = {}
    form = await request.post() if request.content_type == "application/x-www-form-urlencoded" else {}
    for key, value in (*request.query.items(), *form.items()):
        if isinstance(value, str):
            values.setdefault(key, []).append(value)
    return values


async def _json_body(request: web.Request, shape: type[_Body]) -> _Body:
    try:
        return msgspec.json.decode(await request.read() or b"{}", type=shape)
    except msgspec.DecodeError as error:
        raise PlaitError(f"the body of {request.path} cannot be read: {error}") from error


def _is_true(values: list[str]) -> bool:
    return bool(values) and values[-1] in _TRUE


def _json(value: dict[str, Any], code: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json", status=code)


def _text_error(code: int, text: str) -> web.Response:
    return web.Response(status=code, text=text.rstrip("\n") + "\n", headers=_NOSNIFF)
