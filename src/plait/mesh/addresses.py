"""Addresses of peers: texts that users give, `ip:port` texts of connections, and what gossip tells of other peers.

Resolves no host names: that is the caller's business.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from functools import lru_cache
from ipaddress import ip_address

from plait.errors import UsageError
from plait.mesh.name import PeerName
from plait.mesh.records import PeerRecord

_MAX_PORT = 65535
_BRACKETED = re.compile(r"\[(?P<host>[^\[\]]*)\](?::(?P<port>.*))?\Z")


def parse_target(text: str) -> tuple[str, int | None]:
    """Split `host`, `host:port` or `[IPv6]:port`; the port is None if it is left out or 0.

    Raise UsageError for anything else. A bare IPv6 address is a host.
    """
    bracketed = _BRACKETED.match(text)
    if bracketed:
        host, port = bracketed["host"], bracketed["port"]
        if not _is_ipv6(host):
            raise UsageError(f"address {text}: {host!r} is no IPv6 address; only those stand in brackets")
    elif _is_ipv6(text):
        host, port = text, None
    else:
        host, colon, after = text.partition(":")
        if ":" in after:
            raise UsageError(f"address {text}: too many colons in address; write host, host:port or [IPv6]:port")
        port = after if colon else None
    if not host or any(character.isspace() or character in "[]" for character in host):
        raise UsageError(f"address {text!r}: no host; write host, host:port or [IPv6]:port")
    return host, None if port is None else _parse_port(text, port)


def join_address(ip: str, port: int | str) -> str:
    """Write `ip:port`, an IPv6 address in brackets; the port may be `*`."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def ip_of(address: str) -> str:
    """Give the IP address of a connection's `ip:port`, without brackets."""
    return address.rpartition(":")[0].removeprefix("[").removesuffix("]")


@lru_cache(maxsize=16384)  # the same addresses come with every record that names them
def split_address(address: str) -> tuple[str, int] | None:
    """Read `ip:port`, an IPv6 address in brackets; None if it is not that, as the text may come from any peer."""
    host, colon, port = address.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= _MAX_PORT):
        return None
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    try:
        return str(ip_address(host)), int(port)
    except ValueError:
        return None


class KnownAddresses:
    """Where peers can be dialled, as far as the records of others tell. Updating costs only what changed."""

    def __init__(self, our_name: PeerName, port: int) -> None:
        self._our_name = our_name
        self._port = port
        self._records: dict[PeerName, PeerRecord] = {}
        self._addresses: dict[PeerName, Counter[str]] = {}

    def update(self, records: Iterable[PeerRecord]) -> None:
        """Take all records there are; those gone since the last call count no more."""
        current = {record.name: record for record in records if record.name != self._our_name}
        for name, record in self._records.items():
            if current.get(name) is not record:
                self._subtract(record)
        for name, record in current.items():
            if self._records.get(name) is not record:
                self._add(record)
        self._records = current

    def excluding(self, names: AbstractSet[PeerName]) -> Iterator[str]:
        """Give the addresses of all peers but these and ourselves."""
        for name, addresses in self._addresses.items():
            if name not in names:
                yield from addresses

    def _add(self, record: PeerRecord) -> None:
        for remote, address in self._told_by(record):
            self._addresses.setdefault(remote, Counter())[address] += 1

    def _subtract(self, record: PeerRecord) -> None:
        for remote, address in self._told_by(record):
            addresses = self._addresses[remote]
            addresses[address] -= 1
            if not addresses[address]:
                del addresses[address]
                if not addresses:
                    del self._addresses[remote]

    def _told_by(self, record: PeerRecord) -> Iterator[tuple[PeerName, str]]:
        """An address that the peer dialled is right; one that it accepted shows the IP, and the port is likely ours."""
        for connection in record.connections:
            where = split_address(connection.address)
            if where is not None and connection.remote != self._our_name:
                ip, port = where
                yield connection.remote, join_address(ip, port if connection.outbound else self._port)


def _is_ipv6(text: str) -> bool:
    try:
        return ip_address(text).version == 6
    except ValueError:
        return False


def _parse_port(text: str, port: str) -> int | None:
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= _MAX_PORT):
        raise UsageError(f"address {text}: port {port!r} is no number from 1 to {_MAX_PORT}")
    return int(port) or None
