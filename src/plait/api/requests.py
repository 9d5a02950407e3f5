"""Counts the requests that the API answered."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from aiohttp.typedefs import Middleware

Requests = Mapping[tuple[str, str, str], int]
"""Pattern of the route, method and status -> how many. All three have few values: others count as UNKNOWN."""

UNKNOWN = "unknown"


class RequestCounter:
    """Of all listeners of one node."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()

    def middleware(self) -> Middleware:
        """Give what is to go around everything else; requests whose client went before the answer do not count."""

        @web.middleware
        async def count(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                self._note(request, error.status)
                raise
            self._note(request, response.status)
            return response

        return count

    def _note(self, request: web.Request, status: int) -> None:
        resource = request.match_info.route.resource
        route, method = (UNKNOWN, UNKNOWN) if resource is None else (resource.canonical, request.method)
        self.counts[route, method, str(status)] += 1
