"""The real Weave Net router in sleeve mode: the program `weaver` alone, without Docker, scripts and DNS.

So its launch lacks what `weave launch` adds to it: the figures are better than a user's.
"""

import http.client
import os
from collections.abc import Mapping, Sequence

from bench.systems.base import System, connect_to_bridge
from plait.host import ethtool
from plait.host.netlink import Netlink
from plait.testing.lab import Container, Host, LabError, Process, wait_until

_BRIDGE = "weave"
_HTTP = ("127.0.0.1", 6784)
_OPTIONS = (
    "--no-fastdp",
    "--no-dns",
    "--docker-api=",
    "--ipalloc-range=",
    "--port=6783",
    f"--weave-bridge={_BRIDGE}",
    "--http-addr=127.0.0.1:6784",
    "--status-addr=127.0.0.1:6782",
)
_NO_PHONING_HOME = {"CHECKPOINT_DISABLE": "1"}


class Weave(System):
    """One `weaver` per host; encrypted with a password."""

    def __init__(self, weaver: str, password: str | None = None) -> None:
        self._weaver = os.path.abspath(weaver)
        self._password = password
        self._running: dict[Host, Process] = {}

    def launch(self, host: Host, peers: Sequence[Host]) -> None:
        """Start the router and wait until it answers, as `weave launch` does."""
        words = [self._weaver, *_OPTIONS, f"--name={host.peer_name}", f"--nickname={host.name}"]
        words.append(f"--db-prefix={host.directory}/weave")
        if self._password is not None:
            words.append(f"--password={self._password}")
        # It keeps a file in its working directory that makes a second start there ignore the peers.
        inside = ["sh", "-c", 'cd "$0" && exec "$@"', str(host.directory), *words, *(peer.ip for peer in peers)]
        process = self._running[host] = host.spawn(inside, _NO_PHONING_HOME)
        wait_until(lambda: _is_ready(host, process), f"weaver answers on {host.name}")

    def attach(self, host: Host, container: Container, cidr: str) -> None:
        """Join a container as Weave does: the bridge's MTU, and no checksum left to the device."""
        with Netlink(host.path) as netlink:
            bridge = netlink.link(_BRIDGE)
        if bridge is None:
            raise LabError(f"weaver has made no bridge {_BRIDGE} on {host.name}")
        connect_to_bridge(host, container, cidr, _BRIDGE, bridge.mtu)
        with container.entered():
            ethtool.set_tx_checksum("ethwe", False)

    def processes(self, host: Host) -> Mapping[str, int]:
        """Give the router."""
        return {"router": self._running[host].pid}


def _is_ready(host: Host, process: Process) -> bool:
    if not process.is_running:
        raise LabError(f"weaver ended on {host.name}:\n{process.output[-2000:]}")
    try:
        with host.entered():
            connection = http.client.HTTPConnection(*_HTTP, timeout=2.0)
            connection.request("GET", "/status")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):  # not yet
        return False
