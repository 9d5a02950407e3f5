"""Requests that wait, in order of arrival: retried in order of kind, so that a claim comes before allocations."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from plait.ipam.actions import RequestId
from plait.ipam.address import Range
from plait.ipam.requests import Allocate, Claim, Prime
from plait.mesh.name import PeerName

if TYPE_CHECKING:
    from plait.ipam.allocator import Allocator

_Request = TypeVar("_Request", Prime, Claim, Allocate)


class Waiting:
    """The three queues."""

    def __init__(self, allocator: "Allocator", claims: Iterable[Claim]) -> None:
        self.primes: list[Prime] = []
        self.claims: list[Claim] = list(claims)
        self.allocates: list[Allocate] = []
        self._allocator = allocator
        self._gone_clients: set[RequestId] = set()

    def __bool__(self) -> bool:
        return bool(self.primes or self.claims or self.allocates)

    def begin(self, request: _Request, queue: list[_Request]) -> None:
        """Try a new request; it waits if it is not over then."""
        if not request.attempt(self._allocator):
            queue.append(request)

    def client_gone(self, request: RequestId) -> None:
        """Note that nobody waits for a request any more."""
        waiting = [claim.request for claim in self.claims]
        waiting += [allocate.request for allocate in self.allocates]
        if request in waiting:
            self._gone_clients.add(request)

    def answered(self, request: RequestId) -> None:
        """Forget that its client went."""
        self._gone_clients.discard(request)

    def retry(self) -> None:
        """Try all again."""
        self._retry(self.primes)
        self.retry_claims()
        self._retry(self.allocates)

    def retry_claims(self) -> None:
        """Try the claims again."""
        self._retry(self.claims)

    def denied(self, wanted: Range, by: PeerName) -> None:
        """End the claims of addresses inside a range whose owner keeps it."""
        for claim in [claim for claim in self.claims if claim.cidr.address in wanted]:
            claim.deny(self._allocator, by)
            self.claims.remove(claim)

    def forget_claims(self, ident: str, address: int | None = None) -> None:
        """Drop what is still tried for an ident, of one address or of all, though nobody waits: it was released."""
        self.claims[:] = [
            claim
            for claim in self.claims
            if claim.request is not None or claim.ident != ident or address not in (None, claim.cidr.address)
        ]

    def cancel_of(self, ident: str) -> None:
        """End all requests of an ident."""
        self._cancel(self.allocates, [allocate for allocate in self.allocates if allocate.ident == ident])
        self._cancel(self.claims, [claim for claim in self.claims if claim.ident == ident])

    def cancel_all(self) -> None:
        """End all requests."""
        self._cancel(self.claims, list(self.claims))
        self._cancel(self.allocates, list(self.allocates))
        self._cancel(self.primes, list(self.primes))

    def _cancel(self, queue: list[_Request], ended: list[_Request]) -> None:
        for request in ended:
            request.cancel(self._allocator)
            queue.remove(request)

    def _retry(self, queue: list[_Request]) -> None:
        queue[:] = [request for request in queue if not self._is_over(request)]

    def _is_over(self, request: Prime | Claim | Allocate) -> bool:
        if request.request in self._gone_clients:
            request.cancel(self._allocator)
            return True
        return request.attempt(self._allocator)
