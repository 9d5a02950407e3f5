"""The Docker client against a real HTTP server on a unix socket that answers like an engine."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from plait.attach.runtime import NoSuchContainer, RuntimeContainer, RuntimeUnavailable
from plait.docker.client import DockerClient
from plait.docker.facts import docker_facts
from plait.doctor import facts
from plait.errors import UsageError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ENGINE = {
    "f00d": {
        "Id": "f00d",
        "Name": "/web",
        "State": {"Running": True, "Pid": 42},
        "HostConfig": {"NetworkMode": "none"},
    },
    "beef": {
        "Id": "beef",
        "Name": "/old",
        "State": {"Running": False, "Pid": 0},
        "HostConfig": {"NetworkMode": "host"},
    },
}


async def inspect(request: web.Request) -> web.Response:
    word = request.match_info["word"]
    for ident, container in ENGINE.items():
        if word in (ident, str(container["Name"]).removeprefix("/")):
            return web.json_response({**container, "Mounts": [], "Unknown": None})
    return web.json_response({"message": f"No such container: {word}"}, status=404)


async def listed(_: web.Request) -> web.Response:
    return web.json_response([{"Id": "f00d", "Names": ["/web"]}, {"Id": "beef"}, {"Id": "gone"}])


async def unknown(_: web.Request) -> web.Response:
    return web.Response(status=404)


async def with_engine(
    socket: Path,
    body: Callable[[DockerClient], Awaitable[None]],
    look: Handler = inspect,
    everything: Handler = listed,
    version: Handler = unknown,
) -> None:
    app = web.Application()
    app.router.add_get("/version", version)
    app.router.add_get("/containers/json", everything)
    app.router.add_get("/containers/{word}/json", look)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(socket)).start()
        await body(DockerClient(f"unix://{socket}"))
    finally:
        await runner.cleanup()


def run(
    tmp_path: Path,
    body: Callable[[DockerClient], Awaitable[None]],
    look: Handler = inspect,
    everything: Handler = listed,
) -> None:
    asyncio.run(with_engine(tmp_path / "sock", body, look, everything))


@pytest.mark.parametrize(
    ("config", "fqdn"),
    [
        ({"Hostname": "web.weave.local", "Domainname": ""}, "web.weave.local"),
        ({"Hostname": "web", "Domainname": "weave.local"}, "web.weave.local"),
        ({"Hostname": "f00d"}, ""),
        ({}, ""),
    ],
)
def test_inspect_tells_the_whole_host_name(tmp_path: Path, config: dict[str, str], fqdn: str) -> None:
    async def look(_: web.Request) -> web.Response:
        return web.json_response({**ENGINE["f00d"], "Config": config})

    async def body(client: DockerClient) -> None:
        assert (await client.inspect("web")).fqdn == fqdn

    run(tmp_path, body, look)


def test_inspect_finds_by_name_and_id(tmp_path: Path) -> None:
    async def body(client: DockerClient) -> None:
        web_container = RuntimeContainer("f00d", "web", 42, True, "none")
        assert await client.inspect("web") == web_container
        assert await client.inspect("f00d") == web_container
        assert await client.inspect("old") == RuntimeContainer("beef", "old", 0, False, "host")

    run(tmp_path, body)


def test_an_unknown_container_gets_weaves_sentence(tmp_path: Path) -> None:
    async def body(client: DockerClient) -> None:
        with pytest.raises(
            NoSuchContainer, match=r"^unable to inspect container x/y: No such container: x/y$"
        ) as caught:
            await client.inspect("x/y")
        assert caught.value.exit_code == 1

    run(tmp_path, body)


def test_running_leaves_out_those_that_ended_meanwhile(tmp_path: Path) -> None:
    async def body(client: DockerClient) -> None:
        assert await client.running() == [RuntimeContainer("f00d", "web", 42, True, "none")]

    run(tmp_path, body)


def test_names_of_containers_that_do_not_run_too(tmp_path: Path) -> None:
    asked = []

    async def everything(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        return web.json_response([{"Id": "f00d", "Names": ["/weave"]}, {"Id": "beef", "Names": ["/weavedb", "/a/b"]}])

    async def body(client: DockerClient) -> None:
        assert await client.names_with("weave") == ["weave", "weavedb", "a/b"]

    run(tmp_path, body, everything=everything)
    assert asked == [{"all": "1", "filters": '{"name": ["weave"]}'}]


def test_what_doctor_wants_to_know(tmp_path: Path) -> None:
    """The version, and Weave's containers but not those of others that have its name in theirs."""

    async def everything(request: web.Request) -> web.Response:
        assert json.loads(request.query["filters"]) == {"name": ["weave"]}
        return web.json_response([{"Id": "1", "Names": ["/weavedb"]}, {"Id": "2", "Names": ["/my-weave", "/weaver"]}])

    async def version(_: web.Request) -> web.Response:
        return web.json_response({"Version": "28.2.2", "ApiVersion": "1.50"})

    is_over = asyncio.Event()

    async def never(_: web.Request) -> web.Response:
        await is_over.wait()
        return web.Response(status=503)

    async def body(client: DockerClient) -> None:
        known = await asyncio.to_thread(docker_facts, client.address)
        assert known == facts.Docker(version="28.2.2", weave=["weavedb"])

    async def hangs(client: DockerClient) -> None:
        known = await asyncio.to_thread(docker_facts, client.address, 0.05)
        is_over.set()
        assert known is not None
        assert known.error.startswith("no answer from the Docker engine at unix://")

    async def runs(answer: Handler, check: Callable[[DockerClient], Awaitable[None]], name: str) -> None:
        await with_engine(tmp_path / name, check, everything=everything, version=answer)

    asyncio.run(runs(version, body, "sock"))
    asyncio.run(runs(never, hangs, "slow"))
    assert docker_facts(f"unix://{tmp_path}/nothing") is None
    (tmp_path / "stale").touch()
    refused = docker_facts(f"unix://{tmp_path}/stale")
    assert refused is not None
    assert "start Docker" in refused.error


