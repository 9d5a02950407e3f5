from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from plait.config import SLEEVE_LOOPS, Config, parse_subnets, split_listen_address
from plait.errors import ConfigError
from plait.mesh.name import PeerName
from plait.overlay.sleeve.pump.tools import LOOPS
from plait.overlay.switch import OVERLAYS


def test_the_defaults_are_weaves() -> None:
    config = Config(nickname="n")
    assert (config.port, config.conn_limit, config.discovery, config.bridge) == (6783, 200, True, "weave")
    assert (config.http_addr, config.status_addr, config.metrics_addr) == ("127.0.0.1:6784", "127.0.0.1:6782", "")
    assert config.socket_path == Path("/run/plait/plait.sock")


def test_the_kernel_is_offered_first_then_plaits_own_format() -> None:
    config = Config(nickname="n")
    assert (config.overlays, config.sleeve_loop) == (("fastdp", "plait1", "sleeve"), "auto")
    assert config.overlays == OVERLAYS
    assert SLEEVE_LOOPS == LOOPS


def test_the_nickname_is_the_hosts_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Config().nickname


@pytest.mark.parametrize(
    "good",
    [
        {"port": 65534},
        {"mtu": 576},
        {"mtu": 65535},
        {"conn_limit": 0},
        {"host": "10.0.0.1"},
        {"host": "fd00::1"},
        {"name": PeerName.parse("::1")},
        {"http_addr": ""},
        {"http_addr": ":6784"},
        {"http_addr": "[::1]:6784"},
        {"http_addr": "localhost:6784"},
        {"http_addr": "/run/control.sock"},
        {"peers": ("a", "b:6783", "10.0.0.1", "[fd00::1]:6783")},
        {"resume": True},
        {"nickname": "Knoten mit Ümlaut"},
        {"overlays": ("sleeve",)},
        {"overlays": ("plait1",)},
        {"overlays": ("sleeve", "plait1")},
        {"sleeve_loop": "python"},
        {"sleeve_loop": "compiled"},
    ],
)
def test_good_values_are_taken(good: dict[str, Any]) -> None:
    Config(**good)


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"port": 0}, "--port"),
        ({"port": 65535}, "--port"),
        ({"conn_limit": -1}, "--conn-limit"),
        ({"mtu": 575}, "--mtu"),
        ({"mtu": 65536}, "--mtu"),
        ({"mtu": -1}, "--mtu"),
        ({"bridge": ""}, "--weave-bridge"),
        ({"bridge": "a-very-long-name"}, "--weave-bridge"),
        ({"bridge": "a/b"}, "--weave-bridge"),
        ({"bridge": "a b"}, "--weave-bridge"),
        ({"bridge": ".."}, "--weave-bridge"),
        ({"nickname": ""}, "--nickname"),
        ({"nickname": "a\nb"}, "--nickname"),
        ({"nickname": "n" * 300}, "--nickname"),
        ({"log_level": "loud"}, "--log-level"),
        ({"host": "host1"}, "--host"),
        ({"host": "[::1]"}, "--host"),
        ({"name": PeerName(0)}, "--name"),
        ({"name": PeerName.parse("01:00:00:00:00:01")}, "--name"),
        ({"password": b""}, "password"),
        ({"resume": True, "peers": ("a",)}, "--resume"),
        ({"http_addr": "6784"}, "--http-addr"),
        ({"status_addr": "host1:6782"}, "--status-addr"),
        ({"metrics_addr": "127.0.0.1:65536"}, "--metrics-addr"),
        ({"metrics_addr": "127.0.0.1:" + "9" * 5000}, "--metrics-addr"),
        ({"metrics_addr": "127.0.0.1:²"}, "--metrics-addr"),
        ({"http_addr": "run/relative.sock"}, "--http-addr"),
        ({"http_addr": "/" + "x" * 120}, "--http-addr"),
        ({"status_addr": "127.0.0.1:6784"}, "--status-addr 127.0.0.1:6784 is also --http-addr"),
        ({"metrics_addr": "/run/plait/plait.sock"}, "own socket"),
        ({"run_dir": Path("/" + "x" * 120)}, "--run-dir"),
        ({"overlays": ()}, "--overlays"),
        ({"overlays": ("",)}, "--overlays"),
        ({"overlays": ("awsvpc", "sleeve")}, "--overlays 'awsvpc,sleeve'"),
        ({"overlays": ("sleeve", "sleeve")}, "--overlays"),
        ({"sleeve_loop": "fast"}, "--sleeve-loop 'fast'"),
        ({"peers": ("a:b:c",)}, "a:b:c"),
        ({"peers": ("",)}, "peer"),
        ({"peers": ("host:70000",)}, "host:70000"),
    ],
)
def test_bad_values_are_refused_with_what_set_them(bad: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        Config(**bad)
    assert caught.value.exit_code == 125
    assert "\n" not in str(caught.value)


def test_the_password_is_not_shown() -> None:
    assert "secret" not in repr(Config(password=b"secret"))


def test_subnets_are_a_list_with_commas() -> None:
    assert parse_subnets("10.0.0.0/8, 192.168.1.7/24,fd00::/8,") == (
        ip_network("10.0.0.0/8"),
        ip_network("192.168.1.0/24"),
        ip_network("fd00::/8"),
    )
    assert parse_subnets("") == ()


@pytest.mark.parametrize("text", ["10.0.0.0/33", "host1", "10.0.0.0/8;10.0.0.1"])
def test_a_bad_subnet_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="--trusted-subnets"):
        parse_subnets(text)


def test_addresses_are_trusted_by_subnet() -> None:
    config = Config(trusted_subnets=parse_subnets("10.0.0.0/8,fd00::/8"))
    assert config.trusts("10.1.2.3")
    assert config.trusts("fd12::1")
    assert not config.trusts("192.0.2.1")
    assert not config.trusts("fe80::1")


@pytest.mark.parametrize(
    ("text", "parts"), [("127.0.0.1:1", ("127.0.0.1", 1)), ("[::1]:2", ("::1", 2)), (":3", ("", 3))]
)
def test_listen_addresses_are_split(text: str, parts: tuple[str, int]) -> None:
    assert split_listen_address(text) == parts
