"""WireGuard in userspace: the program `wireguard-go`, set up by `wg`, whether the kernel has its own or not."""

from collections.abc import Sequence

from bench.systems.tunnel import Tunnel, home
from plait.testing.lab import Host, Process

PROGRAMS = ("wireguard-go", "wg")

_PORT = 51820
_SOCKETS = "/run/wireguard"
# The daemon's control socket is named by the device alone, so each host gets that directory for itself: `ip netns exec`
# gives every program a mount namespace of its own.
_WITH_OWN_SOCKETS = f'mkdir -p "$0" {_SOCKETS} && mount --bind "$0" {_SOCKETS} && exec "$@"'


class WireguardGo(Tunnel):
    """Hosts need no addresses on it."""

    device = "wg0"

    def __init__(self) -> None:
        super().__init__()
        self._public_keys: dict[Host, str] = {}

    def start(self, host: Host, peers: Sequence[Host]) -> Process:
        """Make a key and run `wireguard-go`."""
        key = host.run(["wg", "genkey"]).stdout
        self._public_keys[host] = host.run(["wg", "pubkey"], input=key).stdout.strip()
        file = host.directory / "wireguard.key"
        file.touch(mode=0o600)
        file.write_text(key)
        return host.spawn(_inside(host, ["wireguard-go", "--foreground", self.device]))

    def introduce(self, host: Host, other: Host) -> None:
        """Name the other's key, address and container."""
        own = ["private-key", f"{host.directory}/wireguard.key", "listen-port", str(_PORT)]
        peer = ["peer", self._public_keys[other], "endpoint", f"{other.ip}:{_PORT}", "allowed-ips", home(other)]
        host.run(_inside(host, ["wg", "set", self.device, *own, *peer]))
        self.route(host, other)


def _inside(host: Host, argv: Sequence[str]) -> list[str]:
    return ["sh", "-ec", _WITH_OWN_SOCKETS, f"{host.directory}/wireguard", *argv]
