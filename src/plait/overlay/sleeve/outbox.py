"""What the node wants of its pump, and what the pump was not told yet. Pure: supervisor.py carries the messages.

Connections, paths, routes and the MTU are desired state: a newer wish replaces an older one that waits, and a new
pump is told everything. Special frames and probes are events: a pump that does not listen misses some.
"""

import msgspec

from plait.overlay.sleeve import ipc

SEQUENCES_PER_PUMP = 1 << 48
"""Sequence numbers reserved for each pump under one key: 8 years at 1 million datagrams a second, 2**15 pumps."""

MAX_WAITING_EVENTS = 1024
"""Special frames and probes for a pump that does not listen; each peer makes some 30 within its first second."""

_Key = tuple[str, int]
_ROUTES: _Key = ("routes", 0)
_KERNEL: _Key = ("kernel", 0)
_ANNOUNCED: _Key = ("announced", 0)
_LOCAL_MTU: _Key = ("local mtu", 0)
_STATS: _Key = ("stats", 0)


class Outbox:
    """Takes messages for the pump with `put`, gives the next one to send with `take`."""

    def __init__(self) -> None:
        self.dropped = 0
        """Events that found no room."""
        self._wanted: dict[_Key, ipc.ToPump] = {}
        self._waiting: dict[_Key, ipc.ToPump] = {}
        self._events = 0
        self._event_number = 0

    def put(self, message: ipc.ToPump) -> None:
        """Take a message. The sequence numbers of a SetConnection are the outbox's business."""
        match message:
            case ipc.SetConnection(peer):
                self._forget(("path", peer), ("generation", peer))
                self._want(("connection", peer), self._renewed(message))
            case ipc.SetPath(peer):
                if ("connection", peer) in self._wanted:
                    self._want(("path", peer), message)
            case ipc.SetGeneration(peer):
                if ("connection", peer) in self._wanted:
                    self._want(("generation", peer), message)
            case ipc.RemoveConnection(peer):
                self._forget(("connection", peer), ("path", peer), ("generation", peer))
                self._waiting["connection", peer] = message
            case ipc.SetRoutes():
                self._want(_ROUTES, message)
            case ipc.SetKernel():
                self._want(_KERNEL, message)
            case ipc.SetAnnounced():
                self._want(_ANNOUNCED, message)
            case ipc.SetLocalMtu():
                self._want(_LOCAL_MTU, message)
            case ipc.QueryStats():
                self._waiting[_STATS] = message
            case ipc.SendSpecial() | ipc.SendProbe():
                self._put_event(message)

    def take(self) -> ipc.ToPump | None:
        """Give the message that waits longest, None if none does."""
        if not self._waiting:
            return None
        key = next(iter(self._waiting))
        if key[0] == "event":
            self._events -= 1
        return self._waiting.pop(key)

    def start_over(self) -> None:
        """A new pump knows nothing: tell it everything that is wanted, with sequence numbers no pump used before."""
        for key, message in self._wanted.items():
            if isinstance(message, ipc.SetConnection):
                self._wanted[key] = _with_next_sequences(message)
        self._waiting = dict(self._wanted)
        self._events = 0

    def _forget(self, *keys: _Key) -> None:
        for key in keys:
            self._wanted.pop(key, None)
            self._waiting.pop(key, None)

    def _want(self, key: _Key, message: ipc.ToPump) -> None:
        self._wanted.pop(key, None)
        self._wanted[key] = self._waiting[key] = message

    def _renewed(self, message: ipc.SetConnection) -> ipc.SetConnection:
        """Go on where an earlier message with the same key began, one reserve further."""
        earlier = self._wanted.get(("connection", message.peer))
        if isinstance(earlier, ipc.SetConnection) and message.key is not None and earlier.key == message.key:
            return _with_next_sequences(msgspec.structs.replace(message, first_sequence=earlier.first_sequence))
        return message

    def _put_event(self, message: ipc.SendSpecial | ipc.SendProbe) -> None:
        if self._events >= MAX_WAITING_EVENTS:
            self.dropped += 1
            return
        self._events += 1
        self._event_number += 1
        self._waiting["event", self._event_number] = message


def _with_next_sequences(message: ipc.SetConnection) -> ipc.SetConnection:
    return msgspec.structs.replace(message, first_sequence=message.first_sequence + SEQUENCES_PER_PUMP)
