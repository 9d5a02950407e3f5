"""The handlers for addresses: Weave's routes. All but those of peers are unknown paths while allocation is off."""

import msgspec
from aiohttp import web

from plait.api.form import says, text_error
from plait.api.model import Addresses, NodeService
from plait.errors import NotFound
from plait.ipam.actions import Cancelled, Refused
from plait.ipam.address import Cidr, parse_ip


class AddressRoutes:
    """Handlers bound to a node."""

    def __init__(self, service: NodeService) -> None:
        self._service = service

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.get("/ip", self._owned, allow_head=False),
            web.get("/ip/{id}", self._lookup, allow_head=False),
            web.post("/ip/{id}", self._allocate),
            web.delete("/ip/{id}", self._delete),
            web.delete("/ip/{id}/{ip}", self._free),
            web.get("/ip/{id}/{ip}/{length}", self._lookup, allow_head=False),
            web.post("/ip/{id}/{ip}/{length}", self._allocate),
            web.put("/ip/{id}/{ip}/{length}", self._claim),
            web.get("/ipinfo/defaultsubnet", self._default_subnet),
            web.get("/ipinfo/tracker", self._tracker),
            web.get("/ring", self._prime, allow_head=False),
            web.delete("/peer", self._leave),
            web.delete("/peer/{id}", self._take_over),
        ]

    @property
    def _addresses(self) -> Addresses:
        addresses = self._service.addresses
        if addresses is None:
            raise NotFound("404 page not found")
        return addresses

    async def _owned(self, request: web.Request) -> web.Response:
        owned = [
            {"containerid": ident, "addrs": [str(cidr) for cidr in holding.cidrs]}
            for ident, holding in self._addresses.owned().items()
        ]
        body = msgspec.json.encode({"owned": owned or None}) + b"\n"
        return web.Response(body=body, content_type="application/json")

    async def _lookup(self, request: web.Request) -> web.Response:
        addresses = self._addresses
        found = addresses.lookup(_ident(request), _subnet(request, addresses))
        return web.Response(text=" ".join(map(str, found)))

    async def _allocate(self, request: web.Request) -> web.Response:
        addresses, ident = self._addresses, _ident(request)
        subnet, is_container = _subnet(request, addresses), await says(request, "check-alive")
        try:
            if is_container and not await self._service.is_running(ident):
                raise Cancelled(f"{ident} does not run")
            return web.Response(text=str(await addresses.allocate(ident, subnet, is_container=is_container)))
        except Cancelled:
            return _cancelled()

    async def _claim(self, request: web.Request) -> web.Response:
        addresses, ident, cidr = self._addresses, _ident(request), Cidr.parse(_cidr_text(request))
        is_container, is_patient = await says(request, "check-alive"), await says(request, "noErrorOnUnknown")
        try:
            if is_container and not await self._service.is_running(ident):
                raise Cancelled(f"{ident} does not run")
            await addresses.claim(ident, cidr, is_container=is_container, no_error_on_unknown=is_patient)
        except Cancelled:
            return _cancelled()
        except Refused as error:
            return text_error(400, f"Unable to claim: {error}")
        return web.Response(status=204)

    async def _free(self, request: web.Request) -> web.Response:
        addresses, ident, address = self._addresses, _ident(request), parse_ip(request.match_info["ip"])
        try:
            await addresses.free(ident, address)
        except Refused as error:
            return text_error(400, f"Unable to free: {error}")
        return web.Response(status=204)

    async def _delete(self, request: web.Request) -> web.Response:
        await self._addresses.delete(_ident(request))
        return web.Response(status=204)

    async def _default_subnet(self, request: web.Request) -> web.Response:
        return web.Response(text=str(self._addresses.default_subnet))

    async def _tracker(self, request: web.Request) -> web.Response:
        return web.Response(text=f"{self._addresses.tracker}\n")

    async def _prime(self, request: web.Request) -> web.Response:
        await self._addresses.prime()
        return web.Response()

    async def _leave(self, request: web.Request) -> web.Response:
        """Hand the ranges over; a node without an allocator has none, and that is no failure."""
        if self._service.addresses is not None:
            self._service.addresses.leave()
        return web.Response(status=204)

    async def _take_over(self, request: web.Request) -> web.Response:
        """Take over the ranges of a dead peer; without an allocator nothing can be, and that is no failure."""
        addresses, peer = self._service.addresses, request.match_info["id"]
        if addresses is None:
            return web.Response()
        won = await addresses.takeover(peer, force=await says(request, "force"))
        return web.Response(text=f"{won} IPs taken over from {peer}\n")


def _ident(request: web.Request) -> str:
    """The holder; one with a slash is two parts of a path to Weave, which no route with that method takes."""
    ident = request.match_info["id"]
    if "/" in ident:
        raise web.HTTPMethodNotAllowed(request.method, ())
    return ident


def _cidr_text(request: web.Request) -> str:
    return f"{request.match_info['ip']}/{request.match_info['length']}"


def _subnet(request: web.Request, addresses: Addresses) -> Cidr:
    return Cidr.parse_subnet(_cidr_text(request)) if "ip" in request.match_info else addresses.default_subnet


def _cancelled() -> web.Response:
    return web.Response(text="cancelled")
