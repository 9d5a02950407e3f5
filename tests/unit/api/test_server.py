import http.client
import json
import os
import socket
import stat
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from plait.api.client import Answer, Client
from plait.config import Config
from plait.errors import AddressInUse, ConfigError, PlaitError
from unit.api.nodes import MemoryNode, directory, sample_report, serving

ANYWHERE = "127.0.0.1:0"


@pytest.fixture
def base() -> Iterator[Path]:
    with directory() as path:
        yield path


@pytest.fixture
def node() -> MemoryNode:
    return MemoryNode()


def config(base: Path, **changes: Any) -> Config:
    # Three listeners with port 0 would be one address three times.
    defaults = {"http_addr": "", "status_addr": "", "metrics_addr": "", "run_dir": base / "run"}
    return Config(**{**defaults, **changes})


@pytest.fixture
def client(node: MemoryNode, base: Path) -> Iterator[Client]:
    with serving(node, config(base)):
        yield Client(base / "run")


def tcp(address: str, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read().decode()
    finally:
        connection.close()


def report(client: Client, template: str) -> Answer:
    return client.request("GET", "/report?" + urllib.parse.urlencode({"format": template}))


def post(client: Client, path: str, body: bytes) -> Answer:
    return client.request("POST", path, body, {"Content-Type": "application/json"})


# Listeners


def test_the_socket_is_roots_alone_and_leaves_with_the_node(node: MemoryNode, base: Path) -> None:
    path = base / "run" / "plait.sock"
    with serving(node, config(base)) as addresses:
        assert addresses == [str(path)]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


def test_the_mode_of_the_socket_does_not_depend_on_the_umask(node: MemoryNode, base: Path) -> None:
    before = os.umask(0)
    try:
        with serving(node, config(base)):
            assert stat.S_IMODE((base / "run" / "plait.sock").stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_socket_that_nobody_listens_at_is_replaced(node: MemoryNode, base: Path) -> None:
    (base / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(base / "run" / "plait.sock"))
    with serving(node, config(base)):
        assert Client(base / "run").report()["Ready"] is True


def test_a_running_node_keeps_its_socket(node: MemoryNode, base: Path) -> None:
    with serving(node, config(base)):
        with (
            pytest.raises(AddressInUse, match=r"plait\.sock.*another node may use this path"),
            serving(MemoryNode(sample_report("node3")), config(base)),
        ):
            pass
        assert Client(base / "run").report()["Router"]["NickName"] == "node2"


def test_a_file_that_is_no_socket_is_not_removed(node: MemoryNode, base: Path) -> None:
    precious = base / "precious"
    precious.write_text("data")
    with pytest.raises(AddressInUse, match="--status-addr"), serving(node, config(base, status_addr=str(precious))):
        pass
    assert precious.read_text() == "data"


def test_a_taken_port_is_named_with_who_to_look_for(node: MemoryNode, base: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(
                AddressInUse, match=rf"127.0.0.1:{port} .*Address already in use.*sport = :{port}.*--http-addr"
            ),
            serving(node, config(base, http_addr=f"127.0.0.1:{port}")),
        ):
            pass
    assert not (base / "run" / "plait.sock").exists()


def test_an_address_of_another_host_is_a_wrong_configuration(node: MemoryNode, base: Path) -> None:
    with pytest.raises(ConfigError, match="no such address"), serving(node, config(base, metrics_addr="192.0.2.1:9")):
        pass


def test_a_run_directory_that_cannot_be_made_is_named(node: MemoryNode, base: Path) -> None:
    (base / "file").write_text("")
    with pytest.raises(PlaitError, match="--run-dir"), serving(node, config(base, run_dir=base / "file" / "run")):
        pass


def test_each_listener_has_its_own_routes(node: MemoryNode, base: Path) -> None:
    with serving(node, config(base, status_addr=ANYWHERE)) as (_, status):
        assert tcp(status, "GET", "/status")[0] == 200
        assert tcp(status, "GET", "/report", Accept="application/json")[0] == 200
        assert tcp(status, "GET", "/metrics")[0] == 200
        assert tcp(status, "POST", "/connect")[0] == 404
        assert tcp(status, "POST", "/plait/stop")[0] == 404
    with serving(node, config(base, metrics_addr=ANYWHERE)) as (_, metrics):
        assert tcp(metrics, "GET", "/metrics")[0] == 200
        assert tcp(metrics, "GET", "/status")[0] == 404
    assert node.stopped == []


# Web pages


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Host": "evil.example:6784"},
        {"Host": "localhost.evil.example"},
        {"Host": "127.0.0.1.evil.example:6784"},
        {"Host": "[::1].evil.example"},
        {"Host": "127.0.0.1:evil"},
    ],
)
def test_web_pages_cannot_drive_the_node(node: MemoryNode, base: Path, headers: dict[str, str]) -> None:
    with serving(node, config(base, http_addr=ANYWHERE)) as (_, control):
        code, answered, body = tcp(control, "POST", "/plait/stop", **headers)
    assert (code, node.stopped) == (403, [])
    assert answered["X-Content-Type-Options"] == "nosniff"
    assert body.endswith("\n")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:6784", "127.0.0.1:6784", "[::1]:6784", "10.0.0.1", ""])
