"""What users feel: can a frame reach each peer now, by which way, since when, and what is degraded and why.

Pure: judges what the rooms say at one moment; `Since` remembers when each answer began. Times are seconds of one clock.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

LOSS_LIMIT = 0.1
"""Part of the datagrams that may get lost until a path counts as degraded: three of the last 30 heartbeats."""

HOLE_SHOWN = 600.0
"""Seconds for which a black hole that was found makes a path degraded: it is avoided, but what is behind it is ill."""


class State(StrEnum):
    """Of a peer, or (without `unreachable`) of the node."""

    OK = "ok"
    DEGRADED = "degraded"
    UNREACHABLE = "unreachable"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Hole:
    """A black hole on a path: packets of `size` bytes passed and then vanished; `fits` is what passes now."""

    size: int
    fits: int
    at: float


@dataclass(frozen=True, slots=True)
class Path:
    """A connection of ours on which frames passed. `trouble`: why they do not go by the overlay that should have them.

    `silence`: seconds since the peer last proved that it hears us, None where that cannot be known (Weave's formats);
    `patience`: how many of them are normal. `loss` from 0 to 1, None if not measured.
    """

    overlay: str
    trouble: str = ""
    silence: float | None = None
    patience: float = 0.0
    loss: float | None = None
    hole: Hole | None = None
    port: str = ""
    """The UDP ports, in words."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer as the rooms know it. `hop` is the next hop's label, its own for a direct way, "" if there is no route.

    `path` is the connection with the hop. `obstacle`: why this node has no connection with the peer although it wants
    one, "" if it has one or wants none.
    """

    name: str
    label: str
    hop: str = ""
    path: Path | None = None
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """A part of the node itself that does not work. `is_fatal`: no frame, or no address, can be had because of it."""

    what: str
    cure: str
    is_fatal: bool = True


@dataclass(frozen=True, slots=True)
class PeerHealth:
    """The answer for one peer. `way`: "direct", "relayed" or "none"; `hop` who relays."""

    name: str
    label: str
    state: State
    way: str
    hop: str
    overlay: str
    why: str = ""
    cure: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Health:
    """The answer. `is_ready`: this node can serve its containers."""

    state: State
    is_ready: bool
    faults: Sequence[Fault]
    peers: Sequence[PeerHealth]
    since: float = 0.0


def judge(peers: Iterable[Peer], faults: Sequence[Fault], now: float, *, has_met: bool) -> Health:
    """Give the health at a moment. `has_met`: a connection with a peer stood once, so that to reach none is a
    failure; a node that never met one may be the first of its mesh.
    """
    judged = [_judge_peer(each, now) for each in peers]
    faults = list(faults)
    if has_met and judged and all(each.state is State.UNREACHABLE for each in judged):
        faults.append(
            Fault(f"no frame reaches any of the {len(judged)} other peers", "see the reason at each of them below")
        )
    is_ready = not any(fault.is_fatal for fault in faults)
    is_well = not faults and all(each.state is State.OK for each in judged)
    state = State.FAILING if not is_ready else State.OK if is_well else State.DEGRADED
    return Health(state, is_ready, faults, judged)


def _judge_peer(peer: Peer, now: float) -> PeerHealth:
    path = peer.path
    if not peer.hop or path is None:
        why = peer.obstacle or "no way leads to it: nobody whom this node reaches has a working connection with it"
        cure = "let TCP and UDP between the hosts through" if peer.obstacle else "look at 'plait status' there"
        return PeerHealth(peer.name, peer.label, State.UNREACHABLE, "none", "", "", why, cure)
    is_direct = peer.hop == peer.label
    state, why, cure = _judge_path(path, peer.hop, now)
    if state is State.OK and not is_direct and peer.obstacle:
        state, why = State.DEGRADED, f"no own connection with it: {peer.obstacle}"
        cure = "let TCP and UDP between the two hosts through; frames take the detour meanwhile"
    way, hop = ("direct", "") if is_direct else ("relayed", peer.hop)
    return PeerHealth(peer.name, peer.label, state, way, hop, path.overlay, why, cure)


def _judge_path(path: Path, hop: str, now: float) -> tuple[State, str, str]:
    if path.silence is not None and path.silence > path.patience:
        return (
            State.UNREACHABLE,
            f"{hop} has answered nothing on UDP for {path.silence:.0f} s",
            f"let UDP {path.port} through between the two hosts, both ways",
        )
    if path.hole is not None and now < path.hole.at + HOLE_SHOWN:
        hole = path.hole
        return (
            State.DEGRADED,
            f"MTU black hole on the path to {hop}: packets of {hole.size} bytes passed and now vanish without an ICMP "
            f"message; plait sends at most {hole.fits} bytes there",
            "let ICMP 'fragmentation needed' through, or raise the MTU of the narrow link",
        )
    if path.trouble:
        return State.DEGRADED, path.trouble, "the reason names it; frames go the slower way meanwhile"
    if path.loss is not None and path.loss >= LOSS_LIMIT:
        lost = f"{path.loss * 100:.0f} % of the datagrams to {hop} are lost"
        return State.DEGRADED, lost, "look for an overloaded or broken link, or a wrong duplex, between the two hosts"
    return State.OK, "", ""


_Known = tuple[tuple[State, str, str], float]


class Since:
    """Remembers since when each peer, and the node, is as it is."""

    def __init__(self) -> None:
        self._peers: dict[str, _Known] = {}
        self._node: tuple[State, float] | None = None

    def date(self, health: Health, now: float) -> tuple[Health, list[PeerHealth]]:
        """Give the same with `since` filled in, and the peers whose state or way is another than before.

        A peer that is seen for the first time and is well is no change.
        """
        changed = []
        peers = []
        before, self._peers = self._peers, {}
        for peer in health.peers:
            key = peer.name or peer.label
            what = (peer.state, peer.way, peer.hop)
            known = before.get(key)
            is_same = known is not None and known[0] == what
            since = known[1] if known is not None and is_same else now
            self._peers[key] = (what, since)
            dated = replace(peer, since=since)
            peers.append(dated)
            if not is_same and (known is not None or peer.state is not State.OK):
                changed.append(dated)
        if self._node is None or self._node[0] is not health.state:
            self._node = (health.state, now)
        return Health(health.state, health.is_ready, health.faults, peers, self._node[1]), changed


def sentence(peer: PeerHealth) -> str:
    """Say how a peer is."""
    by = f" by {peer.overlay}" if peer.overlay else ""
    reached = f"relayed through {peer.hop}{by}" if peer.way == "relayed" else f"reached directly{by}"
    if peer.state is State.OK:
        return f"{peer.label} is {reached}"
    if peer.state is State.UNREACHABLE:
        return f"{peer.label} is not reached: {peer.why}"
    return f"{peer.label} is {reached}, degraded: {peer.why}"
