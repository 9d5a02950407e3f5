"""The handlers of the HTTP API: Weave's routes for what exists, and plait's own under /plait/ (POST, JSON both ways).

A failure under /plait/ is `{"error": sentence, "exit_code": number}`, elsewhere one line of text as Weave's.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from ipaddress import ip_interface

import msgspec
from aiohttp import web

from plait.api import metrics, remarks, status
from plait.api.addresses import AddressRoutes
from plait.api.client import DETAIL_HEADER, EXIT_CODE_HEADER
from plait.api.form import form_of, json_answer, json_body, text_error
from plait.api.health_routes import HealthRoutes
from plait.api.model import NodeService, Report
from plait.api.names import NameRoutes
from plait.api.requests import RequestCounter
from plait.api.template import Template, TemplateError, execute, parse
from plait.errors import NotFound, PlaitError

_log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# What Go's strconv.ParseBool takes.
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
# Which the CLI concludes from the status alone.
_WEAVES_EXIT_CODES = (PlaitError.exit_code, NotFound.exit_code)
_EXECUTION_FAILED = "error during template execution"


class AttachBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of /plait/attach, `cidrs` as of NodeService.attach.

    The answer is `{"addresses": [...]}` without prefix lengths.
    """

    container: str
    cidrs: list[str]
    multicast_route: bool = True
    without_dns: bool = False


class DetachBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of /plait/detach: no CIDRs mean all; the answer is that of attach, with those that were there."""

    container: str
    cidrs: list[str] = []


class ExposeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of /plait/expose; answer as that of attach."""

    cidrs: list[str]
    masquerade: bool = True


class HideBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of /plait/hide: no CIDRs mean all; answer as that of detach."""

    cidrs: list[str] = []


class IdentsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of /plait/interfaces; the answer is `{"interfaces": [{"ident", "mac", "cidrs"}, ...]}`."""

    idents: list[str]


class CheckBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of /plait/ipam-check; the answer is `{"findings": [{"what", "cure"}, ...]}`."""

    everywhere: bool = False


class ReclaimBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of /plait/ipam-reclaim; the answer is `{"peers": [{"peer", "addresses", "reclaimed", "what"}, ...]}`."""

    peers: list[str] = []
    dry_run: bool = False
    force: bool = False


class TraceBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of /plait/trace; the answer is a trace_model.Trace."""

    source: str
    destination: str


class DoctorBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of /plait/doctor; the answer is `{"findings": [...], "checks": number}`, as the verb prints them."""

    peer: str


class StopBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of /plait/stop; the answer is `{}` and comes before the node ends."""

    reset: bool = False


class Routes:
    """Handlers bound to a node."""

    def __init__(self, service: NodeService) -> None:
        self._service = service
        self.requests = RequestCounter()

    def read_only(self) -> list[web.RouteDef]:
        """Routes of the status listener."""
        return [
            web.get("/status", self._status),
            web.get("/status/{sub}", self._status_sub),
            web.get("/report", self._report),
            *HealthRoutes(self._service).routes(),
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
            web.post("/plait/attach", self._attach),
            web.post("/plait/detach", self._detach),
            web.post("/plait/expose", self._expose),
            web.post("/plait/hide", self._hide),
            web.post("/plait/interfaces", self._interfaces),
            web.post("/plait/trace", self._trace),
            web.post("/plait/ipam-check", self._check_addresses),
            web.post("/plait/ipam-reclaim", self._reclaim),
            web.post("/plait/doctor", self._doctor),
            web.post("/plait/stop", self._stop),
            *NameRoutes(self._service).routes(),
            *AddressRoutes(self._service).routes(),
        ]

    # Weave's routes

    async def _status(self, request: web.Request) -> web.Response:
        return _page(await self._service.report(), status.summary)

    async def _status_sub(self, request: web.Request) -> web.Response:
        sub = request.match_info["sub"]
        if sub not in status.SUBS:
            raise web.HTTPNotFound
        report = await self._service.report()
        # Weave's pages of services that are off fail rather than being absent.
        if (sub == "dns" and not report.dns) or (sub == "ipam" and not report.ipam):
            return text_error(500, _EXECUTION_FAILED)
        return _page(report, status.SUBS[sub])

    async def _report(self, request: web.Request) -> web.Response:
        """JSON if exactly that is accepted, else Weave's templates: one `format` parameter."""
        if request.headers.get("Accept") == "application/json":
            body = msgspec.json.format(msgspec.json.encode(await self._service.report()), indent=4)
            return web.Response(body=body, content_type="application/json")
        formats = request.query.getall("format", [])
        if len(formats) != 1:
            return text_error(400, "error: must supply one format parameter")
        try:
            template = parse(formats[0])
        except TemplateError as error:
            return text_error(400, str(error))
        # In a thread, as a template can keep a processor busy for a while; the report is plain data.
        return await asyncio.to_thread(_executed, template, await self._service.report())

    async def _metrics(self, request: web.Request) -> web.Response:
        body = metrics.render(await self._service.report(), self.requests.counts)
        return web.Response(body=body, headers={"Content-Type": metrics.CONTENT_TYPE})

    async def _connect(self, request: web.Request) -> web.Response:
        form = await form_of(request)
        refused = await self._service.connect(form.get("peer", []), _is_true(form.get("replace", [])))
        return text_error(400, "\n".join(refused)) if refused else web.Response()

    async def _forget(self, request: web.Request) -> web.Response:
        form = await form_of(request)
        await self._service.forget(form.get("peer", []))
        return web.Response()

    async def _weave_expose(self, request: web.Request) -> web.Response:
        cidr = f"{request.match_info['ip']}/{request.match_info['length']}"
        if not _is_cidr(cidr):
            return text_error(400, f"unable to parse ip addr: invalid CIDR address: {cidr}")
        skip_nat = (await form_of(request)).get("skipNAT", [""])[0]
        if skip_nat and skip_nat not in _TRUE + _FALSE:
            return text_error(400, f"unable to parse skipNAT option: {skip_nat!r} is neither true nor false")
        try:
            await self._service.expose([cidr], masquerade=skip_nat not in _TRUE)
        except PlaitError as error:
            return text_error(500, f"unable to expose: {error}")
        return web.Response(status=204)

    # plait's own

    async def _attach(self, request: web.Request) -> web.Response:
        body = await json_body(request, AttachBody)
        addresses = await self._service.attach(body.container, body.cidrs, body.multicast_route)
        if not body.without_dns:
            await self._service.name_container(body.container, addresses)
        return json_answer({"addresses": addresses})

    async def _detach(self, request: web.Request) -> web.Response:
        body = await json_body(request, DetachBody)
        return json_answer({"addresses": await self._service.detach(body.container, body.cidrs)})

    async def _expose(self, request: web.Request) -> web.Response:
        body = await json_body(request, ExposeBody)
        return json_answer({"addresses": await self._service.expose(body.cidrs, body.masquerade)})

    async def _hide(self, request: web.Request) -> web.Response:
        body = await json_body(request, HideBody)
        return json_answer({"addresses": await self._service.hide(body.cidrs)})

    async def _interfaces(self, request: web.Request) -> web.Response:
        body = await json_body(request, IdentsBody)
        return json_answer({"interfaces": msgspec.to_builtins(await self._service.interfaces(body.idents))})

    async def _check_addresses(self, request: web.Request) -> web.Response:
        body = await json_body(request, CheckBody)
        return json_answer({"findings": msgspec.to_builtins(await self._service.check_addresses(body.everywhere))})

    async def _reclaim(self, request: web.Request) -> web.Response:
        body = await json_body(request, ReclaimBody)
        results = await self._service.reclaim(body.peers, body.dry_run, body.force)
        return json_answer({"peers": msgspec.to_builtins(results)})

    async def _trace(self, request: web.Request) -> web.Response:
        body = await json_body(request, TraceBody)
        return json_answer(msgspec.to_builtins(await self._service.trace(body.source, body.destination)))

    async def _doctor(self, request: web.Request) -> web.Response:
        body = await json_body(request, DoctorBody)
        return json_answer(msgspec.to_builtins(await self._service.doctor(body.peer)))

    async def _stop(self, request: web.Request) -> web.Response:
        body = await json_body(request, StopBody)
        await self._service.stop(body.reset)
        return json_answer({})


