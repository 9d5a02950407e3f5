"""Asks the rooms how each peer is reached, has that judged, and tells what changed."""

import asyncio
import logging
from collections.abc import Iterator

from plait.chronicle import Chronicle
from plait.config import Config
from plait.health import Fault, Health, Hole, Path, Peer, PeerHealth, Since, State, judge, sentence
from plait.history import Kind
from plait.ipam.service import AddressService
from plait.ipam_report import waiting
from plait.liaison import Liaison
from plait.mesh.links import Link
from plait.mesh.name import UNKNOWN_PEER, PeerName
from plait.mesh.router import Router
from plait.overlay.fastdp.session import ENCRYPTED, FastdpSession
from plait.overlay.live import LiveConnection, ports_in_words
from plait.overlay.manager import OverlayManager
from plait.overlay.sleeve.plait1.session import Plait1Session
from plait.overlay.switch import Choice
from plait.pulse import Pulse
from plait.supervisor import REPORT_IT, Supervisor
from plait.troubles import SHOWN_SECONDS

INTERVAL = 1.0
"""Seconds between two judgements."""


class Watching:
    """Of one node."""

    def __init__(
        self,
        config: Config,
        router: Router,
        overlays: OverlayManager,
        liaison: Liaison,
        addresses: AddressService | None,
        supervisor: Supervisor,
        pulse: Pulse,
        chronicle: Chronicle,
    ) -> None:
        self._config = config
        self._router = router
        self._overlays = overlays
        self._liaison = liaison
        self._addresses = addresses
        self._supervisor = supervisor
        self._pulse = pulse
        self._chronicle = chronicle
        self._since = Since()
        self._mtus: dict[PeerName, int] = {}

    async def keep_watching(self) -> None:
        """Judge again and again, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            self.health()
            self._tell_mtus()

    def health(self) -> Health:
        """Give the health as of now; of the node's own parts as of the pulse's last look."""
        now = asyncio.get_running_loop().time()
        found = judge(self._peers(now), [*self._pulse.faults, *self._faults()], now, has_met=self._liaison.has_met)
        found, changed = self._since.date(found, now)
        for peer in changed:
            self._tell(peer)
        return found

    def _tell(self, peer: PeerHealth) -> None:
        level = logging.INFO if peer.state is State.OK else logging.WARNING
        self._chronicle.note(Kind.HEALTH_CHANGED, sentence(peer), peer=peer.name, cure=peer.cure, level=level)

    def _tell_mtus(self) -> None:
        """Tell of path MTUs that are another than before, once a search has ended."""
        found = {}
        for link, live in self._established():
            session = live.session
            is_settled = not isinstance(session, Plait1Session | FastdpSession) or not session.path.is_searching
            before = self._mtus.get(link.peer)
            mtu = session.path_mtu if is_settled else before
            if mtu is None:
                continue
            found[link.peer] = mtu
            if mtu != before:
                label = self._router.peers.label(link.peer)
                was = "" if before is None else f", it was {before}"
                what = f"the path to {label} carries {mtu} bytes{was}: {session.mtu_source}"
                self._chronicle.note(Kind.MTU_CHANGED, what, peer=link.peer)
        self._mtus = found

    def _established(self) -> Iterator[tuple[Link, LiveConnection]]:
        for link in self._router.links:
            live = self._overlays.get(link.id)
            if live is not None and link.established_at is not None:
                yield link, live

    def _faults(self) -> Iterator[Fault]:
        for name, why in self._supervisor.dead.items():
            yield Fault(f"the node's part {name!r} is dead ({why})", f"it is started again; {REPORT_IT}")
        stuck = None if self._addresses is None else waiting(self._addresses)
        if stuck is not None:
            yield Fault(*stuck)

    def _peers(self, now: float) -> Iterator[Peer]:
        peers, routes = self._router.peers, self._router.routes
        failures = {status.address: status.error for status in self._router.maker.targets() if status.error}
        for name in sorted(peers):
            if name == self._router.our_name:
                continue
            obstacle = self._obstacle(name, failures)
            hop = routes.unicast(name)
            link = None if hop in (None, UNKNOWN_PEER) else self._router.links.to(hop)
            live = None if link is None else self._overlays.get(link.id)
            if hop is None or link is None or live is None:
                yield Peer(str(name), peers.label(name), obstacle=obstacle)
            else:
                yield Peer(str(name), peers.label(name), peers.label(hop), self._path(live, now), obstacle)
        for name, lost in self._liaison.lost.items():
            if name not in peers and now < lost.at + SHOWN_SECONDS:
                yield Peer(str(name), lost.label, obstacle=lost.why)
        named = self._router.maker.direct_addresses()
        for address, error in failures.items():
            if address in named:
                yield Peer("", address, obstacle=error)

    def _obstacle(self, name: PeerName, failures: dict[str, str]) -> str:
        """Say why there is no connection of our own; what it says of `failures` is taken from there."""
        link = self._router.links.to(name)
        if link is not None:
            live = self._overlays.get(link.id)
            if link.established_at is not None or live is None:
                return ""
            return f"no frames pass yet: {'; '.join(session.state for session in live.sessions)}"
        ends = {
            connection.address
            for record in self._router.peers.records()
            for connection in record.connections
            if connection.remote == name and connection.outbound
        }
        errors = [failures.pop(address) for address in sorted(ends & failures.keys())]
        lost = self._liaison.lost.get(name)
        return errors[0] if errors else "" if lost is None else lost.why

    def _path(self, live: LiveConnection, now: float) -> Path:
        session, choice = live.session, live.switch.choice
        is_meant_so = choice is Choice.BETTER_FAILED and live.fastdp is not None and live.fastdp.failure == ENCRYPTED
        is_fallen = choice in (Choice.BETTER_UNHEALTHY, Choice.BETTER_FAILED) and not is_meant_so
        silence, patience = live.silence(now) or (None, 0.0)
        loss, hole = None, None
        if isinstance(session, Plait1Session | FastdpSession):
            loss, found = session.quality.loss, session.path.hole
            hole = None if found is None else Hole(found.size, session.path.mtu, found.at)
        return Path(
            overlay=live.switch.best,
            trouble=live.switch.reason if is_fallen or choice is Choice.NOTHING_WORKS else "",
            silence=silence,
            patience=patience,
            loss=loss,
            hole=hole,
            port=ports_in_words(self._config.port, live.sessions),
        )
