"""Words that are no verbs, and everything that must not end in a traceback."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from plait.cli import main as program
from plait.cli.main import NOT_YET, REMOVED, cli, run
from plait.config import Config
from unit.api.nodes import MemoryNode, directory, serving

PLAIT = (sys.executable, "-m", "plait")
VERBS = [
    *("launch", "daemon", "stop", "reset", "connect", "forget", "attach", "detach", "expose", "hide"),
    *(
        "status",
        "ps",
        "report",
        "trace",
        "doctor",
        "events",
        "version",
        "dns-add",
        "dns-remove",
        "dns-lookup",
        "dns-args",
    ),
    *("prime", "rmpeer", "ipam"),
]


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with directory() as path:
        yield path


def subprocess_of(run_dir: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a shell's line with $plait in it."""
    environment = os.environ | {"PLAIT_RUN_DIR": str(run_dir), "plait": " ".join(PLAIT)}
    return subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_verbs_are_all_there() -> None:
    assert set(cli.commands) == set(VERBS)


@pytest.mark.parametrize(("words", "code"), [(["help"], 0), (["--help"], 0), ([], 1), (["--local", "help"], 0)])
def test_the_usage_goes_to_standard_error(capsys: pytest.CaptureFixture[str], words: list[str], code: int) -> None:
    assert run(words) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert all(f"  {verb} " in captured.err for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_on_standard_error(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert run([verb, "--help"]) == 0
    by_verb = capsys.readouterr()
    assert run(["help", verb]) == 0
    assert capsys.readouterr() == by_verb
    assert by_verb.out == ""
    assert by_verb.err.startswith(f"Usage: plait {verb} ")


@pytest.mark.parametrize("verb", sorted(REMOVED))
def test_removed_verbs_name_the_version_that_removed_them(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert run([verb, "x"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 2
    assert "2.0" in captured.err


@pytest.mark.parametrize("verb", sorted(NOT_YET))
def test_verbs_of_services_that_are_off_say_which(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert run([verb, "x"]) == 1
    captured = capsys.readouterr()
    assert (captured.out, NOT_YET[verb] in captured.err) == ("", True)


def test_an_unknown_word_is_named_before_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dance"]) == 1
    assert capsys.readouterr().err.startswith("Unknown plait command 'dance'\nUsage: plait ")
    assert run(["dance"], "weave") == 1
    assert capsys.readouterr().err.startswith("Unknown weave command 'dance'\nUsage: weave ")


def test_an_unknown_option_prints_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--nope"]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.startswith("Usage: plait status ")) == ("", True)


def test_a_defect_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    @click.command("broken")
    def broken() -> None:
        raise ZeroDivisionError("of its own")

    monkeypatch.setitem(program.cli.commands, "broken", broken)
    assert run(["broken"]) == 1
    captured = capsys.readouterr().err
    assert len(captured.splitlines()) == 1
    assert "ZeroDivisionError: of its own, test_main.py:" in captured
    monkeypatch.setenv("PLAIT_DEBUG", "1")
    assert run(["broken"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["weave", "my-weave"])
def test_called_through_a_link_as_weave_it_is_weave(run_dir: Path, name: str) -> None:
    # The text of the script that pip makes of the entry point.
    script = run_dir / "plait"
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom plait.cli.main import main\nsys.exit(main())\n")
    script.chmod(0o755)
    weave = run_dir / name
    weave.symlink_to("plait")
    ended = subprocess_of(run_dir, f"{weave} help")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr.startswith("Usage: weave ")
    with serving(MemoryNode(), Config(run_dir=run_dir, http_addr="", status_addr="")):
        as_weave, as_plait = (
            subprocess_of(run_dir, f"{weave} --local status"),
            subprocess_of(run_dir, f"{script} status"),
        )
    assert (as_weave.returncode, as_weave.stderr) == (0, "")
    assert as_weave.stdout == as_plait.stdout != ""


def test_a_reader_that_leaves_is_no_trouble(run_dir: Path) -> None:
    with serving(MemoryNode(), Config(run_dir=run_dir, http_addr="", status_addr="")):
        ended = subprocess_of(
            run_dir, "set -o pipefail; $plait report | true; $plait report | head -c 1; $plait ps >&-"
        )
    assert ended.stderr == ""


def test_a_full_disk_is_one_sentence(run_dir: Path) -> None:
    ended = subprocess_of(run_dir, "$plait version > /dev/full")
    assert ended.returncode == 1
    assert "No space left on device" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_bytes_that_are_no_text_are_one_sentence(run_dir: Path) -> None:
    with serving(MemoryNode(), Config(run_dir=run_dir, http_addr="", status_addr="")):
        for line in ("$plait attach 10.2.1.1/24 $'c\\xff'", "$plait status $'\\xff'", "$plait launch --name $'\\xff'"):
            ended = subprocess_of(run_dir, line)
            assert "Traceback" not in ended.stderr
            assert "defect" not in ended.stderr


def test_an_interrupt_ends_with_130_and_no_traceback(run_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(run_dir / "plait.sock"))
        listener.listen()
        # Whoever runs the tests in the background of a shell has them, and what they start, ignore interrupts.
        command = ["env", "--default-signal=INT", *PLAIT, "status", f"--run-dir={run_dir}"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            connection, _ = listener.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                try:
                    out, err = process.communicate(timeout=30)
                finally:
                    process.kill()
    assert (process.returncode, out, err.strip()) == (130, "", "")


@pytest.mark.parametrize("verb", ["status", "version", "ps", "attach --help", "launch --help"])
def test_verbs_do_not_load_what_only_the_node_needs(run_dir: Path, verb: str) -> None:
    ended = subprocess_of(run_dir, f"{sys.executable} -X importtime -m plait {verb}")
    loaded = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines() if line.startswith("import time:")}
    assert "plait.cli.main" in loaded
    assert not loaded & {"asyncio", "aiohttp", "msgspec", "prometheus_client", "pyroute2", "nacl", "plait.node"}
