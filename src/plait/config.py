"""Everything a node needs to know before it lives, checked. Flags and environment are read by the CLI."""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

from plait.dns.settings import Settings as DnsSettings
from plait.errors import ConfigError, UsageError
from plait.ipam.address import Cidr, InvalidAddress
from plait.ipam.initial import Initial
from plait.mesh.addresses import parse_target
from plait.mesh.name import UNKNOWN_PEER, PeerName
from plait.overlay.switch import OVERLAYS
from plait.paths import DEFAULT_RUN_DIR, DEFAULT_STATE_DIR, SOCKET_NAME

DEFAULT_PORT = 6783
DEFAULT_CONN_LIMIT = 200
DEFAULT_HTTP_ADDR = "127.0.0.1:6784"
DEFAULT_STATUS_ADDR = "127.0.0.1:6782"
DEFAULT_BRIDGE = "weave"
DEFAULT_DOCKER_API = "unix:///var/run/docker.sock"
DEFAULT_RANGE = Cidr.parse("10.32.0.0/12")
SLEEVE_LOOPS = ("auto", "python", "compiled")
FASTDP_ENCAPSULATIONS = ("direct", "device")
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")

# What IPv4 hosts must take (RFC 791) and what an IPv4 packet can hold.
MIN_MTU, MAX_MTU = 576, 65535
# IFNAMSIZ of <net/if.h>, without the final NUL.
MAX_LINK_NAME = 15
# Of the first octet of a MAC address (IEEE 802); the bridge gets the node's name as its own.
MULTICAST_BIT = 0x01
# A lease is renewed five times in its time, and an answer may take three seconds.
MIN_RECLAIM_AFTER, MAX_RECLAIM_AFTER = 15, 30 * 24 * 3600
# Port + 1 belongs to the fast datapath.
MAX_PORT = 65534
# HOST_NAME_MAX of Linux is 64, DNS names have up to 253; every peer keeps and gossips the nickname of every other.
MAX_NICKNAME = 253
# Size of sun_path in <linux/un.h>, without the final NUL.
MAX_SOCKET_PATH = 107


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
    overlays: tuple[str, ...] = OVERLAYS
    sleeve_loop: str = SLEEVE_LOOPS[0]
    fastdp_encapsulation: str = FASTDP_ENCAPSULATIONS[0]
    masq_local: bool = True
    """Masquerade also what goes to containers of this host."""
    bridge: str = DEFAULT_BRIDGE
    http_addr: str = DEFAULT_HTTP_ADDR
    status_addr: str = DEFAULT_STATUS_ADDR
    metrics_addr: str = ""
    docker_api: str = DEFAULT_DOCKER_API
    dns: DnsSettings | None = field(default_factory=DnsSettings)
    """None: no names."""
    ipalloc_range: Cidr | None = DEFAULT_RANGE
    """None: addresses are not allocated."""
    ipalloc_init: Initial = field(default_factory=Initial)
    ipalloc_default_subnet: Cidr | None = None
    """Where addresses come from if no subnet is named; None: the range."""
    reclaim_after: float = 0.0
    """Seconds after which the ranges of a peer that is gone go to another; 0: never."""
    resume: bool = False
    peers: tuple[str, ...] = ()
    state_dir: Path = DEFAULT_STATE_DIR
    run_dir: Path = DEFAULT_RUN_DIR
    log_level: str = "info"
    log_format: str = LOG_FORMATS[0]

    def __post_init__(self) -> None:
        """Refuse values that cannot work, with the flag that set them."""
        for holds, sentence in self._checks():
            if not holds:
                raise ConfigError(sentence)
        for peer in self.peers:
            _check_peer(peer)

    @property
    def socket_path(self) -> Path:
        """Where the CLI finds the node."""
        return self.run_dir / SOCKET_NAME

    def _checks(self) -> Iterator[tuple[bool, str]]:
        """What must hold, and what to say if it does not."""
        yield (
            self.name is None or (self.name != UNKNOWN_PEER and not self.name.to_bytes6()[0] & MULTICAST_BIT),
            f"--name {self.name} cannot be the address of a bridge: it must be neither zero nor a multicast address",
        )
        yield 0 < self.port <= MAX_PORT, f"--port {self.port} is not between 1 and {MAX_PORT}"
        yield self.conn_limit >= 0, f"--conn-limit {self.conn_limit} is negative; 0 means no limit"
        yield (
            self.mtu == 0 or MIN_MTU <= self.mtu <= MAX_MTU,
            f"--mtu {self.mtu} is not between {MIN_MTU} and {MAX_MTU}; leave it out to have it chosen",
        )
        yield (
            _is_link_name(self.bridge),
            f"--weave-bridge {self.bridge!r} is no name of a link: 1 to {MAX_LINK_NAME} characters but '/', ':', blank",
        )
        yield (
            0 < len(self.nickname) <= MAX_NICKNAME and self.nickname.isprintable(),
            f"--nickname {self.nickname!r} is not 1 to {MAX_NICKNAME} printable characters",
        )
        yield (
            0 < len(self.overlays) == len({*self.overlays}) and {*self.overlays} <= {*OVERLAYS},
            f"--overlays {','.join(self.overlays)!r} is not one or more of {', '.join(OVERLAYS)}, with commas between",
        )
        yield (
            self.sleeve_loop in SLEEVE_LOOPS,
            f"--sleeve-loop {self.sleeve_loop!r} is none of {', '.join(SLEEVE_LOOPS)}",
        )
        yield (
            self.fastdp_encapsulation in FASTDP_ENCAPSULATIONS,
            f"--fastdp-encapsulation {self.fastdp_encapsulation!r} is none of {', '.join(FASTDP_ENCAPSULATIONS)}",
        )
        yield self.log_level in LOG_LEVELS, f"--log-level {self.log_level!r} is none of {', '.join(LOG_LEVELS)}"
        yield self.log_format in LOG_FORMATS, f"--log-format {self.log_format!r} is neither text nor json"
        yield not self.host or _is_ip(self.host), f"--host {self.host!r} is no IP address of this machine"
        yield self.password != b"", "the password is empty: give one, or none at all"
        yield not (self.resume and self.peers), "--resume uses the kept peers, so no peers can be given beside it"
        yield from self._allocation_checks()
        yield from self._listener_checks()

    def _allocation_checks(self) -> Iterator[tuple[bool, str]]:
        whole, subnet = self.ipalloc_range, self.ipalloc_default_subnet
        missing = "specified without --ipalloc-range."
        yield whole is not None or self.ipalloc_init == Initial(), f"--ipalloc-init {missing}"
        yield whole is not None or subnet is None, f"--ipalloc-default-subnet {missing}"
        yield whole is not None or not self.reclaim_after, f"--reclaim-after {missing}"
        yield (
            self.reclaim_after == 0 or MIN_RECLAIM_AFTER <= self.reclaim_after <= MAX_RECLAIM_AFTER,
            f"--reclaim-after {self.reclaim_after:g}s is not between {MIN_RECLAIM_AFTER}s and 30 days; 0s: never",
        )
        yield (
            whole is None or whole.range.size > 0,
            f"--ipalloc-range {whole} ends with the last of all addresses: choose another, such as {DEFAULT_RANGE}",
        )
        yield (
            whole is None or subnet is None or subnet.range.overlaps(whole.range),
            f"IP address allocation default subnet {subnet} does not overlap with allocation range {whole}",
        )

    def _listener_checks(self) -> Iterator[tuple[bool, str]]:
        yield (
            len(os.fsencode(self.socket_path)) <= MAX_SOCKET_PATH,
            f"--run-dir {self.run_dir} is too long: {SOCKET_NAME} in it must not exceed {MAX_SOCKET_PATH} bytes",
        )
        seen: dict[str, str] = {str(self.socket_path): "the node's own socket"}
        for flag, address in self.listeners:
            yield (
                _is_listen_address(address),
                f"{flag} {address!r} is neither IP:PORT nor an absolute path of a unix socket",
            )
            yield address not in seen, f"{flag} {address} is also {seen.get(address)}; give another, or leave it empty"
            seen |= {address: flag} if address else {}

    @property
    def listeners(self) -> tuple[tuple[str, str], ...]:
        """The flags that set addresses for HTTP, and the addresses."""
        return (
            ("--http-addr", self.http_addr),
            ("--status-addr", self.status_addr),
            ("--metrics-addr", self.metrics_addr),
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


def parse_range(flag: str, text: str) -> Cidr | None:
    """Read a subnet, "" for none; raises ConfigError."""
    try:
        return Cidr.parse_subnet(text) if text else None
    except InvalidAddress as error:
        raise ConfigError(f"{flag}: {error}") from error


def split_listen_address(text: str) -> tuple[str, int]:
    """Read `ip:port`, `[ip]:port` or `:port` (all addresses); raises ConfigError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= 65535):
        raise ConfigError(f"{text!r} is not an address of the form IP:PORT")
    return host, int(port)


def _is_listen_address(text: str) -> bool:
    if not text:
        return True
    if text.startswith("/"):
        return len(os.fsencode(text)) <= MAX_SOCKET_PATH
    try:
        host, _ = split_listen_address(text)
    except ConfigError:
        return False
    return host in ("", "localhost") or _is_ip(host)


def _is_link_name(text: str) -> bool:
    """What dev_valid_name() of the kernel takes."""
    return (
        0 < len(text) <= MAX_LINK_NAME and text not in (".", "..") and not any(c in "/:" or c.isspace() for c in text)
    )


def _check_peer(text: str) -> None:
    try:
        parse_target(text)
    except UsageError as error:
        raise ConfigError(f"cannot call this peer: {error}") from error


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
