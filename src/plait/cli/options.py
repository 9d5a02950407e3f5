"""Options that several verbs share, and how flags and environment become a Config."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from plait.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from plait.config import Config

_F = TypeVar("_F", bound=Callable[..., Any])

_DEFAULT_STATE_DIR = "/var/lib/plait"
_DEFAULT_RUN_DIR = "/run/plait"

# Flags of Weave's router for services that plait does not have yet: refused by name rather than as typos.
NOT_YET = {
    "--ipalloc-range": "automatic addresses",
    "--iprange": "automatic addresses",
    "--ipalloc-init": "automatic addresses",
    "--ipalloc-default-subnet": "automatic addresses",
    "--no-dns": "DNS",
    "--dns-domain": "DNS",
    "--dns-listen-address": "DNS",
    "--dns-ttl": "DNS",
    "--no-fastdp": "the fast datapath",
    "--no-bridged-fastdp": "the fast datapath",
    "--proxy": "the Docker API proxy",
    "--plugin": "the Docker plugin",
    "--awsvpc": "AWS VPC routing",
    "--token": "hosted peer discovery",
}


def run_dir_option(function: _F) -> _F:
    """Add --run-dir."""
    return click.option(
        "--run-dir",
        envvar="PLAIT_RUN_DIR",
        default=_DEFAULT_RUN_DIR,
        type=click.Path(path_type=Path),
        help="Where the node's socket is.",
    )(function)


def state_dir_option(function: _F) -> _F:
    """Add --state-dir."""
    return click.option(
        "--state-dir",
        envvar="PLAIT_STATE_DIR",
        default=_DEFAULT_STATE_DIR,
        type=click.Path(path_type=Path),
        help="Where the node keeps its name, targets and attachments.",
    )(function)


def json_option(function: _F) -> _F:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def node_options(function: _F) -> _F:
    """Add everything that configures a node."""
    for option in reversed(_NODE_OPTIONS):
        function = option(function)
    return run_dir_option(state_dir_option(function))


_NODE_OPTIONS = (
    click.option("--name", help="Peer name, like 7a:00:00:00:00:01. Default: the kept one, or a new one."),
    click.option("--nickname", help="Name for people. Default: the host name."),
    click.option("--host", default="", help="Address to bind to. Default: all."),
    click.option("--port", type=int, envvar="WEAVE_PORT", default=6783, help="TCP and UDP port (6783)."),
    click.option("--password", help="Session password; better in WEAVE_PASSWORD or a file."),
    click.option(
        "--password-file", type=click.Path(path_type=Path), help="File with the session password in its first line."
    ),
    click.option("--conn-limit", type=int, default=200, help="Most connections (200; 0: any number)."),
    click.option("--no-discovery", is_flag=True, help="Connect to the named peers only."),
    click.option("--trusted-subnets", default="", help="Subnets whose peers need no encryption of frames."),
    click.option(
        "--mtu", type=int, envvar="WEAVE_MTU", default=0, help="Overlay MTU. Default: what the uplink carries."
    ),
    click.option("--weave-bridge", default="weave", help="Name of the bridge (weave)."),
    click.option("--http-addr", envvar="WEAVE_HTTP_ADDR", default="127.0.0.1:6784", help="Control API; empty: off."),
    click.option("--status-addr", envvar="WEAVE_STATUS_ADDR", default="127.0.0.1:6782", help="Read-only API."),
    click.option("--metrics-addr", envvar="WEAVE_METRICS_ADDR", default="", help="Metrics only. Default: off."),
    click.option(
        "--docker-api", envvar="DOCKER_HOST", default="unix:///var/run/docker.sock", help="Docker; empty: off."
    ),
    click.option("--resume", is_flag=True, help="Use the kept peers; no peers may be given."),
    click.option("--log-level", default="info", help="debug, info, warning or error."),
)


def make_config(options: dict[str, Any]) -> "Config":
    """Build a Config from the options of `node_options` and the peers; raises ConfigError or UsageError."""
    from plait.config import Config, parse_subnets
    from plait.mesh.name import InvalidPeerName, PeerName

    values = dict(options)
    try:
        name = PeerName.parse(values["name"]) if values["name"] else None
    except InvalidPeerName as error:
        raise ConfigError(f"--name: {error}") from error
    return Config(
        name=name,
        **({"nickname": values["nickname"]} if values["nickname"] else {}),
        host="" if values["host"] in ("", "0.0.0.0") else values["host"],
        port=values["port"],
        password=read_password(values),
        conn_limit=values["conn_limit"],
        discovery=not values["no_discovery"],
        trusted_subnets=parse_subnets(values["trusted_subnets"]),
        mtu=values["mtu"],
        bridge=values["weave_bridge"],
        http_addr=values["http_addr"],
        status_addr=values["status_addr"],
        metrics_addr=values["metrics_addr"],
        docker_api=values["docker_api"],
        resume=values["resume"],
        peers=tuple(values["peers"]),
        state_dir=values["state_dir"],
        run_dir=values["run_dir"],
        log_level=values["log_level"],
    )


def read_password(options: dict[str, Any]) -> bytes | None:
    """The password of the flag, the file or WEAVE_PASSWORD, in this order; None without any."""
    if options["password"]:
        return str(options["password"]).encode()
    if options["password_file"] is not None:
        try:
            lines = options["password_file"].read_bytes().splitlines()
        except OSError as error:
            raise ConfigError(f"--password-file {options['password_file']}: {error.strerror}") from error
        if not lines or not lines[0]:
            raise ConfigError(f"--password-file {options['password_file']} has no password in its first line")
        return bytes(lines[0])
    return os.environ.get("WEAVE_PASSWORD", "").encode() or None


def refuse_unknown_flags(words: tuple[str, ...]) -> None:
    """Say of a flag that Weave has and plait has not (yet) what it is about; raises UsageError."""
    for word in words:
        flag = "--" + word.lstrip("-").partition("=")[0]
        if word.startswith("-") and flag in NOT_YET:
            raise UsageError(
                f"{flag} is about {NOT_YET[flag]}, which this version of plait does not have: leave it out"
            )
