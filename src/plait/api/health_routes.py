"""The handlers for health and events; all of them only look."""

import math
from collections.abc import Mapping

import msgspec
from aiohttp import web

from plait.api.health import Health
from plait.api.model import NodeService
from plait.errors import UsageError

MAX_WAIT = 60.0
"""Seconds for which a request for events is held back at most."""


class HealthRoutes:
    """Handlers bound to a node."""

    def __init__(self, service: NodeService) -> None:
        self._service = service

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.get("/health", self._health),
            web.get("/ready", self._ready),
            web.get("/plait/events", self._events),
        ]

    async def _health(self, request: web.Request) -> web.Response:
        """503 while the node fails its containers."""
        health = await self._service.health()
        return _answer(health, health.state != "failing")

    async def _ready(self, request: web.Request) -> web.Response:
        health = await self._service.health()
        return _answer(health, health.ready)

    async def _events(self, request: web.Request) -> web.Response:
        """One answer as soon as there is an event: ask again with `after` set to its `Last`."""
        query = request.query
        page = await self._service.events(
            int(_number(query, "after")),
            min(_number(query, "wait"), MAX_WAIT),
            _number(query, "since"),
            query.get("peer", ""),
        )
        return web.Response(body=msgspec.json.encode(page) + b"\n", content_type="application/json")


def _answer(health: Health, is_good: bool) -> web.Response:
    body = msgspec.json.format(msgspec.json.encode(health), indent=4) + b"\n"
    return web.Response(body=body, status=200 if is_good else 503, content_type="application/json")


def _number(query: Mapping[str, str], name: str) -> float:
    text = query.get(name, "0")
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise UsageError(f"{name} is {text!r} and must be a number, 0 or more")
    return value
