from pathlib import Path

import click
import pytest

import plait.daemon
from plait.cli.main import run
from plait.config import Config
from plait.dns.settings import Settings, parse_duration, parse_listen
from plait.errors import ConfigError


def settings(*words: str) -> Settings | None:
    given: list[Config] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plait.daemon, "run", given.append)
        assert run(["daemon", *words]) == 0
    return given[0].dns


def test_defaults_are_weaves() -> None:
    assert settings() == Settings("weave.local.", 1, None, Path("/etc/resolv.conf"), 5.0)


def test_flags_say_how_names_are_treated() -> None:
    words = "--dns-domain corp.local --dns-ttl=30 --dns-listen-address 10.0.0.1:5353 --resolv-conf= "
    assert settings(*words.split(), "--dns-fallback-timeout", "1500ms") == Settings(
        "corp.local", 30, ("10.0.0.1", 5353), None, 1.5
    )
    assert settings("--dns-listen-address", "") == settings("--no-dns=false") == Settings()


@pytest.mark.parametrize("word", ["--no-dns", "-no-dns", "--no-dns=true"])
def test_names_can_be_off(word: str) -> None:
    assert settings(word) is None


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--dns-domain", "a b"], "--dns-domain: 'a b' is no host name"),
        (["--dns-ttl", "-1"], "--dns-ttl -1 is not between"),
        (["--dns-ttl", "x"], "--dns-ttl"),
        (["--dns-listen-address", "172.17.0.1"], "is not of the form IP:PORT"),
        (["--dns-listen-address", "host:53"], "is not of the form IP:PORT"),
        (["--dns-listen-address", ":53"], "is not of the form IP:PORT"),
        (["--dns-listen-address", "1.2.3.4:0"], "is not of the form IP:PORT"),
        (["--dns-fallback-timeout", "5"], "write one like 5s"),
        (["--dns-fallback-timeout", "0s"], "more than nothing"),
    ],
)
def test_values_that_cannot_be_are_refused(words: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["daemon", *words]) == 125
    assert reason in capsys.readouterr().err


def test_addresses_and_durations() -> None:
    assert parse_listen("[fd00::1]:53") == ("fd00::1", 53)
    assert parse_duration("1m30s") == 90.0
    assert parse_duration("1.5s") == 1.5
    assert parse_duration("2h") == 7200.0
    assert parse_duration(".5s500ms") == 1.0
    for text in ("", "s", "5d", "-5s", "5 s", "5s ", "1..5s"):
        with pytest.raises(ConfigError, match="no duration"):
            parse_duration(text)


def test_every_flag_about_names_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["launch", "--help"]) == 0
    text = click.unstyle(capsys.readouterr().err)
    for flag in ("--no-dns", "--dns-domain", "--dns-listen-address", "--dns-ttl", "--dns-fallback-timeout"):
        assert flag in text
