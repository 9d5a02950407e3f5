"""Options that several verbs share, and how flags and environment become a Config."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from plait.errors import ConfigError
from plait.paths import DEFAULT_RUN_DIR, DEFAULT_STATE_DIR

if TYPE_CHECKING:
    from plait.config import Config
    from plait.dns.settings import Settings as DnsSettings
    from plait.mesh.name import PeerName

_F = TypeVar("_F", bound=Callable[..., Any])


def run_dir_option(function: _F) -> _F:
    """Add --run-dir."""
    return click.option(
        "--run-dir",
        envvar="PLAIT_RUN_DIR",
        default=DEFAULT_RUN_DIR,
        type=click.Path(path_type=Path),
        help="Where the node's socket is.",
    )(function)


def state_dir_option(function: _F) -> _F:
    """Add --state-dir."""
    return click.option(
        "--state-dir",
        envvar="PLAIT_STATE_DIR",
        default=DEFAULT_STATE_DIR,
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


# Defaults are Config's: what is not given is None here, and is not handed on.
_NODE_OPTIONS = (
    click.option("--name", help="Peer name, like 7a:00:00:00:00:01. Default: the kept one, or a new one."),
    click.option("--nickname", help="Name for people. Default: the host name."),
    click.option("--host", help="Address to bind to, IPv4 or IPv6. Default: all."),
    click.option("--port", type=int, envvar="WEAVE_PORT", help="TCP and UDP port (6783)."),
    click.option("--password", help="Session password. Other users see it here: better in WEAVE_PASSWORD or a file."),
    click.option(
        "--password-file", type=click.Path(path_type=Path), help="File with the session password in its first line."
    ),
    click.option("--conn-limit", type=int, help="Most connections (200; 0: any number)."),
    click.option("--no-masq-local", is_flag=True, help="Keep the source of what goes to this host's containers."),
    click.option("--no-discovery", is_flag=True, help="Connect to the named peers only."),
    click.option("--trusted-subnets", help="Subnets whose peers need no encryption of frames."),
    click.option("--mtu", type=int, envvar="WEAVE_MTU", help="Overlay MTU. Default: what the uplink carries."),
    click.option("--overlays", help="What to offer, best first (fastdp,plait1,sleeve)."),
    click.option("--no-fastdp", is_flag=True, help="Carry frames in user space only, as --overlays plait1,sleeve."),
    click.option(
        "--fastdp-encapsulation",
        help="direct: eBPF writes outer headers where it can; device: the VXLAN device always does (direct).",
    ),
    click.option("--sleeve-loop", help="What moves frames in user space: auto, python or compiled (auto)."),
    click.option("--weave-bridge", help="Name of the bridge (weave)."),
    click.option("--http-addr", envvar="WEAVE_HTTP_ADDR", help="Control API (127.0.0.1:6784); empty: off."),
    click.option("--status-addr", envvar="WEAVE_STATUS_ADDR", help="Read-only API (127.0.0.1:6782); empty: off."),
    click.option("--metrics-addr", envvar="WEAVE_METRICS_ADDR", help="Metrics only. Default: off."),
    click.option("--docker-api", envvar="DOCKER_HOST", help="Docker (unix:///var/run/docker.sock); empty: off."),
    click.option("--ipalloc-range", "--iprange", envvar="IPALLOC_RANGE", help="Addresses to share out (10.32.0.0/12)."),
    click.option("--ipalloc-init", envvar="IPALLOC_INIT", help="consensus[=N], seed=NAME,NAME or observer."),
    click.option("--ipalloc-default-subnet", help="Where addresses come from if none is named. Default: the range."),
    click.option("--reclaim-after", help="Take over ranges of peers that are gone so long, like 1h. Default: never."),
    click.option("--no-dns", is_flag=True, help="Keep and answer no names."),
    click.option("--dns-domain", help="Domain of the mesh's names (weave.local)."),
    click.option("--dns-listen-address", help="Where names are answered, IP:PORT. Default: port 53 of docker0."),
    click.option("--dns-ttl", type=int, help="How long an answer may be kept, seconds (1)."),
    click.option("--dns-fallback-timeout", help="How long a server for other names may take (5s)."),
    click.option("--resolv-conf", help="File with the servers for other names (/etc/resolv.conf); empty: none."),
    click.option("--resume", is_flag=True, help="Use the kept peers; no peers may be given."),
    click.option("--log-level", help="debug, info, warning or error (info)."),
    click.option("--log-format", help="text, or json: an object a line (text)."),
)
_NAMED_ALIKE = (
    *("nickname", "host", "port", "conn_limit", "mtu", "docker_api", "resume", "log_level", "log_format"),
    *("http_addr", "status_addr", "metrics_addr", "sleeve_loop"),
    "fastdp_encapsulation",
)


def make_config(options: dict[str, Any]) -> "Config":
    """Build a Config from the options of `node_options` and the peers; raises ConfigError."""
    from plait.config import Config, parse_range, parse_subnets
    from plait.dns.settings import parse_duration
    from plait.ipam.initial import parse_initial
    from plait.overlay.switch import FASTDP, OVERLAYS

    values = {key: options[key] for key in _NAMED_ALIKE if options[key] is not None}
    if options["host"] == "0.0.0.0":
        values["host"] = ""
    if options["weave_bridge"] is not None:
        values["bridge"] = options["weave_bridge"]
    if options["overlays"] is not None:
        values["overlays"] = tuple(word.strip() for word in options["overlays"].split(","))
    if options["no_fastdp"]:
        values["overlays"] = tuple(each for each in values.get("overlays", OVERLAYS) if each != FASTDP)
    for flag in ("ipalloc_range", "ipalloc_default_subnet"):
        if options[flag] is not None:
            values[flag] = parse_range(f"--{flag.replace('_', '-')}", options[flag])
    if options["ipalloc_init"] is not None:
        values["ipalloc_init"] = parse_initial(options["ipalloc_init"])
    if options["reclaim_after"] is not None:
        values["reclaim_after"] = parse_duration(options["reclaim_after"], "--reclaim-after")
    values["dns"] = _dns_settings(options)
    return Config(
        name=_peer_name(options["name"]),
        password=read_password(options),
        discovery=not options["no_discovery"],
        masq_local=not options["no_masq_local"],
        trusted_subnets=parse_subnets(options["trusted_subnets"] or ""),
        peers=tuple(options["peers"]),
        state_dir=options["state_dir"].absolute(),
        run_dir=options["run_dir"].absolute(),
        **values,
    )


def _dns_settings(options: dict[str, Any]) -> "DnsSettings | None":
    """Names as the options say; None without. Raises ConfigError."""
    from plait.dns.settings import Settings, parse_duration, parse_listen

    if options["no_dns"]:
        return None
    values: dict[str, Any] = {}
    if options["dns_domain"] is not None:
        values["domain"] = options["dns_domain"]
    if options["dns_listen_address"] is not None:
        values["listen"] = parse_listen(options["dns_listen_address"])
    if options["dns_ttl"] is not None:
        values["ttl"] = options["dns_ttl"]
    if options["dns_fallback_timeout"] is not None:
        values["fallback_timeout"] = parse_duration(options["dns_fallback_timeout"])
    if options["resolv_conf"] is not None:
        values["resolv_conf"] = Path(options["resolv_conf"]) if options["resolv_conf"] else None
    return Settings(**values)


def read_password(options: dict[str, Any]) -> bytes | None:
    """The password of the flag, the file, or else WEAVE_PASSWORD; None without any. Raises ConfigError."""
    flag, file = options["password"], options["password_file"]
    if flag is not None and file is not None:
        raise ConfigError("--password and --password-file are both given: leave one out")
    if flag is not None:
        password = os.fsencode(flag)
    elif file is not None:
        password = _first_line(file)
    else:
        return os.environb.get(b"WEAVE_PASSWORD") or None
    if b"\0" in password:
        raise ConfigError("the password has a NUL byte in it, which no other peer can be given: choose another")
    return password


def _first_line(path: Path) -> bytes:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"--password-file {path} cannot be read ({error.strerror})") from error
    if not lines or not lines[0]:
        raise ConfigError(f"--password-file {path} has no password in its first line")
    return lines[0]


def _peer_name(text: str | None) -> "PeerName | None":
    from plait.mesh.name import InvalidPeerName, PeerName

    if text is None:
        return None
    try:
        return PeerName.parse(text)
    except InvalidPeerName as error:
        raise ConfigError(f"--name: {error}") from error
