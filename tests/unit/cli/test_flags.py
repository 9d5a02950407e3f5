"""Weave's forms of flags: one dash or two, switches with a value."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import plait.daemon
from plait.cli.main import run
from plait.config import Config
from plait.ipam.address import Cidr
from plait.ipam.initial import Initial


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Config]:
    """What the nodes were given that `daemon` was to be."""
    given_configs: list[Config] = []
    for name in ("WEAVE_PORT", "WEAVE_MTU", "WEAVE_HTTP_ADDR", "WEAVE_STATUS_ADDR", "WEAVE_METRICS_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WEAVE_PASSWORD", "DOCKER_HOST", "PLAIT_STATE_DIR", "PLAIT_RUN_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(plait.daemon, "run", given_configs.append)
    return given_configs


@pytest.mark.parametrize(
    ("words", "means"),
    [
        (["-port", "7000"], {"port": 7000}),
        (["-port=7000", "--mtu=1400"], {"port": 7000, "mtu": 1400}),
        (["--port", "7000", "-port", "7001"], {"port": 7001}),
        (["-no-discovery"], {"discovery": False}),
        (["--no-discovery=true", "host1"], {"discovery": False, "peers": ("host1",)}),
        (["--no-discovery=false", "host1"], {"peers": ("host1",)}),
        (["-resume=T"], {"resume": True}),
        (["--resume=0", "host1", "--conn-limit", "0", "host2"], {"conn_limit": 0, "peers": ("host1", "host2")}),
        (["-nickname", "-port"], {"nickname": "-port"}),
        (["--nickname=--resume=true"], {"nickname": "--resume=true"}),
        (["--password", "--proxy"], {"password": b"--proxy"}),
        (["--password", "--"], {"password": b"--"}),
        (["--port=7000", "--", "host1"], {"port": 7000, "peers": ("host1",)}),
        (["--http-addr="], {"http_addr": ""}),
    ],
)
def test_forms_of_weave_are_understood(configs: list[Config], words: list[str], means: dict[str, Any]) -> None:
    assert run(["daemon", *words]) == 0
    assert configs == [Config(**means)]
    assert configs[0].password == means.get("password")


@pytest.mark.parametrize(
    "words", [["--resume=maybe"], ["-no-discovery=x"], ["-nope"], ["-p", "1"], ["-port"], ["--port="]]
)
def test_other_forms_print_the_usage(
    configs: list[Config], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["daemon", *words]) == 125
    assert capsys.readouterr().err.startswith("Usage: plait daemon ")
    assert configs == []


@pytest.mark.parametrize("words", [["-expect-npc"], ["host1", "-plugin=true"], ["-Hunix:///a"]])
def test_flags_of_absent_services_are_known_with_one_dash_too(
    configs: list[Config], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["daemon", *words]) == 125
    assert "which this version of plait does not have" in capsys.readouterr().err
    assert configs == []


@pytest.mark.parametrize("word", ["--help", "-help"])
def test_help_has_both_forms(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["launch", word]) == 0
    assert capsys.readouterr().err.startswith("Usage: plait launch ")


@given(password=st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1), joined=st.booleans())
def test_a_password_is_taken_as_it_is(password: str, joined: bool) -> None:
    given_configs: list[Config] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plait.daemon, "run", given_configs.append)
        assert run(["daemon", *([f"--password={password}"] if joined else ["--password", password])]) == 0
    assert [config.password for config in given_configs] == [password.encode()]


@pytest.mark.parametrize(
    "words",
    [
        ["--no-bridged-fastdp"],
        ["-no-fastdp"],
        ["--no-bridged-fastdp=true"],
        ["--proxy=false", "--plugin=false"],
        ["--no-default-ipalloc"],
    ],
)
def test_switches_that_turn_off_what_is_not_there_are_honoured(configs: list[Config], words: list[str]) -> None:
    assert run(["daemon", *words, "--port", "7000", "host1"]) == 0
    assert [(config.port, config.peers) for config in configs] == [(7000, ("host1",))]


@pytest.mark.parametrize("words", [["--proxy=true"], ["--plugin"]])
def test_switches_that_ask_for_what_is_not_there_are_refused(configs: list[Config], words: list[str]) -> None:
    assert run(["daemon", *words]) == 125
    assert configs == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], Config()),
        (["--ipalloc-range", ""], Config(ipalloc_range=None)),
        (["--iprange="], Config(ipalloc_range=None)),
        (["-ipalloc-range", "10.2.0.0/16"], Config(ipalloc_range=Cidr.parse("10.2.0.0/16"))),
        (["--ipalloc-init=consensus=3"], Config(ipalloc_init=Initial(3))),
        (["--ipalloc-init", "observer"], Config(ipalloc_init=Initial(is_observer=True))),
        (["--ipalloc-default-subnet", "10.40.0.0/16"], Config(ipalloc_default_subnet=Cidr.parse("10.40.0.0/16"))),
    ],
)
def test_the_range_and_how_it_is_first_divided(configs: list[Config], words: list[str], expected: Config) -> None:
    assert run(["daemon", *words]) == 0
    [config] = configs
    found = (config.ipalloc_range, config.ipalloc_init, config.ipalloc_default_subnet)
    assert found == (expected.ipalloc_range, expected.ipalloc_init, expected.ipalloc_default_subnet)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--ipalloc-range", "10.32.0.1/12"], "bits after network prefix are not all zero: 10.32.0.1/12"),
        (["--ipalloc-range", "10.32.0.0/31"], "smaller than minimum size 4: 10.32.0.0/31"),
        (["--ipalloc-range", "fe80::/64"], "invalid Non-IPv4 address not supported: fe80::/64"),
        (["--ipalloc-range", "0.0.0.0/0"], "smaller than minimum size 4: 0.0.0.0/0"),
        (["--ipalloc-range=", "--ipalloc-init", "observer"], "--ipalloc-init specified without --ipalloc-range."),
        (["--ipalloc-range=", "--ipalloc-default-subnet", "10.0.0.0/24"], "specified without --ipalloc-range."),
        (
            ["--ipalloc-default-subnet", "10.0.0.0/24"],
            "10.0.0.0/24 does not overlap with allocation range 10.32.0.0/12",
        ),
        (["--ipalloc-init", "raft"], "Unable to parse --ipalloc-init: unknown mode: raft"),
        (["--ipalloc-range", "224.0.0.0/3"], "ends with the last of all addresses"),
    ],
)
def test_ranges_that_cannot_be_are_refused(
    configs: list[Config], words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["daemon", *words]) == 125
    assert sentence in capsys.readouterr().err
    assert configs == []
