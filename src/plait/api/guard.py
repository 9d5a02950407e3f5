"""Keeps web pages from driving the control API of the machine they are looked at from.

A browser sends `Origin` with what a page of another site asks for, and the page's own name as `Host` (DNS rebinding);
a program that talks to 127.0.0.1:6784 does neither.
"""

from ipaddress import ip_address

from aiohttp import web
from aiohttp.typedefs import Handler


@web.middleware
async def refuse_foreign_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 403 to what looks like a browser's request; who can open a unix socket is no web page."""
    if _came_by_tcp(request):
        if "Origin" in request.headers:
            return _refusal("requests of web pages (with an Origin header) are refused")
        if not is_local_name(request.headers.get("Host", "")):
            return _refusal("the Host header must be an IP address or localhost")
    return await handler(request)


def is_local_name(host: str) -> bool:
    """True for localhost and IP addresses, with or without port; false for names that a web page could have.

    An empty one is true: browsers never leave `Host` out, old programs do.
    """
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
        port = port.removeprefix(":")
    else:
        name, _, port = host.partition(":") if host.count(":") == 1 else (host, "", "")
    if port and not (port.isascii() and port.isdecimal()):
        return False
    try:
        ip_address(name)
    except ValueError:
        return name.lower() in ("localhost", "")
    return True


def _came_by_tcp(request: web.Request) -> bool:
    """A unix socket's peer has no name; a connection that is gone already is treated like a stranger's."""
    return request.transport is None or bool(request.transport.get_extra_info("peername"))


def _refusal(sentence: str) -> web.Response:
    return web.Response(status=403, text=f"{sentence}\n", headers={"X-Content-Type-Options": "nosniff"})
