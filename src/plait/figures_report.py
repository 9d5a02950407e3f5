"""The part of a report that is about figures: numbers of the rooms that only `/metrics` tells."""

from collections.abc import Iterable

from plait.api.figures import AddressFigures, Figures, PathFigures
from plait.api.model import Names
from plait.ipam.allocator import Allocator
from plait.mesh.router import Router
from plait.overlay import pmtu
from plait.overlay.fastdp.session import ENCRYPTED, FastdpSession
from plait.overlay.live import LiveConnection
from plait.overlay.manager import OverlayManager
from plait.overlay.sleeve.plait1.session import Plait1Session
from plait.overlay.switch import Choice
from plait.problems import Problem, count_kinds

MTU_SOURCES = {
    pmtu.ASSUMED: "assumed",
    pmtu.ACKNOWLEDGED: "acknowledged",
    pmtu.HINTED: "hinted",
    pmtu.LOWERED: "interface",
    pmtu.BLACK_HOLE: "black_hole",
    pmtu.KEPT: "kept",
}
"""A word for each reason of a path's MTU that plait nodes find out."""

OTHER_SOURCE = "other"
"""For the reasons of Weave's formats."""

MEANT_SO = "encrypted"
"""Why a connection is in user space, if a password keeps it out of the kernel: no failure."""

CHOICES = (*Choice, MEANT_SO)


def build_figures(
    problems: Iterable[Problem],
    router: Router,
    overlays: OverlayManager,
    allocator: Allocator | None,
    names: Names | None,
) -> Figures:
    """Give the figures; without an allocator and names theirs are absent."""
    live = [overlays.get(link.id) for link in sorted(router.links, key=lambda link: link.peer)]
    return Figures(
        problems=count_kinds(problems),
        paths=[_path(each) for each in live if each is not None],
        falls=overlays.falls,
        channels=router.channel_count,
        addresses=None if allocator is None else _addresses(allocator),
        names=None if names is None else names.figures(),
    )


def _path(live: LiveConnection) -> PathFigures:
    session = live.session
    quality = session.quality if isinstance(session, Plait1Session | FastdpSession) else None
    measured = [each.path for each in live.sessions if isinstance(each, Plait1Session | FastdpSession)]
    is_meant_so = live.switch.choice is Choice.BETTER_FAILED and live.fastdp and live.fastdp.failure == ENCRYPTED
    return PathFigures(
        peer=str(live.link.peer),
        user_overlay=None if live.user is None else live.overlay,
        choice=MEANT_SO if is_meant_so else live.switch.choice,
        mtu_source=MTU_SOURCES.get(session.mtu_source, OTHER_SOURCE),
        jitter=None if quality is None else quality.jitter,
        black_holes=sum(path.black_holes for path in measured),
    )


def _addresses(allocator: Allocator) -> AddressFigures:
    return AddressFigures(
        owned=sum(piece.size for piece in allocator.ring.owned()),
        free=allocator.space.free.size,
        agreed=not allocator.ring.is_empty,
        suspended=not allocator.may_give(),
        reclaimed=0 if allocator.guard is None else allocator.guard.taken,
        electors=0 if allocator.guard is None else allocator.guard.electors,
    )
