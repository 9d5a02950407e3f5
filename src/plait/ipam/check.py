"""What is wrong with the addresses of this node: what it gave, what its containers have, and who owns the rest.

Pure: takes what is, gives findings.
"""

from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

from plait.ipam.address import Cidr, InvalidAddress, text
from plait.ipam.allocator import Allocator
from plait.mesh.name import PeerName


class Finding(NamedTuple):
    """One thing that is wrong, and what to do about it."""

    what: str
    cure: str


class Use(NamedTuple):
    """An address that a container, or this host, has. `place` tells namespaces apart: one may have several names."""

    ident: str
    place: str
    cidr: str


def check(
    allocator: Allocator | None, uses: Iterable[Use], known: Container[PeerName], overlap: str | None
) -> Iterator[Finding]:
    """Give all that is wrong. `known` are the peers in the mesh, `overlap` a sentence about routes of the host."""
    uses = list(uses)
    if overlap is not None:
        yield Finding(overlap, "launch all peers with another --ipalloc-range, or take that route away")
    yield from _doubles(uses)
    if allocator is not None:
        yield from _not_given(allocator, uses)
        yield from _lost_ranges(allocator, known)


def _doubles(uses: list[Use]) -> Iterator[Finding]:
    first: dict[str, Use] = {}
    for use in uses:
        address = use.cidr.partition("/")[0]
        other = first.setdefault(address, use)
        if other.place != use.place:
            yield Finding(
                f"the address {address} is that of {other.ident} and of {use.ident}",
                f"'plait detach {use.cidr} {use.ident}', and attach it without an address",
            )


def _not_given(allocator: Allocator, uses: list[Use]) -> Iterator[Finding]:
    for use in uses:
        address = _ipv4(use.cidr)
        if address is None or address not in allocator.universe.range:
            continue
        owner, holder = allocator.ring.owner(address), allocator.records.holder(address)
        if not allocator.ring.is_empty and owner != allocator.us:
            whose = f"which peer {allocator.nicknames.annotated([owner])[1:-1]} owns and may give to others"
        elif holder is None:
            whose = "which this node has not given to anybody, and may give to others"
        elif holder != use.ident:
            whose = f"which was given to {holder}"
        else:
            continue
        yield Finding(
            f"{use.ident} has the address {text(address)}, {whose}",
            f"'plait detach {use.cidr} {use.ident}', and attach it without an address",
        )


def _lost_ranges(allocator: Allocator, known: Container[PeerName]) -> Iterator[Finding]:
    lost: dict[PeerName, int] = {}
    for piece in allocator.ring.all_ranges():
        if piece.peer not in known:
            lost[piece.peer] = lost.get(piece.peer, 0) + piece.range.size
    for peer, size in lost.items():
        label = f"{peer}{allocator.nicknames.suffix(peer)}"
        yield Finding(
            f"{size} addresses are owned by peer {label}, which is not in the network",
            f"connect it again; if it is gone for good, 'plait rmpeer {peer}' here, and on no other peer",
        )


def _ipv4(cidr: str) -> int | None:
    try:
        return Cidr.parse(cidr).address
    except InvalidAddress:
        return None