def test_no_engine_is_explained(tmp_path: Path) -> None:
    async def body() -> None:
        for address in (f"unix://{tmp_path}/nothing", f"{tmp_path}/nothing", "tcp://127.0.0.1:1"):
            with pytest.raises(RuntimeUnavailable, match=f"engine at {address}.*start Docker"):
                await DockerClient(address).inspect("web")

    asyncio.run(body())


@pytest.mark.parametrize(
    ("status", "text", "says"),
    [
        (500, '{"message": "driver failed"}', "500: driver failed"),
        (500, "", "500: nothing"),
        (302, "elsewhere", "302: elsewhere"),
        (200, "{}", "not understood"),
        (200, "[1, 2", "not understood"),
        (200, '{"Id": 7, "Name": "x"}', "not understood"),
        (200, '{"Id": "7", "Name": "x", "State": {"Running": "yes", "Pid": 0}, "HostConfig": {}}', "not understood"),
    ],
)
def test_a_strange_answer_is_explained(tmp_path: Path, status: int, text: str, says: str) -> None:
    async def strange(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    async def body(client: DockerClient) -> None:
        with pytest.raises(RuntimeUnavailable, match=says):
            await client.inspect("web")

    run(tmp_path, body, look=strange)


def test_a_list_that_is_missing_is_explained(tmp_path: Path) -> None:
    async def missing(_: web.Request) -> web.Response:
        return web.json_response({"message": "page not found"}, status=404)

    async def body(client: DockerClient) -> None:
        with pytest.raises(RuntimeUnavailable, match="404: page not found"):
            await client.running()

    run(tmp_path, body, everything=missing)


@pytest.mark.parametrize(
    "address", ["", "docker.sock", "unix://relative", "tcp://", "tcp://h/path", "http://h:1", "npipe:///x"]
)
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="no address of a Docker engine"):
        DockerClient(address)