def test_programs_on_loopback_can(node: MemoryNode, base: Path, host: str) -> None:
    with serving(node, config(base, http_addr=ANYWHERE)) as (_, control):
        assert tcp(control, "POST", "/connect?peer=10.0.0.9", Host=host)[0] == 200
    assert node.targets[-1] == "10.0.0.9"


def test_a_scraper_may_know_the_host_by_name(node: MemoryNode, base: Path) -> None:
    with serving(node, config(base, status_addr=ANYWHERE)) as (_, status):
        assert tcp(status, "GET", "/metrics", Host="node1.example:6782")[0] == 200


# Weave's routes


def test_pages_come_with_503_until_the_node_is_ready(client: Client, node: MemoryNode) -> None:
    ready = client.request("GET", "/status")
    node.now = replace(node.now, ready=False)
    assert client.request("GET", "/status") == Answer(503, ready.body)
    assert client.request("GET", "/status/peers").status == 503
    assert client.request("GET", "/report", headers={"Accept": "application/json"}).status == 200


def test_the_json_report_is_indented_and_complete(client: Client) -> None:
    text = client.report_text()
    assert text.startswith('{\n    "Ready": true,\n    "Version"')
    assert set(json.loads(text)) == {"Ready", "Version", "VersionCheck", "Router", "Plait"}
    assert text.endswith("}")


def test_any_other_accept_header_asks_for_a_template(client: Client) -> None:
    answer = client.request("GET", "/report", headers={"Accept": "application/json, text/plain"})
    assert answer == Answer(400, "error: must supply one format parameter\n")


def test_templates_see_the_report(client: Client) -> None:
    assert report(client, "{{.Router.Name}} {{len .Router.Peers}} {{.IPAM}} {{json .DNS}}") == Answer(
        200, "02:00:00:00:01:02 3 <nil> null"
    )


def test_a_template_that_fails_says_where_in_a_header(client: Client) -> None:
    answer = report(client, "{{.Nope}}")
    assert (answer.status, answer.body) == (500, "error during template execution\n")
    assert answer.detail.startswith("template: format:1:")
    assert "Nope" in answer.detail


def test_a_template_that_fails_late_keeps_its_output(client: Client) -> None:
    answer = report(client, "so far{{.Nope}}")
    assert (answer.status, answer.body) == (200, "so farerror during template execution\n")
    assert "Nope" in answer.detail


def test_connect_takes_the_good_peers_and_names_each_bad_one(client: Client, node: MemoryNode) -> None:
    client.form("/connect", [("peer", "10.0.0.5"), ("replace", "true")])
    assert node.targets == ["10.0.0.5"]
    answer = client.request("POST", "/connect?peer=bad1&peer=10.0.0.6&peer=bad2")
    assert answer == Answer(400, "lookup bad1: no such host\nlookup bad2: no such host\n")
    assert node.targets == ["10.0.0.5", "10.0.0.6"]


def test_forget_is_content_with_strangers(client: Client, node: MemoryNode) -> None:
    client.form("/forget", [("peer", "192.0.2.1"), ("peer", "stranger")])
    assert node.targets == ["192.0.2.99", "192.0.2.2"]


@pytest.mark.parametrize(("query", "masquerade"), [("", True), ("?skipNAT=false", True), ("?skipNAT=t", False)])
def test_expose_adds_the_address(client: Client, node: MemoryNode, query: str, masquerade: bool) -> None:
    assert client.request("POST", f"/expose/10.2.1.1/24{query}") == Answer(204, "")
    assert (node.exposed, node.masquerade) == (["10.2.1.1/24"], masquerade)


def test_a_bad_skip_nat_exposes_nothing(client: Client, node: MemoryNode) -> None:
    answer = client.request("POST", "/expose/10.2.1.1/24?skipNAT=maybe")
    assert answer.status == 400
    assert answer.body.startswith("unable to parse skipNAT option: ")
    assert node.exposed == []


@pytest.mark.parametrize("path", ["10.2.1.300/24", "10.2.1.1/33", "10.2.1.1/255.0.0.0", "x/y"])
def test_a_bad_address_exposes_nothing(client: Client, node: MemoryNode, path: str) -> None:
    answer = client.request("POST", f"/expose/{path}")
    assert answer == Answer(400, f"unable to parse ip addr: invalid CIDR address: {path}\n")
    assert node.exposed == []


