"""launch, daemon, stop and reset with processes that stand in for the node's."""

import json
import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

import plait.daemon
import plait.startup
from plait.cli import lifecycle
from plait.cli.main import run
from plait.cli.verb import ALREADY_OFF, NOT_YET
from plait.config import Config
from plait.mesh.name import PeerName
from unit.api.nodes import directory

# The child of `launch` outlives it on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")

NAME = "02:00:00:00:01:02"  # of every node in memory
BAD_FLAG = {"launch": 1, "daemon": 125}
FAKE = Path(__file__).with_name("fake_node.py")


class Host:
    """A place where nodes are launched."""

    def __init__(self, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.run_dir = base / "run"
        self.state_dir = base / "state"
        self.log = self.state_dir / "plait.log"
        self._capsys = capsys

    @property
    def pid(self) -> int:
        return int((self.run_dir / "plait.pid").read_text())

    @property
    def words(self) -> list[str]:
        """The words after `daemon` that the node was started with."""
        words = Path("/proc", str(self.pid), "cmdline").read_text().rstrip("\0").split("\0")
        return words[words.index("daemon") + 1 :]

    def plait(self, *words: str) -> tuple[int, str, str]:
        code = run(list(words))
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Host]:
    with directory() as base:
        python = base / "python"
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(FAKE))} "$@"\n')
        python.chmod(0o755)
        here = Host(base, capsys)
        monkeypatch.setattr(sys, "executable", str(python))
        monkeypatch.setenv("PYTHONPATH", str(FAKE.parents[2]))
        monkeypatch.setenv("PLAIT_RUN_DIR", str(here.run_dir))
        monkeypatch.setenv("PLAIT_STATE_DIR", str(here.state_dir))
        monkeypatch.delenv("WEAVE_PASSWORD", raising=False)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(lifecycle, "STOP_PATIENCE", 0.5)
        yield here
        if (here.run_dir / "plait.pid").exists():
            os.kill(here.pid, signal.SIGKILL)


