"""tinc 1.0 in router mode, with the cipher it chooses, over UDP."""

import os
import re
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from bench.systems.tunnel import Tunnel, home
from plait.testing.lab import Host, Process, wait_until

PROGRAMS = ("tincd",)

_KEY_SECONDS = 120.0
_MTUS = re.compile(r"nexthop \S+ via \S+ pmtu \d+ \(min (\d+) max (\d+)\)")


class Tinc(Tunnel):
    """The later host dials. Until the MTU of a path is found, what is longer goes by TCP."""

    device = "tinc0"

    def start(self, host: Host, peers: Sequence[Host]) -> Process:
        """Make a key and run `tincd`."""
        directory = _directory(host)
        (directory / "hosts").mkdir(parents=True)
        lines = [f"Name = {host.name}", f"Interface = {self.device}", "AddressFamily = ipv4"]
        lines += [f"ConnectTo = {peer.name}" for peer in peers]
        (directory / "tinc.conf").write_text("\n".join([*lines, ""]))
        _card(host, host).write_text(f"Address = {host.ip}\nSubnet = {home(host)}\n")
        host.run(["tincd", f"--config={directory}", "--generate-keys"], timeout=_KEY_SECONDS)
        for peer in peers:
            _give_card(peer, host)
            _give_card(host, peer)
        return host.spawn(["tincd", f"--config={directory}", f"--pidfile={directory}/pid", "--no-detach"])

    def introduce(self, host: Host, other: Host) -> None:
        """Route to it; the daemon looks for the other's key when it is needed."""
        if not _card(host, other).exists():
            _give_card(other, host)
        self.route(host, other)

    def is_settled(self) -> bool:
        """Say whether the MTUs of the paths in use are found."""
        return all(map(self._knows_mtus, self.hosts))

    def _knows_mtus(self, host: Host) -> bool:
        """It writes what it knows when it is sent SIGUSR2."""
        process = self.running[host]
        seen = len(process.output)
        os.kill(process.pid, signal.SIGUSR2)
        wait_until(lambda: "End of edges" in process.output[seen:], f"tincd on {host.name} writes its state")
        # Its own entry, and those never sent to, have a minimum of 0.
        ranges = [(int(least), int(most)) for least, most in _MTUS.findall(process.output[seen:]) if int(least)]
        return bool(ranges) and all(least == most for least, most in ranges)


def _directory(host: Host) -> Path:
    return host.directory / "tinc"


def _card(host: Host, of: Host) -> Path:
    return _directory(host) / "hosts" / of.name


def _give_card(giver: Host, taker: Host) -> None:
    shutil.copyfile(_card(giver, giver), _card(taker, giver))
