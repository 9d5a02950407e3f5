"""Keeps web pages from driving the control API of the machine they are looked at from.

A browser sends `Origin` with what a page of another site asks for, and the page's own name as `Host` (DNS rebinding);
a program that talks to 127.0.0.1:6784 does neither.
"""

from ipaddress import ip_address

from aiohttp import web
from aiohttp.typedefs import Handler


@web.middleware
async def refuse_foreign_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 403 to what looks like a browser's request for another site; unix sockets are the caller's own."""
    if request.transport is not None and request.transport.get_extra_info("peername"):
        if "Origin" in request.headers:
            return _refusal("requests of web pages (with an Origin header) are refused")
        if not is_local_name(request.headers.get("Host", "")):
            return _refusal("the Host header must be an IP address or localhost")
    return await handler(request)


def is_local_name(host: str) -> bool:
    """True for localhost and IP addresses, with or without port; false for names a page could have."""
    name = host.rpartition(":")[0] if host.count(":") == 1 else host
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    try:
        ip_address(name)
    except ValueError:
        return name in ("localhost", "")
    return True


def _refusal(sentence: str) -> web.Response:
    return web.Response(status=403, text=f"{sentence}\n", headers={"X-Content-Type-Options": "nosniff"})