@web.middleware
async def add_remarks(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Carry the warnings that come up while a request is served; it goes around `explain_errors`."""
    with remarks.heard() as said:
        response = await handler(request)
    if said:
        response.headers[remarks.HEADER] = remarks.encode(said)
    return response


@web.middleware
async def explain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give Weave's bodies for unknown paths and methods, and a sentence for everything that went wrong."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return _failure(request, NotFound("404 page not found"), 404)
    except web.HTTPMethodNotAllowed as error:
        return web.Response(status=405, headers={"Allow": error.headers.get("Allow", "")})
    except web.HTTPException as error:
        return _failure(request, PlaitError(error.reason), error.status)
    except PlaitError as error:
        return _failure(request, error, 404 if isinstance(error, NotFound) else 400)
    except Exception:
        _log.exception("a request (%s %s) met a defect; please report it with this", request.method, request.path)
        return _failure(request, PlaitError("the node met a defect of its own: its log says more"), 500)


async def speak_like_weave(request: web.Request, response: web.StreamResponse) -> None:
    """Leave out headers that say nothing: the type of an empty body, and who serves (for `on_response_prepare`)."""
    response.headers.popall("Server", None)
    if isinstance(response, web.Response) and not response.body:
        response.headers.popall("Content-Type", None)


def _page(report: Report, render: Callable[[Report], str]) -> web.Response:
    return web.Response(text=render(report), status=200 if report.ready else 503)


def _executed(template: Template, report: Report) -> web.Response:
    """What a template makes of a report. A failure after some output is added to it, as its status is out already."""
    output, failure = execute(template, msgspec.to_builtins(report))
    if failure is None:
        return web.Response(text=output)
    response = web.Response(text=f"{output}{_EXECUTION_FAILED}\n") if output else text_error(500, _EXECUTION_FAILED)
    response.headers[DETAIL_HEADER] = " ".join(failure.split())
    return response


def _is_cidr(text: str) -> bool:
    address, _, length = text.partition("/")
    try:
        ip_interface(text)
    except ValueError:
        return False
    return bool(address) and length.isascii() and length.isdecimal()


def _is_true(values: list[str]) -> bool:
    return bool(values) and values[0] in _TRUE


def _failure(request: web.Request, error: PlaitError, code: int) -> web.Response:
    if request.path.startswith("/plait/"):
        return json_answer({"error": str(error), "exit_code": error.exit_code}, code)
    response = text_error(code, str(error))
    if error.exit_code not in _WEAVES_EXIT_CODES:
        response.headers[EXIT_CODE_HEADER] = str(error.exit_code)
    return response
