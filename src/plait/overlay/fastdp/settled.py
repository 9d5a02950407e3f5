"""What stayed as it is for a while, by key; pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(slots=True)
class _Entry(Generic[_Value]):
    value: _Value
    since: float
    settled: _Value | None = None
    """The last one before `value` that stayed long enough."""


class Settled(Generic[_Key, _Value]):
    """Follows a mapping and knows the last value of each key that stayed for `patience` seconds."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._entries: dict[_Key, _Entry[_Value]] = {}

    def adopt(self, mapping: Mapping[_Key, _Value]) -> None:
        """Begin with values that are settled."""
        self._entries = {key: _Entry(value, float("-inf")) for key, value in mapping.items()}

    def follow(self, mapping: Mapping[_Key, _Value], now: float) -> None:
        """Take note of what the mapping says now; a key that it lacks is forgotten."""
        for key, value in mapping.items():
            entry = self._entries.get(key)
            if entry is None or entry.value != value:
                self._entries[key] = _Entry(value, now, self.get(key, now))
        for key in self._entries.keys() - mapping.keys():
            del self._entries[key]

    def get(self, key: _Key, now: float) -> _Value | None:
        """Give the settled value of a key; None if it has none."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        return entry.value if now - entry.since >= self._patience else entry.settled

    def items(self, now: float) -> Iterator[tuple[_Key, _Value]]:
        """Give all keys that have a settled value, with it."""
        for key in self._entries:
            value = self.get(key, now)
            if value is not None:
                yield key, value
