"""Whether an interface still transmits what it is given. Pure.

A card whose transmit ring has stopped (a malformed offload header that the host's back-end refuses, a driver's defect)
takes packets and sends none, and its carrier stays: nothing says so but its counter, which stands still. A peer that
is silent is another matter: then the counter goes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass

PATIENCE = 3.0
"""Seconds without one packet until an interface counts as frozen; drivers that read their card's counters do so every
second or two. Half a second between heartbeats makes six packets of it."""

ENOUGH_PACKETS = 3
"""So many must have been handed over meanwhile."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Packets since ever: that this node has handed to an interface, and that the interface says it sent."""

    handed: int
    sent: int


@dataclass(slots=True)
class _Watched:
    since: float
    first: Reading
    is_frozen: bool = False


class TransmissionWatch:
    """All interfaces towards other hosts, by name."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}

    def look(self, readings: Mapping[str, Reading], now: float) -> dict[str, bool]:
        """Take what was counted; gives the interfaces that froze (True) or thawed (False) since the last look."""
        for gone in self._watched.keys() - readings.keys():
            del self._watched[gone]
        changed = {}
        for interface, reading in readings.items():
            watched = self._watched.get(interface)
            if watched is None or reading.sent != watched.first.sent or reading.handed < watched.first.handed:
                if watched is not None and watched.is_frozen:
                    changed[interface] = False
                self._watched[interface] = _Watched(now, reading)
            elif not watched.is_frozen and self._is_stuck(watched, reading, now):
                watched.is_frozen = changed[interface] = True
        return changed

    @property
    def frozen(self) -> list[str]:
        """The interfaces that take packets and send none."""
        return [interface for interface, watched in self._watched.items() if watched.is_frozen]

    @staticmethod
    def _is_stuck(watched: _Watched, reading: Reading, now: float) -> bool:
        handed = reading.handed - watched.first.handed
        return now - watched.since >= PATIENCE and handed >= ENOUGH_PACKETS
