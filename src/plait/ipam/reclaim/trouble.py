"""What an operator is told about leases and heirs: why addresses wait, and why ranges are not reclaimed. Pure."""

from collections.abc import Iterator

from plait.ipam.reclaim.core import Reclaim
from plait.ipam.reclaim.owner import MIN_ELECTORS
from plait.ipam.reclaim.world import Estate, Instant

Trouble = tuple[str, str, str]
"""A key, a sentence and a cure."""


def why_not(core: Reclaim, estate: Estate, owner: str, now: Instant) -> str | None:
    """Say why a peer's ranges cannot be reclaimed by us now, None if that can be tried."""
    vote = core.voter.votes.get(owner)
    if owner in estate.members():
        return "not reclaimed: it is in the network; stop it, or let it leave by itself with 'plait reset'"
    if not core.after:
        return "not reclaimed: this node runs without --reclaim-after; --force takes them over without asking others"
    if vote is None or not vote.holds:
        return (
            "not reclaimed: this node is none of those that it chose to decide about it, or it ran without "
            "--reclaim-after; --force takes them over without asking others"
        )
    left = core.voter.wait_left(owner, now)
    if left > 0 and not vote.is_bound:
        return f"not reclaimed: it may still give out addresses for {left:.0f} s, as it was heard of or this node began"
    return None


def troubles(core: Reclaim, estate: Estate, now: Instant) -> Iterator[Trouble]:
    """Give all that is wrong."""
    if core.is_off:
        return
    if estate.owners():
        yield from _suspension(core, now)
    if core.after:
        yield from _differences(core)
        yield from _hindrances(core, estate)


def _suspension(core: Reclaim, now: Instant) -> Iterator[Trouble]:
    own = core.owner.own
    if core.may_give(now):
        return
    key = "suspended"
    if own is None:
        yield (
            key,
            "no addresses are given out: a majority of the peers that own addresses must first say that they know of "
            "no earlier life of this node",
            "connect it to the others; see 'plait status ipam' for who owns addresses",
        )
    elif own.reclaimed_by:
        yield (
            key,
            f"no addresses are given out: while this node was away its addresses went to peer {own.reclaimed_by}, "
            "which has not confirmed yet that it takes no more",
            f"connect it to {own.reclaimed_by}; if that peer is gone for good, 'plait reset' and launch again",
        )
    else:
        heard = core.owner.renewers(now)
        missing = sorted({*own.in_force.electors} - heard)
        yield (
            key,
            f"no addresses are given out: for {own.in_force.after:g} s (--reclaim-after) this node has heard of "
            f"{len(heard)} of the {len(own.in_force.electors)} peers that decide about it, itself included, which is "
            "no majority; the others may take its addresses over",
            f"bring it together with {', '.join(missing)}; if they are gone for good, 'plait reset' and launch again",
        )


def _differences(core: Reclaim) -> Iterator[Trouble]:
    others = {peer: after for peer, after in core.durations().items() if after != core.after}
    if others:
        told = ", ".join(f"{peer} {f'{after:g} s' if after else 'none'}" for peer, after in sorted(others.items()))
        yield (
            "durations",
            f"--reclaim-after differs: {core.after:g} s here, and of others {told}; such peers do not decide about "
            "each other",
            "launch all with the same --reclaim-after",
        )


def _hindrances(core: Reclaim, estate: Estate) -> Iterator[Trouble]:
    foreign = core.foreigners()
    if foreign:
        yield (
            "strangers",
            f"addresses of dead peers are not reclaimed by themselves while {', '.join(foreign)} is in the network: "
            "it is a Weave router, or an older plait",
            "replace it, or use 'plait ipam reclaim' by hand",
        )
    own = core.owner.own
    if own is not None and not core.may_have_heir and len(estate.members()) + 1 < MIN_ELECTORS:
        yield (
            "few",
            f"--reclaim-after has no effect: {MIN_ELECTORS} peers must be in the network, as of fewer none is a "
            "majority without the others",
            "launch more peers with it, or leave it out",
        )
