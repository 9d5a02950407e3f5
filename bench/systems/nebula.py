"""Nebula: the first host is its lighthouse; containers are reached by `unsafe_routes`. Encrypts (AES-256-GCM)."""

import json
from collections.abc import Sequence
from ipaddress import IPv4Interface
from pathlib import Path

from bench.systems.base import cidr, number_of
from bench.systems.tunnel import Tunnel, home
from plait.host.netlink import Netlink
from plait.testing.lab import Host, Process

PROGRAMS = ("nebula", "nebula-cert")

_PORT = 4242
_MOST_HOSTS = 3  # a configuration names the routes to all of them before they are there
_ANY = [{"port": "any", "proto": "any", "host": "any"}]


class Nebula(Tunnel):
    """The addresses of the hosts on it are of use to nobody but Nebula."""

    device = "nebula1"

    def __init__(self) -> None:
        super().__init__()
        self._authority: Path | None = None

    def start(self, host: Host, peers: Sequence[Host]) -> Process:
        """Sign a certificate, which allows the container's address, and run `nebula`."""
        directory = host.directory / "nebula"
        directory.mkdir()
        if self._authority is None:
            self._authority = directory
            host.run(["nebula-cert", "ca", "-name", "bench", *_outputs(directory / "ca")])
        words = ["-name", host.name, "-ip", f"{_address(number_of(host))}/24", "-subnets", home(host)]
        authority = ["-ca-crt", f"{self._authority}/ca.crt", "-ca-key", f"{self._authority}/ca.key"]
        host.run(["nebula-cert", "sign", *authority, *words, *_outputs(directory / "host")])
        configuration = directory / "config.yml"
        # JSON is YAML.
        configuration.write_text(json.dumps(self._configuration(host, peers, directory, self._authority)))
        return host.spawn(["nebula", "-config", str(configuration)])

    def introduce(self, host: Host, other: Host) -> None:
        """Nothing: the lighthouse tells it, and the configuration has the route."""

    def is_ready(self, host: Host) -> bool:
        """Nebula sets the MTU before it sets the device up."""
        with Netlink(host.path) as netlink:
            link = netlink.link(self.device)
        return link is not None and link.is_up

    def _configuration(self, host: Host, peers: Sequence[Host], directory: Path, authority: Path) -> dict[str, object]:
        number = number_of(host)
        others = [other for other in range(1, _MOST_HOSTS + 1) if other != number]
        routes = [{"route": f"{IPv4Interface(cidr(other)).ip}/32", "via": _address(other)} for other in others]
        return {
            "pki": {"ca": f"{authority}/ca.crt", "cert": f"{directory}/host.crt", "key": f"{directory}/host.key"},
            "static_host_map": {_address(number_of(peer)): [f"{peer.ip}:{_PORT}"] for peer in peers},
            "lighthouse": {"am_lighthouse": not peers, "hosts": [_address(number_of(peer)) for peer in peers]},
            "listen": {"host": "0.0.0.0", "port": _PORT},
            "tun": {"dev": self.device, "unsafe_routes": routes},
            "firewall": {"outbound": _ANY, "inbound": _ANY},
        }


def _address(number: int) -> str:
    return f"10.98.0.{number}"


def _outputs(stem: Path) -> list[str]:
    return ["-out-crt", f"{stem}.crt", "-out-key", f"{stem}.key"]
