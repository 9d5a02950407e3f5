"""How a node is to treat names, checked, and the flags that say so."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from plait.dns import names
from plait.dns.names import BadName
from plait.errors import ConfigError

DEFAULT_DOMAIN = "weave.local."
DEFAULT_RESOLV_CONF = "/etc/resolv.conf"
MAX_TTL = (1 << 31) - 1
"""Of a record (RFC 2181, 8)."""

# Go's durations, as far as they make sense here.
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Settings:
    """`listen` is an IP address and a port, None for the Docker bridge, if there is one; times in seconds.

    Raises ConfigError.
    """

    domain: str = DEFAULT_DOMAIN
    ttl: int = 1
    listen: tuple[str, int] | None = None
    resolv_conf: Path | None = Path(DEFAULT_RESOLV_CONF)
    fallback_timeout: float = 5.0

    def __post_init__(self) -> None:
        """Refuse values that cannot work, with the flag that set them."""
        try:
            names.checked(self.domain)
        except BadName as error:
            raise ConfigError(f"--dns-domain: {error}") from error
        if not 0 <= self.ttl <= MAX_TTL:
            raise ConfigError(f"--dns-ttl {self.ttl} is not between 0 and {MAX_TTL} seconds")
        if self.fallback_timeout <= 0:
            raise ConfigError("--dns-fallback-timeout must be more than nothing; write one like 5s")


def parse_listen(text: str) -> tuple[str, int] | None:
    """Read `IP:PORT` or `[IP]:PORT`; "" is None. Raises ConfigError."""
    if not text:
        return None
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ip_address(host)
    except ValueError:
        host = ""
    if not host or not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) <= 65535):
        raise ConfigError(f"--dns-listen-address {text!r} is not of the form IP:PORT, like 172.17.0.1:53")
    return host, int(port)


def parse_duration(text: str, flag: str = "--dns-fallback-timeout") -> float:
    """Read a duration like 5s, 1500ms or 1m30s, a flag's value; gives seconds. Raises ConfigError."""
    parts = _DURATION.findall(text)
    if not parts or "".join(parts) != text:
        raise ConfigError(f"{flag} {text!r} is no duration; write one like 5s or 1500ms")
    seconds = 0.0
    for part in parts:
        number = part.rstrip("msh")
        seconds += float(number) * _UNITS[part[len(number) :]]
    return seconds
