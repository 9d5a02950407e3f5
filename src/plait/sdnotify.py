"""Telling systemd that the node is ready and alive (sd_notify protocol). Silent where nobody listens."""

import os
import socket


def watchdog_interval() -> float | None:
    """How often systemd wants a sign of life, seconds: half of what it allows. None without a watchdog."""
    limit_us = os.environ.get("WATCHDOG_USEC", "")
    meant_for = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not limit_us.isdigit() or meant_for != str(os.getpid()):
        return None
    return int(limit_us) / 2_000_000


def notify(*assignments: str) -> None:
    """Send `NAME=value` lines to the service manager, if one asked for them."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.sendto("\n".join(assignments).encode(), address)
        except OSError:
            # The manager is gone or its socket is full: it will see for itself that we are silent.
            return
