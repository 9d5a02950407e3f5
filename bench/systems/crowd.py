"""plait's datapath with tables as full as in a large network, between two hosts: the cost of a frame must not grow."""

import socket
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from struct import Struct

from bench.systems.plait import DIRECT, Plait
from plait.host.bpf.maps import Map
from plait.mesh.shortids import SHORT_IDS
from plait.overlay.fastdp.datapath import pins_of
from plait.overlay.fastdp.tables import ID, Neighbour, NextHop, Via, mac_key
from plait.testing.lab import Host, LabError

CONTAINERS_EACH = 16
"""Addresses that are learned of, and announced by, each of the other hosts."""

_LEARNED = Struct("=QHHI")  # struct learned of bpf/layout.h
_LEARNED_PEER = 2
_LATER = 86_400  # seconds; else the node would forget the learned addresses after ten minutes
_NETWORK = bytes((10, 98))  # of hosts that are not there; the lab's are in 10.99.0.0/16

Entries = Mapping[str, Sequence[tuple[bytes, bytes]]]


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """What a node's tables have: our short id and the others' ways, of which `way` is the one that is imitated."""

    taken: Collection[int]
    way: NextHop


class Crowd(Plait):
    """Two nodes with direct encapsulation, and in their tables as many hosts more as make `peers` of each node."""

    def __init__(self, peers: int) -> None:
        super().__init__(DIRECT)
        self._peers = peers
        self._is_filled = False

    def is_settled(self) -> bool:
        """Say whether the nodes are, and fill their tables once they are."""
        if not super().is_settled():
            return False
        if not self._is_filled:
            for host in self.hosts:
                fill(host, self._peers - 1)
            self._is_filled = True
        return True


def fill(host: Host, count: int) -> None:
    """Enter so many hosts that are not there into the tables of a host's node. Raise LabError, PlaitError."""
    pins = pins_of(Path(host.environment()["PLAIT_STATE_DIR"]))
    with Map.open_pinned(pins / "nexthops") as nexthops, Map.open_pinned(pins / "conf") as conf:
        ways = {ID.unpack(key)[0]: NextHop.unpack(value) for key, value in nexthops.items()}
        ours = [ID.unpack(value[: ID.size])[0] for _, value in conf.items()]
    used = {short_id: way for short_id, way in ways.items() if way.via is Via.VXLAN}
    if not used:
        raise LabError(f"the node on {host.name} has no way by VXLAN that could be imitated")
    neighbourhood = Neighbourhood({*used, *ours}, next(iter(used.values())))
    for name, items in entries(neighbourhood, count, time.monotonic()).items():
        with Map.open_pinned(pins / name) as each:
            each.update_many(items)


def entries(neighbourhood: Neighbourhood, count: int, now: float) -> Entries:
    """Give what so many more hosts add to each map; `now`: seconds, CLOCK_MONOTONIC."""
    ids = [each for each in range(SHORT_IDS) if each not in neighbourhood.taken][:count]
    seen = round((now + _LATER) * 1e9)
    macs = [(mac, short_id) for short_id in ids for mac in _macs(short_id)]
    ways = {short_id: _way(neighbourhood.way, short_id) for short_id in ids}
    return {
        "nexthops": [(ID.pack(short_id), way.pack()) for short_id, way in ways.items()],
        "neighbours": [
            (socket.inet_aton(way.remote), Neighbour(way.local, short_id).pack()) for short_id, way in ways.items()
        ],
        "learned": [(mac, _LEARNED.pack(seen, short_id, _LEARNED_PEER, 0)) for mac, short_id in macs],
        "announced": [(mac, ID.pack(short_id)) for mac, short_id in macs],
    }


def _way(imitated: NextHop, short_id: int) -> NextHop:
    return replace(imitated, hop=short_id, remote=socket.inet_ntoa(_NETWORK + short_id.to_bytes(2, "big")))


def _macs(short_id: int) -> Iterator[bytes]:
    for number in range(CONTAINERS_EACH):
        yield mac_key(b"\x0a\x00\x00" + short_id.to_bytes(2, "big") + bytes((number,)))
