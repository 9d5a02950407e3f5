"""Which container holds which addresses, and the form in which that and the ring are kept over a restart."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from plait.ipam.address import Cidr, Range, text
from plait.ipam.ring import RingState
from plait.mesh.name import PeerName

ANONYMOUS = "_"
"""The ident of a request without one: what it gets is filed under the address itself."""


class Holding(NamedTuple):
    """Addresses of one ident, in order of recording. Only those of containers go when Docker says that it died."""

    is_container: bool
    cidrs: tuple[Cidr, ...]


class Snapshot(NamedTuple):
    """All that an allocator keeps; `ring.peer` is the name it had."""

    ring: RingState
    holdings: Mapping[str, Holding]

    def misfit(self, us: PeerName, universe: Cidr) -> str | None:
        """Say why this is of no use for a peer and a range, or None."""
        if self.ring.peer != us:
            return f"the stored addresses are dropped: they are of peer {self.ring.peer}, and this is {us}"
        if self.ring.limits != universe.range:
            return (
                f"the stored addresses are dropped: they divide {self.ring.limits.as_cidr_text()}, "
                f"and the range is now {universe}"
            )
        return None


class Records:
    """Idents and their addresses; an address is looked up as fast as an ident."""

    def __init__(self, holdings: Mapping[str, Holding] | None = None) -> None:
        self._holdings: dict[str, Holding] = dict(holdings or {})
        self._holders = {cidr.address: ident for ident, holding in self._holdings.items() for cidr in holding.cidrs}

    def __iter__(self) -> Iterator[tuple[str, Holding]]:
        return iter(list(self._holdings.items()))

    def copy(self) -> dict[str, Holding]:
        """Give all holdings, to keep."""
        return dict(self._holdings)

    def addresses(self) -> Iterable[int]:
        """Give all recorded addresses."""
        return self._holders.keys()

    def holder(self, address: int) -> str | None:
        """Tell who holds an address."""
        return self._holders.get(address)

    def is_container(self, ident: str) -> bool:
        """Tell whether something is recorded for a container of this ident."""
        holding = self._holdings.get(ident)
        return holding is not None and holding.is_container

    def within(self, ident: str, limits: Range) -> list[Cidr]:
        """Give an ident's addresses inside the limits, in order of recording."""
        holding = self._holdings.get(ident)
        return [cidr for cidr in holding.cidrs if cidr.address in limits] if holding else []

    def add(self, ident: str, cidr: Cidr, is_container: bool) -> None:
        """Record an address that nobody holds; the last writer says whether the ident is a container."""
        name = text(cidr.address) if ident == ANONYMOUS else ident
        before = self._holdings.get(name)
        self._holdings[name] = Holding(is_container, (*(before.cidrs if before else ()), cidr))
        self._holders[cidr.address] = name

    def remove(self, ident: str, address: int) -> bool:
        """Forget one address of an ident; tell whether it was there."""
        if self._holders.get(address) != ident:
            return False
        del self._holders[address]
        holding = self._holdings[ident]
        cidrs = tuple(cidr for cidr in holding.cidrs if cidr.address != address)
        if cidrs:
            self._holdings[ident] = holding._replace(cidrs=cidrs)
        else:
            del self._holdings[ident]
        return True

    def remove_all(self, ident: str) -> tuple[Cidr, ...]:
        """Forget an ident; gives what it held."""
        holding = self._holdings.pop(ident, None)
        if holding is None:
            return ()
        for cidr in holding.cidrs:
            self._holders.pop(cidr.address, None)
        return holding.cidrs
