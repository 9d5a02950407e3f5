"""The pump as a program: takes over descriptors from the node and pumps until the node closes its end."""

import argparse
import ctypes
import os
import signal
import socket
from contextlib import ExitStack

from plait.host.udp import SleeveSockets
from plait.mesh.name import PeerName
from plait.overlay.sleeve.pump.loop import Loop
from plait.overlay.sleeve.pump.tools import LOOPS, tools

_PR_SET_PDEATHSIG = 1
_PR_SET_TIMERSLACK = 29
_TIMER_SLACK = 1000
"""Nanoseconds: the loop sleeps for 60 us at times, and the kernel's 50 would be as much again."""


def main() -> None:
    """Run the pump."""
    words = _parse()
    _die_with(os.getppid())
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _TIMER_SLACK, 0, 0, 0)
    # A signal to the whole group (ctrl-C, systemd) is for the node; it ends the pump when it is done itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    channel = socket.socket(fileno=words.ipc_fd)
    with channel, ExitStack() as stack:
        sockets = [
            stack.enter_context(SleeveSockets(socket.socket(fileno=plain), socket.socket(fileno=df)))
            for plain, df in zip(words.udp_fd, words.df_fd, strict=True)
        ]
        Loop(words.name, words.port, words.tap_fd, sockets, channel, tools(words.loop)).run()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="plait-pump", description="Moves frames; started by the node, not by people.")
    for descriptor in ("tap", "ipc"):
        parser.add_argument(f"--{descriptor}-fd", type=int, required=True)
    for descriptor in ("udp", "df"):
        parser.add_argument(f"--{descriptor}-fd", type=int, required=True, action="append")
    parser.add_argument("--name", type=PeerName.parse, required=True)
    parser.add_argument("--port", type=int, required=True, help="of the UDP sockets")
    parser.add_argument("--loop", choices=LOOPS, default=LOOPS[0], help="what cuts and joins super-frames")
    return parser.parse_args()


def _die_with(parent: int) -> None:
    """End when the parent does, even if this process hangs."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("the node ended before the pump began")


if __name__ == "__main__":
    main()
