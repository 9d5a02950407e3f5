"""The handlers for names: Weave's routes and plait's `/plait/dns-lookup`. All are unknown paths while names are off."""

from ipaddress import AddressValueError, IPv4Address

import msgspec
from aiohttp import web

from plait.api.form import form_of, json_answer, json_body, says, text_error
from plait.api.model import Names, NodeService
from plait.dns.names import absolute, is_in
from plait.errors import NotFound


class LookupBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of /plait/dns-lookup; the answer is `{"addresses": [...], "names": [...]}`.

    `name` is a host name (one without a dot is meant to be in the domain) or an IPv4 address.
    """

    name: str


class ContainerBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of /plait/dns-add: addresses of a container get the name that it brings; the answer is `{}`."""

    container: str
    addresses: list[str]


class NameRoutes:
    """Handlers bound to a node."""

    def __init__(self, service: NodeService) -> None:
        self._service = service

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.get("/name", self._dump),
            web.put("/name/{container}/{ip}", self._add),
            web.delete("/name/{container}/{ip}", self._remove),
            web.delete("/name/{container}", self._remove),
            web.delete("/name", self._remove),
            web.get("/domain", self._domain),
            web.get("/dns-address", self._address),
            web.get("/dns-address-port", self._address_port),
            web.post("/plait/dns-lookup", self._lookup),
            web.post("/plait/dns-add", self._name_container),
        ]

    @property
    def _names(self) -> Names:
        names = self._service.names
        if names is None:
            raise NotFound("404 page not found")
        return names

    async def _dump(self, request: web.Request) -> web.Response:
        names = self._names
        if request.headers.get("Accept") != "application/json":
            raise web.HTTPMethodNotAllowed(request.method, ())
        entries = [
            {
                "ContainerID": entry.container_id,
                "Origin": int(entry.origin.replace(":", ""), 16),
                "Addr": entry.address,
                "Hostname": entry.hostname,
                "Version": entry.version,
                "Tombstone": entry.tombstone,
            }
            for entry in names.report().entries or []
        ]
        return web.Response(text=f"{msgspec.json.encode(entries or None).decode()}\n")

    async def _add(self, request: web.Request) -> web.Response:
        """Add a name; one outside of the domain is passed over, as Weave does. Raises BadName.

        With `check-alive` that of a container that does not run is deleted at once.
        """
        names = self._names
        address = _parse(request.match_info["ip"])
        if address is None:
            return _bad_address(request)
        fqdn = (await form_of(request)).get("fqdn", [""])[0]
        container = request.match_info["container"]
        if fqdn:
            names.add(container, address, fqdn)
            if await says(request, "check-alive") and not await self._service.is_running(container):
                names.remove(container, address, fqdn)
        return web.Response(status=204)

    async def _remove(self, request: web.Request) -> web.Response:
        names = self._names
        address = None
        if "ip" in request.match_info:
            address = _parse(request.match_info["ip"])
            if address is None:
                return _bad_address(request)
        names.remove(request.match_info.get("container"), address, request.query.get("fqdn") or None)
        return web.Response(status=204)

    async def _name_container(self, request: web.Request) -> web.Response:
        _ = self._names
        body = await json_body(request, ContainerBody)
        await self._service.name_container(body.container, body.addresses)
        return json_answer({})

    async def _domain(self, request: web.Request) -> web.Response:
        return web.Response(text=self._names.domain)

    async def _address(self, request: web.Request) -> web.Response:
        found = self._names.address
        return web.Response(text=found[0] if found is not None else "")

    async def _address_port(self, request: web.Request) -> web.Response:
        found = self._names.address
        return web.Response(text=f"{found[0]}:{found[1]}" if found is not None else "")

    async def _lookup(self, request: web.Request) -> web.Response:
        names = self._service.names
        if names is None:
            raise NotFound("this node has no names: it was launched with --no-dns; launch it again without")
        name = (await json_body(request, LookupBody)).name
        address = _parse(name)
        if address is not None:
            hostname = names.reverse(address)
            return json_answer({"addresses": [], "names": [] if hostname is None else [hostname]})
        name = absolute(name)
        if name.count(".") == 1 and not is_in(name, names.domain):
            name += names.domain
        return json_answer({"addresses": [str(IPv4Address(each)) for each in names.lookup(name)], "names": []})


def _parse(text: str) -> int | None:
    try:
        return int(IPv4Address(text))
    except AddressValueError:
        return None


def _bad_address(request: web.Request) -> web.Response:
    return text_error(400, f"invalid IP Address: {request.match_info['ip']}")
