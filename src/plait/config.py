"""Everything a node needs to know before it lives, checked. Flags and environment are read by the CLI."""

import socket
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

from plait.errors import ConfigError
from plait.mesh.name import PeerName

DEFAULT_PORT = 6783
DEFAULT_CONN_LIMIT = 200
DEFAULT_HTTP_ADDR = "127.0.0.1:6784"
DEFAULT_STATUS_ADDR = "127.0.0.1:6782"
DEFAULT_BRIDGE = "weave"
DEFAULT_DOCKER_API = "unix:///var/run/docker.sock"
DEFAULT_STATE_DIR = Path("/var/lib/plait")
DEFAULT_RUN_DIR = Path("/run/plait")
LOG_LEVELS = ("debug", "info", "warning", "error")

# What IPv4 hosts must take (RFC 791) and what an IPv4 packet can hold.
MIN_MTU, MAX_MTU = 576, 65535
# IFNAMSIZ of <net/if.h>, without the final NUL.
MAX_LINK_NAME = 15
# Port + 1 belongs to the fast datapath.
MAX_PORT = 65534


@dataclass(frozen=True, slots=True)
class Config:
    """A node's configuration. `host` "" stands for all addresses, `mtu` 0 for one chosen from the underlay.

    An address of a listener is `ip:port`, an absolute path (a unix socket), or "" for none. Raises ConfigError.
    """

    name: PeerName | None = None
    nickname: str = field(default_factory=socket.gethostname)
    host: str = ""
    port: int = DEFAULT_PORT
    password: bytes | None = field(default=None, repr=False)
    conn_limit: int = DEFAULT_CONN_LIMIT
    discovery: bool = True
    trusted_subnets: tuple[IPv4Network | IPv6Network, ...] = ()
    mtu: int = 0
    bridge: str = DEFAULT_BRIDGE
    http_addr: str = DEFAULT_HTTP_ADDR
    status_addr: str = DEFAULT_STATUS_ADDR
    metrics_addr: str = ""
    docker_api: str = DEFAULT_DOCKER_API
    resume: bool = False
    peers: tuple[str, ...] = ()
    state_dir: Path = DEFAULT_STATE_DIR
    run_dir: Path = DEFAULT_RUN_DIR
    log_level: str = "info"

    def __post_init__(self) -> None:
        """Refuse values that cannot work, with the flag that set them."""
        _check(0 < self.port <= MAX_PORT, f"--port {self.port} is not between 1 and {MAX_PORT}")
        _check(self.conn_limit >= 0, f"--conn-limit {self.conn_limit} is negative; 0 means no limit")
        _check(
            self.mtu == 0 or MIN_MTU <= self.mtu <= MAX_MTU,
            f"--mtu {self.mtu} is not between {MIN_MTU} and {MAX_MTU}; leave it out to have it chosen",
        )
        _check(
            0 < len(self.bridge) <= MAX_LINK_NAME and "/" not in self.bridge and not self.bridge.isspace(),
            f"--weave-bridge {self.bridge!r} is no name of a link: 1 to {MAX_LINK_NAME} characters without '/'",
        )
        _check(self.log_level in LOG_LEVELS, f"--log-level {self.log_level!r} is none of {', '.join(LOG_LEVELS)}")
        _check(not self.host or _is_ipv4(self.host), f"--host {self.host!r} is no IPv4 address of this machine")
        _check(self.password != b"", "the password is empty: give one, or none at all")
        _check(not (self.resume and self.peers), "--resume uses the kept peers, so no peers can be given beside it")
        for flag, address in (("http", self.http_addr), ("status", self.status_addr), ("metrics", self.metrics_addr)):
            _check(
                _is_listen_address(address),
                f"--{flag}-addr {address!r} is neither IP:PORT nor an absolute path of a unix socket",
            )

    def trusts(self, address: str) -> bool:
        """True if an IP address lies in one of the trusted subnets."""
        parsed = ip_address(address)
        return any(parsed in subnet for subnet in self.trusted_subnets)


def parse_subnets(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Read a comma-separated list of CIDRs; raises ConfigError."""
    subnets: list[IPv4Network | IPv6Network] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        try:
            subnets.append(IPv6Network(word, strict=False) if ":" in word else IPv4Network(word, strict=False))
        except ValueError as error:
            raise ConfigError(f"--trusted-subnets: {word!r} is not a subnet like 10.0.0.0/8 ({error})") from error
    return tuple(subnets)


def split_listen_address(text: str) -> tuple[str, int]:
    """Read `ip:port`, `[ip]:port` or `:port` (all addresses); raises ConfigError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{text!r} is not an address of the form IP:PORT")
    return host, int(port)


def _is_listen_address(text: str) -> bool:
    if not text or text.startswith("/"):
        return True
    try:
        host, _ = split_listen_address(text)
        return not host or host == "localhost" or _is_ip(host)
    except ConfigError:
        return False


def _is_ip(text: str) -> bool:
    return _is_ipv4(text) or _is_ipv6(text)


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _check(holds: bool, sentence: str) -> None:
    if not holds:
        raise ConfigError(sentence)