def test_an_address_that_cannot_be_exposed_is_500(client: Client) -> None:
    answer = client.request("POST", "/expose/10.66.0.1/8")
    assert answer.status == 500
    assert answer.body.startswith("unable to expose: 10.66.0.1/8 overlaps")


def test_a_form_of_strange_bytes_is_read_all_the_same(client: Client, node: MemoryNode) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=klingon"}
    assert client.request("POST", "/connect", b"peer=\xff%fe&peer=10.0.0.7&&=", headers).status == 200
    assert node.targets[-1] == "10.0.0.7"


# plait's own


def test_attach_and_detach(client: Client, node: MemoryNode) -> None:
    answer = client.call("attach", container="c1", cidrs=["10.2.1.1/24", "fd00::1/64"], multicast_route=False)
    assert answer == {"addresses": ["10.2.1.1", "fd00::1"]}
    assert node.multicast_route is False
    assert client.call("detach", container="c1", cidrs=["10.2.1.1/24"]) == {"addresses": ["10.2.1.1"]}
    assert node.containers == {"c1": ["fd00::1/64"]}


def test_expose_hide_and_interfaces(client: Client, node: MemoryNode) -> None:
    assert client.call("expose", cidrs=["10.2.1.9/24"], masquerade=False) == {"addresses": ["10.2.1.9"]}
    assert node.masquerade is False
    assert client.call("interfaces", idents=["weave:expose"]) == {
        "interfaces": [{"ident": "weave:expose", "mac": "7a:00:00:00:00:01", "cidrs": ["10.2.1.9/24"]}]
    }
    assert client.call("hide") == {"addresses": ["10.2.1.9"]}


def test_stop(client: Client, node: MemoryNode) -> None:
    assert client.call("stop", reset=True) == {}
    assert client.call("stop") == {}
    assert node.stopped == [True, False]


def test_an_error_comes_with_its_exit_code(client: Client) -> None:
    client.call("attach", container="c1", cidrs=["10.2.1.1/24"])
    answer = post(client, "/plait/attach", b'{"container": "c2", "cidrs": ["10.2.1.1/24"]}')
    assert (answer.status, json.loads(answer.body)) == (
        400,
        {"error": "10.2.1.1/24 is held by c1; choose another", "exit_code": 9},
    )
    with pytest.raises(PlaitError, match="not attached") as caught:
        client.call("detach", container="c9")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/plait/attach", b""),
        ("/plait/attach", b"not json"),
        ("/plait/attach", b"[]"),
        ("/plait/attach", b'{"container": 5, "cidrs": []}'),
        ("/plait/attach", b'{"container": "c", "cidrs": ["\xff"]}'),
        ("/plait/expose", b'{"cidrs": "10.2.1.1/24"}'),
        ("/plait/hide", b'{"cidr": ["10.2.1.1/24"]}'),
        ("/plait/stop", b'{"reset": "yes"}'),
    ],
)
def test_a_bad_body_changes_nothing(client: Client, node: MemoryNode, path: str, body: bytes) -> None:
    answer = post(client, path, body)
    assert answer.status == 400
    assert json.loads(answer.body)["error"].startswith(f"the body of {path} is not understood")
    assert (node.containers, node.exposed, node.stopped) == ({}, [], [])


def test_a_body_that_is_too_long_is_refused(client: Client) -> None:
    answer = post(client, "/plait/attach", b" " * (2 * 1024 * 1024))
    assert answer.status == 413


def test_an_unknown_route_of_our_own_is_answered_in_json(client: Client) -> None:
    with pytest.raises(PlaitError) as caught:
        client.call("dance")
    assert caught.value.exit_code == 4


def test_a_defect_is_logged_and_answered(client: Client, node: MemoryNode, caplog: pytest.LogCaptureFixture) -> None:
    node.defect = RuntimeError("boom")
    answer = client.request("GET", "/status")
    assert answer.status == 500
    assert "defect" in answer.body
    assert "boom" not in answer.body
    assert "boom" in caplog.text


@pytest.mark.parametrize(
    "request_line", [b"dance", b"GET /status HTTP/9.9", b"GET /status HTTP/1.1\r\nnonsense", b"GET /" + b"x" * 20000]
)
def test_strangers_cannot_fill_the_log(
    node: MemoryNode, base: Path, caplog: pytest.LogCaptureFixture, request_line: bytes
) -> None:
    with serving(node, config(base, status_addr=ANYWHERE)) as (_, status):
        host, port = status.split(":")
        with socket.create_connection((host, int(port)), timeout=10) as stranger:
            stranger.sendall(request_line + b"\r\n\r\n")
            assert b" 400 " in stranger.recv(65536).partition(b"\r\n")[0]
    assert caplog.text == ""
