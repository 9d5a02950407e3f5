"""What a report says of address allocation."""

from collections.abc import Container

from msgspec import UNSET, UnsetType

from plait.api import model
from plait.ipam.address import text
from plait.ipam.service import AddressService
from plait.mesh.name import PeerName


def build_ipam(addresses: AddressService | None, known: Container[PeerName]) -> model.Ipam | UnsetType:
    """Give Weave's part about addresses, with the peers that are known in the mesh; absent without an allocator."""
    if addresses is None:
        return UNSET
    allocator = addresses.allocator
    nicknames = allocator.nicknames.copy()
    return model.Ipam(
        paxos=_paxos(addresses),
        range=str(allocator.universe),
        range_num_ips=allocator.universe.range.size,
        active_ips=allocator.space.ours.size,
        default_subnet=str(addresses.default_subnet),
        entries=[
            model.IpamEntry(
                token=text(piece.range.start),
                size=piece.range.size,
                peer=str(piece.peer),
                nickname=nicknames.get(piece.peer, ""),
                is_known_peer=piece.peer in known,
                version=piece.version,
            )
            for piece in allocator.ring.all_ranges()
        ]
        or None,
        pending_claims=[
            model.PendingClaim(
                ident=claim.ident,
                cidr=model.PendingCidr(addr=text(claim.cidr.address), prefix_len=claim.cidr.prefix_length),
            )
            for claim in allocator.waiting.claims
        ]
        or None,
        pending_allocates=[str(each) for each in allocator.waiting.allocates] or None,
    )


def waiting(addresses: AddressService) -> tuple[str, str] | None:
    """Say who waits for an address, what for, and what helps; None if nobody does."""
    allocator = addresses.allocator
    idents = [each.ident for each in allocator.waiting.allocates]
    idents += [claim.ident for claim in allocator.waiting.claims if claim.request is not None]
    if not idents:
        return None
    who = f"{idents[0]} waits" if len(idents) == 1 else f"{idents[0]} and {len(idents) - 1} more wait"
    what = f"{who} for an address of {allocator.universe}"
    if not allocator.ring.is_empty and not allocator.may_give():
        return (
            f"{what}: this node may give out none now, as others may take its addresses over (--reclaim-after)",
            "bring it together with the peers that it misses: see the other problems",
        )
    if not allocator.ring.is_empty:
        return (
            f"{what}: none is free here, and other peers have been asked for some of theirs",
            "detach containers that need none, take over the ranges of dead peers with 'plait rmpeer NAME', "
            "or use a larger --ipalloc-range on all peers",
        )
    known = allocator.knowledge
    if known is None:
        return f"{what}: this node observes, and no peer has told how the range is divided", "connect it to the others"
    return (
        f"{what}: {allocator.quorum} peers must agree on how to divide the range, and {len(known)} are heard of",
        "launch the other peers and connect to them, or launch with --ipalloc-init consensus=N, N the number of peers",
    )


def _paxos(addresses: AddressService) -> model.Paxos | None:
    allocator = addresses.allocator
    if not allocator.ring.is_empty or not allocator.is_awaiting_consensus:
        return None
    known = allocator.knowledge
    return model.Paxos(elector=known is not None, known_nodes=len(known or ()), quorum=allocator.quorum)
