"""Requests that may have to wait: for the first ring, or until another peer gives some of its space.

Each is tried when it comes, at every change of the ring, and at every tick. `attempt` says whether it is over.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plait.errors import PlaitError
from plait.ipam.actions import Cancelled, Refused, RequestId
from plait.ipam.address import Cidr, Range, text
from plait.ipam.records import ANONYMOUS
from plait.ipam.space import SpaceError
from plait.mesh.name import UNKNOWN_PEER, PeerName

if TYPE_CHECKING:
    from plait.ipam.allocator import Allocator

MAX_CLAIM_TRIES = 5
"""How often a claim is retried while its owner cannot be reached (spec: ipam 19)."""


@dataclass(slots=True)
class Allocate:
    """Any free address of a subnet."""

    request: RequestId
    ident: str
    subnet: Cidr
    is_container: bool

    def __str__(self) -> str:
        return f"{self.ident} {self.subnet}"

    def attempt(self, allocator: "Allocator") -> bool:
        """Give what the ident has already, or the lowest free address, or ask for space."""
        held = [cidr for cidr in allocator.records.within(self.ident, self.subnet.range) if allocator.may_use(cidr)]
        if held:
            allocator.revive(self.ident)
            allocator.reply(self.request, held[0].address)
            return True
        if not allocator.universe.range.overlaps(self.subnet.range):
            allocator.reply(self.request, Refused(f"range {self.subnet} out of bounds: {allocator.universe}"))
            return True
        allocator.establish()
        if not allocator.may_give():
            return False
        address = allocator.space.allocate(self.subnet.host_range)
        if address is not None:
            allocator.record(self.ident, Cidr(address, self.subnet.prefix_length), self.is_container)
            allocator.reply(self.request, address)
            return True
        allocator.ask_for_space(self.subnet.range)
        return False

    def cancel(self, allocator: "Allocator") -> None:
        """End it without an answer."""
        allocator.reply(self.request, Cancelled(f"Allocate request for {self.ident} cancelled"))


@dataclass(slots=True)
class Claim:
    """One given address. `request` is None when nobody waits: claims of what was found at the start, or answered."""

    request: RequestId | None
    ident: str
    cidr: Cidr
    is_container: bool
    no_error_on_unknown: bool = False
    tries: int = 0

    def __str__(self) -> str:
        return f"{self.ident} {self.cidr}"

    def attempt(self, allocator: "Allocator") -> bool:
        """Take the address, or ask its owner for it; its owner may be unknown still."""
        self.tries += 1
        if self.cidr.address not in allocator.universe.range:
            self._answer(allocator, self._take_outside(allocator))
            return True
        allocator.establish()
        allocator.revive(self.ident)
        owner = allocator.ring.owner(self.cidr.address)
        if owner == allocator.us:
            if allocator.records.holder(self.cidr.address) is None and not allocator.may_give():
                return False
            self._answer(allocator, self._take(allocator))
            return True
        if owner == UNKNOWN_PEER:
            trouble: str | None = "no ring"
        else:
            trouble = allocator.request_space(owner, Range(self.cidr.address, self.cidr.address + 1))
        if trouble is None:
            return False
        if self.no_error_on_unknown:
            self._answer(allocator, None)
        elif owner != UNKNOWN_PEER and self.tries > MAX_CLAIM_TRIES:
            self.deny(allocator, owner, f" - {trouble}")
            return True
        return False

    def deny(self, allocator: "Allocator", owner: PeerName, reason: str = "") -> None:
        """End it: another peer keeps the address."""
        known_as = allocator.nicknames.suffix(owner, " ")
        error = Refused(f"address {self.cidr} is owned by other peer {owner}{known_as}{reason}")
        self._answer(allocator, error)

    def cancel(self, allocator: "Allocator") -> None:
        """End it without an answer."""
        self._answer(allocator, Cancelled(f"Claim request for {self.ident} cancelled"))

    def _take_outside(self, allocator: "Allocator") -> PlaitError | None:
        """Record an address that nobody allocates."""
        holder = allocator.records.holder(self.cidr.address)
        if holder is not None:
            if self.ident in (holder, ANONYMOUS):
                return None
            if not allocator.is_dead(holder):
                return Refused(f"address {self.cidr} already in use by {holder}")
            allocator.records.remove(holder, self.cidr.address)
        allocator.record(self.ident, self.cidr, self.is_container)
        return None

    def _take(self, allocator: "Allocator") -> PlaitError | None:
        """Take an address of our own space."""
        holder = allocator.records.holder(self.cidr.address)
        if holder is None:
            try:
                allocator.space.claim(self.cidr.address)
            except SpaceError as error:
                return error
            allocator.record(self.ident, self.cidr, self.is_container)
            return None
        if self.ident in (holder, ANONYMOUS):
            # An anonymous claim may come from the very container that holds it; nothing proves otherwise.
            return None
        if holder == text(self.cidr.address):
            return Refused(f"address {self.cidr} already in use")
        return Refused(f"address {self.cidr} is already owned by {holder}")

    def _answer(self, allocator: "Allocator", result: PlaitError | None) -> None:
        if self.request is not None:
            allocator.reply(self.request, result)
            self.request = None
        elif result is not None:
            allocator.warn(
                f"the address {self.cidr} of {self.ident} is in use here but could not be claimed: {result}; "
                "give that container another address"
            )


@dataclass(slots=True)
class Prime:
    """Wait until there is a ring."""

    request: RequestId

    def attempt(self, allocator: "Allocator") -> bool:
        """See whether there is one, or work towards it."""
        if not allocator.ring.is_empty:
            allocator.reply(self.request, None)
            return True
        allocator.establish()
        return False

    def cancel(self, allocator: "Allocator") -> None:
        """Waiting for a ring ends well in any case."""
        allocator.reply(self.request, None)
