"""`launch`, `daemon`, `stop`, `reset`: the life of the node on this host."""

import errno
import json
import os
import re
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

from plait.api.client import Client, NotRunning
from plait.cli.options import json_option, make_config, node_options, run_dir_option, state_dir_option
from plait.cli.verb import DaemonVerb, NodeVerb, Verb
from plait.errors import AlreadyRunning, ConfigError, NodeUnreachable, PermissionNeeded, PlaitError, StateError
from plait.paths import LOG_NAME, PID_NAME, SOCKET_NAME

# A node starts in well under a second; a host that swaps may need far longer.
LAUNCH_PATIENCE = 30.0
# Docker's grace for a container, which is what Weave's stop gave.
STOP_PATIENCE = 10.0
# How long the kernel may take to close what a killed node had open.
KILLED_PATIENCE = 2.0
# Reset takes interfaces from containers one by one.
RESET_PATIENCE = 60.0
# A log that is longer when a node is launched is put aside (one such log is kept).
MAX_LOG_BYTES = 16 * 1024 * 1024
_BAD_NEWS = re.compile(r"\S+ \S+ (?P<level>WARNING|ERROR|CRITICAL) [^ :]+: (?P<sentence>.*)")
_POLL_INTERVAL = 0.02
# Options of `launch` that are not handed on in words.
_NOT_THE_DAEMONS = ("password", "password_file", "as_json")