@pytest.fixture
def resets(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Every reset of the host that was done by the command itself."""
    done: list[Config] = []

    def reset_host(config: Config) -> list[str]:
        done.append(config)
        return ["the link x could not be removed: remove it yourself"]

    monkeypatch.setattr(plait.startup, "reset_host", reset_host)
    return done


def is_alive(pid: int) -> bool:
    return not lifecycle._has_ended(pid)


# launch


def test_launch_waits_and_prints_the_nodes_name(host: Host) -> None:
    assert host.plait("launch") == (0, f"{NAME}\n", "")
    assert is_alive(host.pid)
    assert os.getsid(host.pid) == host.pid
    assert Path("/proc", str(host.pid), "cwd").readlink() == Path("/")


def test_launch_in_json(host: Host) -> None:
    code, out, err = host.plait("launch", "--json")
    assert (code, json.loads(out), err) == (0, {"name": NAME, "pid": host.pid}, "")
    assert "--json" not in host.words


def test_a_second_launch_ends_with_3(host: Host) -> None:
    host.plait("launch")
    assert host.plait("launch") == (3, "", "plait is already running; you can stop it with 'plait stop'.\n")


def test_what_a_killed_node_still_has_open_is_no_node(host: Host) -> None:
    host.run_dir.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(host.run_dir / "plait.sock"))
        listener.listen()

        def die() -> None:
            for _ in range(3):
                listener.accept()[0].close()
            listener.close()

        dying = threading.Thread(target=die)
        dying.start()
        assert host.plait("launch") == (0, f"{NAME}\n", "")
        dying.join()


def test_the_node_gets_what_was_said_and_nothing_else(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAVE_MTU", "1400")
    host.plait("launch", "--port=7000", "--no-discovery", "--http-addr=", "--nickname", "n 1", "a", "b:6783")
    assert sorted(host.words[:-3]) == [
        "--http-addr=",
        "--mtu=1400",
        "--nickname=n 1",
        "--no-discovery",
        "--port=7000",
        f"--run-dir={host.run_dir}",
        f"--state-dir={host.state_dir}",
    ]
    assert host.words[-3:] == ["--", "a", "b:6783"]


@pytest.mark.parametrize("way", ["flag", "file", "variable"])
def test_the_password_is_in_no_process_list(host: Host, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    host.state_dir.mkdir()
    file = host.state_dir / "password"
    file.write_text("s3cret\nsecond line")
    if way == "variable":
        monkeypatch.setenv("WEAVE_PASSWORD", "s3cret")
    words = {"flag": ["--password=s3cret"], "file": ["--password-file", str(file)], "variable": []}[way]
    assert host.plait("launch", *words)[0] == 0
    assert not [word for word in host.words if "s3cret" in word or "password" in word]
    assert b"WEAVE_PASSWORD=s3cret" in (host.run_dir / "environ").read_bytes().split(b"\0")


def test_without_a_password_the_node_gets_none(host: Host) -> None:
    host.plait("launch")
    assert b"WEAVE_PASSWORD" not in (host.run_dir / "environ").read_bytes()


def test_relative_directories_mean_those_of_the_caller(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(host.run_dir.parent)
    assert host.plait("launch", "--run-dir=run", "--state-dir=state")[0] == 0
    assert f"--run-dir={host.run_dir}" in host.words


def test_a_node_that_dies_leaves_its_sentence_and_its_code(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODE", "die")
    host.state_dir.mkdir()
    host.log.write_text("2025-01-01 00:00:00,000 ERROR plait: of another time\n")
    assert host.plait("launch") == (6, "", "port 6783 is taken: stop the other one\n")
    assert "another time" in host.log.read_text()


def test_a_node_that_refuses_its_configuration_ends_launch_with_1(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODE", "refuse")
    assert host.plait("launch") == (1, "", "192.0.2.1 is no address of this host\n")


def test_a_node_with_a_defect_points_to_its_log(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODE", "defect")
    assert host.plait("launch") == (1, "", f"the node ends because of a defect (in {host.log})\n")


def test_a_node_that_is_killed_says_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODE", "silent")
    assert host.plait("launch") == (1, "", f"the node ended without a word: see {host.log}\n")


def test_a_node_that_is_not_ready_in_time_goes_on(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODE", "hang")
    monkeypatch.setattr(lifecycle, "LAUNCH_PATIENCE", 1.0)
    code, out, err = host.plait("launch")
    assert (code, out) == (1, "")
    assert f"(pid {host.pid}) runs but is not ready" in err
    assert host.plait("launch")[0] == 3
    assert host.plait("stop") == (0, "", "")


def test_a_long_log_is_put_aside(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "MAX_LOG_BYTES", 4)
    host.state_dir.mkdir()
    host.log.write_text("12345")
    host.plait("launch")
    assert Path(f"{host.log}.1").read_text() == "12345"
    assert " INFO plait: launching: plait daemon " in host.log.read_text()


def test_a_log_that_cannot_be_written_is_named(host: Host) -> None:
    host.state_dir.write_text("a file")
    code, _, err = host.plait("launch")
    assert (code, "--state-dir" in err) == (10, True)


def test_launch_needs_root(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, _, err = host.plait("launch")
    assert (code, "sudo" in err) == (5, True)


@pytest.mark.parametrize("verb", ["launch", "daemon"])
@pytest.mark.parametrize("flag", [*(flag for flag in NOT_YET if flag not in ALREADY_OFF), "-H"])
def test_flags_of_what_is_not_there_are_refused(host: Host, verb: str, flag: str) -> None:
    for words in ([flag], [f"{flag}=x"], ["peer", flag, "x"]):
        code, out, err = host.plait(verb, *words)
        assert (code, out) == (BAD_FLAG[verb], "")
        assert err.startswith(f"{flag} is about ") or err.startswith("-H=x is about ")
        assert "this version of plait does not have" in err


@pytest.mark.parametrize("verb", ["launch", "daemon"])
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--nope"], "Usage: plait "),
        (["--port=x"], "Usage: plait "),
        (["--mtu=5"], "--mtu"),
        (["--name=x"], "--name"),
        (["--trusted-subnets=x"], "--trusted-subnets"),
        (["--password="], "password is empty"),
        (["--password=x", "--password-file=y"], "leave one out"),
        (["--password-file=/nowhere"], "--password-file /nowhere"),
        (["--password-file=/dev/null"], "no password in its first line"),
        (["--resume", "a"], "--resume"),
        (["a:b:c"], "a:b:c"),
    ],
)
def test_bad_flags_end_with_weaves_code_and_no_node(host: Host, verb: str, words: list[str], says: str) -> None:
    code, out, err = host.plait(verb, *words)
    assert (code, out) == (BAD_FLAG[verb], "")
    assert says in err
    assert not host.log.exists()


def test_a_password_of_odd_bytes_is_kept_and_a_nul_refused(host: Host) -> None:
    host.state_dir.mkdir()
    file = host.state_dir / "password"
    file.write_bytes(b"\xff\xfe")
    assert host.plait("launch", f"--password-file={file}")[0] == 0
    assert b"WEAVE_PASSWORD=\xff\xfe" in (host.run_dir / "environ").read_bytes().split(b"\0")
    host.plait("stop")
    file.write_bytes(b"a\0b")
    assert host.plait("launch", f"--password-file={file}")[0] == 1


# daemon


def test_daemon_is_the_node_with_this_configuration(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Config] = []

    def node(config: Config) -> int:
        seen.append(config)
        return 42

    monkeypatch.setattr(plait.daemon, "run", node)
    monkeypatch.setenv("WEAVE_PASSWORD", "s3cret")
    monkeypatch.setenv("WEAVE_PORT", "7000")
    monkeypatch.setenv("WEAVE_HTTP_ADDR", "127.0.0.1:7001")
    monkeypatch.setenv("WEAVE_STATUS_ADDR", "127.0.0.1:7002")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:2375")
    flags = [
        "--host=0.0.0.0",
        "--name=::1",
        "--weave-bridge=b",
        "--conn-limit=5",
        "--log-level=debug",
        "--status-addr=",
    ]
    assert host.plait("daemon", *flags, "--trusted-subnets=10.0.0.0/8", "--no-discovery", "a") == (42, "", "")
    assert seen == [
        Config(
            name=PeerName(1),
            port=7000,
            password=b"s3cret",
            conn_limit=5,
            discovery=False,
            trusted_subnets=(ip_network("10.0.0.0/8"),),
            bridge="b",
            http_addr="127.0.0.1:7001",
            status_addr="",
            docker_api="tcp://127.0.0.1:2375",
            peers=("a",),
            state_dir=host.state_dir,
            run_dir=host.run_dir,
            log_level="debug",
        )
    ]
    assert seen[0].password == b"s3cret"


def test_what_is_not_said_is_configs_default(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Config] = []
    monkeypatch.setattr(plait.daemon, "run", seen.append)
    for name in ("PORT", "MTU", "HTTP_ADDR", "STATUS_ADDR", "METRICS_ADDR"):
        monkeypatch.delenv(f"WEAVE_{name}", raising=False)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert host.plait("daemon")[0] == 0
    assert seen == [Config(state_dir=host.state_dir, run_dir=host.run_dir)]


# stop


def test_stop_waits_until_the_node_has_ended(host: Host) -> None:
    host.plait("launch")
    pid = host.pid
    assert host.plait("stop") == (0, "", "")
    assert not is_alive(pid)


def test_stop_of_nothing_is_no_failure(host: Host) -> None:
    code, out, err = host.plait("stop")
    assert (code, out) == (0, "")
    assert "not running" in err


def test_stop_ends_a_node_whose_socket_is_gone(host: Host) -> None:
    host.plait("launch")
    pid = host.pid
    (host.run_dir / "plait.sock").unlink()
    assert host.plait("stop") == (0, "", "")
    assert not is_alive(pid)


def test_stop_tells_of_a_node_that_does_not_end(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODE", "deaf")
    host.plait("launch")
    code, out, err = host.plait("stop")
    assert (code, out) == (1, "")
    assert f"'kill -9 {host.pid}'" in err


@pytest.mark.parametrize("content", [f"{os.getpid()}\n", "1", "0", "-1", "", "x", "999999999999999999999"])
def test_a_pid_file_that_names_no_node_kills_nobody(host: Host, resets: list[Config], content: str) -> None:
    host.run_dir.mkdir()
    (host.run_dir / "plait.pid").write_text(content)
    assert host.plait("stop")[0] == 0
    assert host.plait("reset", "--force")[0] == 0
    assert not (host.run_dir / "plait.pid").exists()


# reset


def test_reset_is_the_running_nodes_business(host: Host, resets: list[Config]) -> None:
    host.plait("launch")
    pid = host.pid
    assert host.plait("reset") == (0, "", "")
    assert not is_alive(pid)
    assert resets == []
    assert not host.log.exists()


def test_reset_tells_what_the_node_could_not_remove(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODE", "trouble")
    host.plait("launch")
    assert host.plait("reset") == (0, "", "x could not be removed: remove it yourself\n")
    assert host.log.exists()


def test_reset_without_a_node_removes_what_is_left_and_names_what_cannot_be(host: Host, resets: list[Config]) -> None:
    assert host.plait("reset", "--weave-bridge=b") == (0, "", "the link x could not be removed: remove it yourself\n")
    assert resets == [Config(bridge="b", run_dir=host.run_dir, state_dir=host.state_dir)]


def test_reset_kills_a_node_that_hangs_only_by_force(
    host: Host, resets: list[Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_NODE", "hang")
    monkeypatch.setattr(lifecycle, "LAUNCH_PATIENCE", 1.0)
    host.plait("launch")
    pid = host.pid
    code, _, err = host.plait("reset")
    assert (code, "--force" in err, resets) == (1, True, [])
    assert is_alive(pid)
    assert host.plait("reset", "--force")[0] == 0
    assert not is_alive(pid)
    assert len(resets) == 1
