"""Which datagrams of a noisy path are lost, overtaken or doubled: decisions from one seed. Pure."""

import heapq
import random
import struct
from dataclasses import dataclass, field
from typing import Self

from plait.testing.lab.errors import LabError

MAX_DELAY = 8
"""A datagram is overtaken by at most so many: more than the three after which TCP takes one for lost (RFC 5681)."""

_PACKED = struct.Struct("=4Q")


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of the datagrams, each 0 to 1. Raise LabError for others."""

    loss: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0

    def __post_init__(self) -> None:
        for name in ("loss", "reorder", "duplicate"):
            rate = getattr(self, name)
            if not 0 <= rate <= 1:
                raise LabError(f"{name} is a share of the datagrams from 0 to 1, not {rate:g}")


@dataclass(slots=True)
class Counts:
    """What was done with the datagrams that came."""

    seen: int = 0
    lost: int = 0
    reordered: int = 0
    duplicated: int = 0

    def packed(self) -> bytes:
        """For `unpacked`, in `PACKED_BYTES`."""
        return _PACKED.pack(self.seen, self.lost, self.reordered, self.duplicated)

    @classmethod
    def unpacked(cls, data: bytes) -> Self:
        """What was packed."""
        return cls(*_PACKED.unpack(data))


PACKED_BYTES = _PACKED.size


@dataclass(slots=True)
class Noise:
    """One direction of a path. The same seed and the same number of datagrams give the same decisions."""

    rates: Rates
    chance: random.Random
    counts: Counts = field(default_factory=Counts)
    _held: list[tuple[int, int, bytes]] = field(default_factory=list)
    _serial: int = 0

    @property
    def is_holding(self) -> bool:
        """Whether a datagram waits to be overtaken."""
        return bool(self._held)

    def take(self, datagram: bytes) -> list[bytes]:
        """Give what is to be passed on now that this datagram has come, in this order."""
        self.counts.seen += 1
        passed = [datagram] if self._goes_at_once(datagram) else []
        while self._held and self._held[0][0] <= self.counts.seen:
            passed.append(heapq.heappop(self._held)[2])
        return passed

    def rest(self) -> list[bytes]:
        """Give all that waits to be overtaken, for when no more comes."""
        return [heapq.heappop(self._held)[2] for _ in range(len(self._held))]

    def _goes_at_once(self, datagram: bytes) -> bool:
        """Decide, and hold back what comes later. Three numbers are drawn whatever the rates are."""
        is_lost, is_reordered, is_doubled = (
            self.chance.random() < rate for rate in (self.rates.loss, self.rates.reorder, self.rates.duplicate)
        )
        if is_lost:
            self.counts.lost += 1
            return False
        if is_doubled:
            self.counts.duplicated += 1
            self._hold(datagram, self.chance.randint(0, MAX_DELAY))
        if is_reordered:
            self.counts.reordered += 1
            self._hold(datagram, self.chance.randint(1, MAX_DELAY))
        return not is_reordered

    def _hold(self, datagram: bytes, delay: int) -> None:
        self._serial += 1
        heapq.heappush(self._held, (self.counts.seen + delay, self._serial, datagram))