@click.command(cls=NodeVerb, short_help="Start the node of this host and call peers.")
@node_options
@click.argument("peers", nargs=-1)
@json_option
@click.pass_context
def launch(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    """Start the node of this host and call PEERS (HOST or HOST:PORT); without any, those of the last time."""
    config = make_config(options)
    if os.geteuid() != 0:
        raise PermissionNeeded("plait must be run as root: it makes network links; use sudo")
    client = Client(config.run_dir, STOP_PATIENCE)
    if _is_running(client):
        raise AlreadyRunning("plait is already running; you can stop it with 'plait stop'.")
    log = config.state_dir / LOG_NAME
    began_at, process = _start(log, list(_daemon_words(ctx)), config.password, config.log_format)
    try:
        _wait_until_ready(client, process, log, began_at)
    except KeyboardInterrupt:
        click.echo(f"the node (pid {process.pid}) goes on starting; 'plait stop' ends it", err=True)
        raise
    report = client.report()
    for problem in report["Plait"]["Problems"]:
        cure = f"; cure: {problem['Cure']}" if problem["Cure"] else ""
        click.echo(f"warning: {problem['What']}{cure}", err=True)
    name = report["Router"]["Name"]
    click.echo(json.dumps({"name": name, "pid": process.pid}) if as_json else name)


@click.command(cls=DaemonVerb, short_help="Be the node, in the foreground.")
@node_options
@click.argument("peers", nargs=-1)
def daemon(**options: Any) -> int:
    """Be the node, in the foreground, with the log on standard error: for systemd and containers."""
    config = make_config(options)
    from plait.daemon import run

    return run(config)


@click.command(cls=Verb, short_help="Stop the node; containers keep their interfaces.")
@run_dir_option
def stop(run_dir: Path) -> None:
    """Stop the node; interfaces, addresses and what is kept on disk stay."""
    pid = _pid(run_dir)
    try:
        Client(run_dir, STOP_PATIENCE).call("stop", reset=False)
    except NotRunning as error:
        if pid is None:
            click.echo(str(error), err=True)
            return
        _kill(pid, signal.SIGTERM)
    except NodeUnreachable:
        if pid is None:
            raise
        _kill(pid, signal.SIGTERM)
    _wait_until_gone(run_dir, pid, STOP_PATIENCE)


@click.command(cls=Verb, short_help="Stop the node and remove all that it made.")
@click.option("--force", is_flag=True, help="Also when the node does not answer: kill it.")
@click.option("--weave-bridge", default="weave", help="Name of the bridge (weave).")
@run_dir_option
@state_dir_option
def reset(force: bool, weave_bridge: str, run_dir: Path, state_dir: Path) -> None:
    """Stop the node and remove every link, rule and file that it made, its name in the mesh too."""
    pid, log = _pid(run_dir), state_dir / LOG_NAME
    began_at = _size(log)
    try:
        Client(run_dir, STOP_PATIENCE).call("stop", reset=True)
    except NodeUnreachable as error:
        if pid is not None or not isinstance(error, NotRunning):
            _end_by_force(run_dir, pid, error, force)
        troubles = _reset_here(weave_bridge, run_dir, state_dir)
    else:
        _wait_until_gone(run_dir, pid, RESET_PATIENCE)
        troubles = [sentence for level, sentence in _said(log, began_at) if level]
    for trouble in troubles:
        click.echo(trouble, err=True)
    if not troubles:  # else the log may tell more
        for path in (log, Path(f"{log}.1")):
            path.unlink(missing_ok=True)


VERBS = (launch, daemon, stop, reset)


def _end_by_force(run_dir: Path, pid: int | None, error: NodeUnreachable, force: bool) -> None:
    """End a node that does not answer, if that is wanted; raises PlaitError if not, or if nobody knows its process."""
    if not force or pid is None:
        node = "the node" if pid is None else f"the node (pid {pid})"
        cure = "'plait reset --force' kills it" if pid is not None else "end its process, then reset again"
        raise PlaitError(f"{node} does not do as it is told: {error}; {cure}") from error
    _kill(pid, signal.SIGKILL)
    _wait_until_gone(run_dir, pid, STOP_PATIENCE)


def _reset_here(bridge: str, run_dir: Path, state_dir: Path) -> list[str]:
    """Remove what a node left; gives sentences about what could not be removed."""
    from plait.config import Config
    from plait.startup import reset_host

    troubles = reset_host(Config(bridge=bridge, run_dir=run_dir.absolute(), state_dir=state_dir.absolute()))
    for name in (PID_NAME, SOCKET_NAME):
        (run_dir / name).unlink(missing_ok=True)
    return troubles


def _is_running(client: Client) -> bool:
    """Whether somebody listens; one that was killed still does for a moment, and breaks off, so ask that one again."""
    deadline = time.monotonic() + KILLED_PATIENCE
    while True:
        try:
            client.request("GET", "/status")
            return True
        except NotRunning:
            return False
        except NodeUnreachable:
            if time.monotonic() > deadline:
                return True  # busy, or ending
        time.sleep(_POLL_INTERVAL)


def _daemon_words(ctx: click.Context) -> Iterator[str]:
    """The words of `plait daemon` that mean what was said to `plait launch`; the password is none of them."""
    for parameter in ctx.command.params:
        value = ctx.params[str(parameter.name)]
        if not isinstance(parameter, click.Option) or parameter.name in _NOT_THE_DAEMONS or value is None:
            continue
        if parameter.is_flag:
            yield from [parameter.opts[0]] if value else []
        else:
            # The daemon's own directory is the root.
            yield f"{parameter.opts[0]}={value.absolute() if isinstance(value, Path) else value}"
    yield from ("--", *ctx.params["peers"])


def _start(log: Path, words: list[str], password: bytes | None, form: str) -> tuple[int, "subprocess.Popen[bytes]"]:
    """Start the daemon on its own; gives where its part of the log begins. The password goes by the environment."""
    environment = dict(os.environb)
    environment.pop(b"WEAVE_PASSWORD", None)
    if password is not None:
        environment[b"WEAVE_PASSWORD"] = password
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _size(log) > MAX_LOG_BYTES:
            log.replace(f"{log}.1")
        with log.open("ab", buffering=0) as output:
            _write_first_line(output, words, is_json=form == "json")
            began_at = output.tell()
            process = subprocess.Popen(
                # -P: a root's program takes no modules from the directory it happens to be in.
                [sys.executable, "-P", "-m", "plait", "daemon", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
                env=environment,
            )
        return began_at, process
    except OSError as error:
        raise StateError(
            f"cannot write the log {log} ({error.strerror}): free the disk or choose another --state-dir"
        ) from error


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except OSError:
        return 0  # it is not there, or not for this user


def _write_first_line(log: FileIO, words: list[str], *, is_json: bool) -> None:
    """Begin a node's part of the log; also shows, before the node needs it, whether the disk takes another line."""
    text = f"launching: plait daemon {shlex.join(words)}"
    if is_json:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        line = f"{json.dumps({'ts': stamp, 'level': 'INFO', 'logger': 'plait', 'message': text})}\n".encode()
    else:
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S,000')} INFO plait: {text}\n".encode(errors="surrogateescape")
    if log.write(line) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _wait_until_ready(client: Client, process: "subprocess.Popen[bytes]", log: Path, began_at: int) -> None:
    deadline = time.monotonic() + LAUNCH_PATIENCE
    while time.monotonic() < deadline:
        code = process.poll()
        if code is not None:
            error = PlaitError(_last_words(log, began_at))
            error.exit_code = code if 0 < code != ConfigError.exit_code else 1
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
    lines = list(_said(log, began_at))
    for level, sentence in reversed(lines):
        if level == "ERROR":
            return sentence
        if level == "CRITICAL":
            return f"{sentence} (in {log})"
    return lines[-1][1] if lines else f"the node ended without a word: see {log}"


def _said(log: Path, began_at: int) -> Iterator[tuple[str, str]]:
    """The lines of a log (plait.logs) from an offset on: level and sentence of bad news, else "" and the line."""
    try:
        with log.open("rb") as file:
            file.seek(began_at)
            text = file.read(MAX_LOG_BYTES).decode(errors="replace")
    except OSError:
        return
    for line in filter(None, text.splitlines()):
        match = _BAD_NEWS.match(line)
        yield (match["level"], match["sentence"]) if match else _said_in_json(line)


def _said_in_json(line: str) -> tuple[str, str]:
    """The same of a line of --log-format json; what is none is given as it is."""
    try:
        fields = json.loads(line)
        level, message = str(fields["level"]), str(fields["message"])
    except (ValueError, TypeError, KeyError):
        return "", line
    cure = f"; cure: {fields['cure']}" if "cure" in fields else ""
    return (level, f"{message}{cure}") if level in ("WARNING", "ERROR", "CRITICAL") else ("", line)


def _pid(run_dir: Path) -> int | None:
    """The process of the node, if the pid file names one that is a node."""
    try:
        pid = int((run_dir / PID_NAME).read_text())
        words = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    names = {os.path.basename(word) for word in words}
    return pid if pid > 1 and b"daemon" in words and names & {b"plait", b"weave"} and not _has_ended(pid) else None


def _kill(pid: int, signum: signal.Signals) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        pass  # it was faster
    except PermissionError as error:
        raise PermissionNeeded(f"the node (pid {pid}) is not yours to end: use sudo") from error


def _wait_until_gone(run_dir: Path, pid: int | None, patience: float) -> None:
    """Wait until the process has ended or, if that is not known, nobody answers; raises PlaitError."""
    deadline = time.monotonic() + patience
    while _is_running(Client(run_dir, patience)) if pid is None else not _has_ended(pid):
        if time.monotonic() > deadline:
            who, cure = ("", "end its process") if pid is None else (f" (pid {pid})", f"'kill -9 {pid}' ends it")
            raise PlaitError(f"the node{who} has not ended after {patience:.0f} s: {cure}")
        time.sleep(_POLL_INTERVAL)


def _has_ended(pid: int) -> bool:
    """True for a process that has ended, also if its parent has not looked."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
