"""A map that is to hold what its owner wants: only differences are written, and refusals are not forgotten."""

from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

from plait.host.bpf.maps import Map
from plait.host.bpf.spec import MapKind

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class MapMirror(Generic[K, V]):
    """Nobody else writes the map. `held` is what it holds, of an array what is not all zeros."""

    def __init__(
        self,
        into: Map,
        pack_key: Callable[[K], bytes],
        unpack_key: Callable[[bytes], K],
        pack: Callable[[V], bytes],
        unpack: Callable[[bytes], V],
    ) -> None:
        """Begin with what the map holds now. Raises PlaitError."""
        self._map = into
        self._pack_key = pack_key
        self._pack = pack
        self.held: dict[K, V] = {
            unpack_key(key): unpack(value) for key, value in into.items() if not self._is_array or any(value)
        }

    @property
    def max_entries(self) -> int:
        """How many there is room for."""
        return self._map.max_entries

    def set(self, wanted: Mapping[K, V]) -> None:
        """Hold this and nothing else. Raises PlaitError; then some is written, and the next call writes the rest."""
        held = self.held
        for key in held.keys() - wanted.keys():  # first, so that there is room
            self._remove(self._pack_key(key))
            del held[key]
        for key, value in wanted.items():
            if held.get(key) != value:
                self._map.update(self._pack_key(key), self._pack(value))
                held[key] = value

    @property
    def _is_array(self) -> bool:
        return self._map.kind is MapKind.ARRAY

    def _remove(self, key: bytes) -> None:
        if self._is_array:
            self._map.update(key, bytes(self._map.value_size))
        else:
            self._map.delete(key)
