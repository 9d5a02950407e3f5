"""Bodies of requests and answers, as both Weave's and plait's routes have them."""

import urllib.parse
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from plait.errors import PlaitError

_Body = TypeVar("_Body")

_NOSNIFF = {"X-Content-Type-Options": "nosniff"}
_FORM = "application/x-www-form-urlencoded"


async def form_of(request: web.Request) -> dict[str, list[str]]:
    """Parameters of the query and, if there is one, of the form body."""
    values: dict[str, list[str]] = {}
    form = (await request.read()).decode(errors="replace") if request.content_type == _FORM else ""
    for key, value in (*urllib.parse.parse_qsl(form, keep_blank_values=True), *request.query.items()):
        values.setdefault(key, []).append(value)
    return values


async def says(request: web.Request, parameter: str) -> bool:
    """Whether a parameter is exactly `true`, which is what Weave takes."""
    return (await form_of(request)).get(parameter, [""])[0] == "true"


async def json_body(request: web.Request, shape: type[_Body]) -> _Body:
    """Read a JSON body. Raises PlaitError."""
    try:
        return msgspec.json.decode(await request.read() or b"{}", type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PlaitError(f"the body of {request.path} is not understood: {error}") from error


def json_answer(value: dict[str, Any], code: int = 200) -> web.Response:
    """Give an answer in JSON."""
    return web.Response(body=msgspec.json.encode(value), content_type="application/json", status=code)


def text_error(code: int, text: str) -> web.Response:
    """Give a failure as one line of text, as Weave does."""
    return web.Response(status=code, text=text.rstrip("\n") + "\n", headers=_NOSNIFF)
