"""`launch`, `daemon`, `stop`, `reset`: the life of the node on this host."""

import errno
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import click

from plait.api.client import Client
from plait.cli.options import make_config, node_options, run_dir_option, state_dir_option
from plait.errors import AlreadyRunning, NodeUnreachable, PermissionNeeded, PlaitError, StateError

LOG_NAME = "plait.log"
PID_NAME = "plait.pid"
# A node starts in well under a second; a host that swaps may need far longer.
LAUNCH_PATIENCE = 30.0
# Docker's grace for a container, which is what Weave's stop gave.
STOP_PATIENCE = 10.0
_POLL_INTERVAL = 0.02


@click.command()
@node_options
@click.argument("peers", nargs=-1)
@click.pass_context
def launch(ctx: click.Context, /, **options: Any) -> None:
    """Start the node of this host and call PEERS (HOST or HOST:PORT); without any, those of the last time."""
    config = make_config(options)
    if os.geteuid() != 0:
        raise PermissionNeeded("plait must be run as root: it makes network links; use sudo")
    client = Client(config.run_dir)
    if _is_running(client):
        raise AlreadyRunning("plait is already running; you can stop it with 'plait stop'.")
    log = config.state_dir / LOG_NAME
    began_at, process = _start(log, list(_daemon_words(ctx)), config.password)
    _wait_until_ready(client, process, log, began_at)
    report = client.report()
    for problem in report["Plait"]["Problems"]:
        cure = f"; cure: {problem['Cure']}" if problem["Cure"] else ""
        click.echo(f"warning: {problem['What']}{cure}", err=True)
    click.echo(report["Router"]["Name"])


@click.command()
@node_options
@click.argument("peers", nargs=-1)
def daemon(**options: Any) -> int:
    """Be the node, in the foreground, with the log on standard error: for systemd and containers."""
    from plait.node import run

    return run(make_config(options))


@click.command()
@run_dir_option
def stop(run_dir: Path) -> None:
    """Stop the node; interfaces, addresses and what is kept on disk stay."""
    pid = _pid(run_dir)
    try:
        Client(run_dir).call("stop", reset=False)
    except NodeUnreachable as error:
        if pid is None:
            click.echo(str(error), err=True)
            return
        os.kill(pid, signal.SIGTERM)
    if pid is not None:
        _wait_until_gone(pid)


@click.command()
@click.option("--force", is_flag=True, help="Also when the node does not answer: kill it.")
@click.option("--weave-bridge", default="weave", help="Name of the bridge (weave).")
@run_dir_option
@state_dir_option
def reset(force: bool, weave_bridge: str, run_dir: Path, state_dir: Path) -> None:
    """Stop the node and remove every link, rule and file that it made, its name in the mesh too."""
    pid = _pid(run_dir)
    try:
        Client(run_dir).call("stop", reset=True)
    except NodeUnreachable as error:
        if pid is not None and not force:
            raise PlaitError(f"the node (pid {pid}) does not answer: {error}; use 'plait reset --force'") from error
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            _wait_until_gone(pid)
        _reset_here(weave_bridge, run_dir, state_dir)
        return
    if pid is not None:
        _wait_until_gone(pid)


VERBS = (launch, daemon, stop, reset)


def _reset_here(bridge: str, run_dir: Path, state_dir: Path) -> None:
    from plait.config import Config
    from plait.startup import reset_host

    for trouble in reset_host(Config(bridge=bridge, run_dir=run_dir, state_dir=state_dir)):
        click.echo(trouble, err=True)
    (run_dir / PID_NAME).unlink(missing_ok=True)


def _is_running(client: Client) -> bool:
    try:
        client.request("GET", "/status")
    except NodeUnreachable:
        return False
    return True


def _daemon_words(ctx: click.Context) -> Iterator[str]:
    """The words of `plait daemon` that mean what was said to `plait launch`; the password is none of them."""
    for parameter in ctx.command.params:
        value = ctx.params[str(parameter.name)]
        if not isinstance(parameter, click.Option) or parameter.name == "password" or value is None:
            continue
        if parameter.is_flag:
            yield from [parameter.opts[0]] if value else []
        else:
            yield f"{parameter.opts[0]}={value}"
    yield from ("--", *ctx.params["peers"])


def _start(log: Path, words: list[str], password: bytes | None) -> tuple[int, "subprocess.Popen[bytes]"]:
    """Start the daemon on its own; gives where its part of the log begins. The password goes by the environment."""
    environment = dict(os.environb)
    environment.pop(b"WEAVE_PASSWORD", None)
    if password is not None:
        environment[b"WEAVE_PASSWORD"] = password
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with log.open("ab", buffering=0) as output:
            _write_first_line(output, words)
            began_at = output.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", "plait", "daemon", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=environment,
            )
            return began_at, process
    except OSError as error:
        raise StateError(
            f"cannot write the log {log} ({error.strerror}): free the disk or choose another --state-dir"
        ) from error


def _write_first_line(log: FileIO, words: list[str]) -> None:
    """Begin a node's part of the log; also shows, before the node needs it, whether the disk takes another line."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S,000")
    line = f"{stamp} INFO plait: launching: plait daemon {shlex.join(words)}\n".encode(errors="surrogateescape")
    if log.write(line) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _wait_until_ready(client: Client, process: "subprocess.Popen[bytes]", log: Path, began_at: int) -> None:
    deadline = time.monotonic() + LAUNCH_PATIENCE
    while time.monotonic() < deadline:
        code = process.poll()
        if code is not None:
            error = PlaitError(_last_words(log, began_at))
            error.exit_code = code if code > 0 else 1
            raise error
        try:
            if client.request("GET", "/status").status == 200:
                return
        except NodeUnreachable:
            pass  # not yet
        time.sleep(_POLL_INTERVAL)
    raise PlaitError(f"the node (pid {process.pid}) runs but is not ready after {LAUNCH_PATIENCE:.0f} s: see {log}")


def _last_words(log: Path, began_at: int) -> str:
    """The sentence with which a node ended, from its log."""
    try:
        text = log.read_bytes()[began_at:].decode(errors="replace")
    except OSError:
        text = ""
    errors = [line.partition(": ")[2] for line in text.splitlines() if " ERROR " in line or " CRITICAL " in line]
    lines = [line for line in text.splitlines() if line]
    return (errors or lines or [f"the node ended without a word: see {log}"])[-1]


def _pid(run_dir: Path) -> int | None:
    """The process of the node, if the pid file names one that is ours."""
    try:
        pid = int((run_dir / PID_NAME).read_text())
        command = Path("/proc", str(pid), "cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"plait" in command else None


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + STOP_PATIENCE
    while Path("/proc", str(pid)).exists() and not _is_zombie(pid):
        if time.monotonic() > deadline:
            raise PlaitError(f"the node (pid {pid}) has not ended after {STOP_PATIENCE:.0f} s: 'kill -9 {pid}' ends it")
        time.sleep(_POLL_INTERVAL)


def _is_zombie(pid: int) -> bool:
    """True for a process that has ended but whose parent has not looked (a launch in the same process)."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
