"""One plait1 connection to a neighbour: probes, "established", the path's MTU, what the path is like.

Decides when to say what; it sends nothing, reads no clock and sees no frame of a container (docs/protocol/sleeve2.md,
section 6). Nothing is ever sent above the interface's MTU (spec: ufo-bug, section 4).
"""

import errno as e
import os
from math import inf

from plait.overlay.outer import ip_udp_bytes
from plait.overlay.pmtu import PathMtu
from plait.overlay.quality import SUSPICION_INTERVAL, PathQuality
from plait.overlay.sleeve.actions import (
    Action,
    Established,
    QueryInterfaceMtu,
    RenewKeys,
    SendControl,
    SendProbe,
    SetGeneration,
    SetPath,
)
from plait.overlay.sleeve.ipc import Endpoint, ProbeAcknowledged
from plait.overlay.sleeve.life import SessionLife, address_text
from plait.overlay.sleeve.plait1.wire import mtu_overhead
from plait.overlay.sleeve.session import FAST_HEARTBEAT, HEARTBEAT_TIMEOUT, MISSED_HEARTBEATS, PASSING_ERRNOS

CONTROL_GENERATION = 1
GENERATION_BYTES = 4
IDLE = 2.0
"""Heartbeat intervals between two probes while the connection has no frames to carry: 670 bit/s with the answers."""

STANDBY = 20.0
"""The same while frames go by the kernel: 70 bit/s."""

RESUMED_PATIENCE, RESUMED_REPEAT = 3.5, 0.5
"""Intervals without an answer that end the session after frames came back to it, and between its probes until one is
answered: the kernel's path fell silent before."""

LEAST = 0
"""Size of a probe that is to be as small as possible."""


class Plait1Session(SessionLife):
    """The state machine. Inputs give the actions to carry out, in order; after the end all give none.

    `confirm` -> probes, in the end every 0.5 s -> one is acknowledged -> established: the path's MTU is searched, a
    probe goes out each `heartbeat_interval`. Six without an acknowledgement end the session. The neighbour's address
    is what its probes come from.
    """

    SIGN, HEARD = "probe", "answered"

    def __init__(
        self,
        *,
        connection_uid: int,
        is_encrypted: bool,
        remote: Endpoint | None,
        heartbeat_interval: float,
        first_repeat: float,
        is_ipv6: bool = False,
    ) -> None:
        """`remote`: the address dialled, None on the accepting side. Times are seconds.

        `is_ipv6`: the mesh connection goes over IPv6, and datagrams too.
        """
        super().__init__(remote, is_ipv6=is_ipv6)
        self.connection_uid = connection_uid
        self.last_acknowledged: float | None = None
        self.generation = 0
        """Of the keys that the neighbour is to seal with."""
        self.their_generation = 0
        """Of the keys that we seal with, as the neighbour said."""
        self.path = PathMtu()
        self.quality = PathQuality()
        self._is_encrypted = is_encrypted
        self._rest = heartbeat_interval
        self._is_standby = False
        self._resumed_at: float | None = None
        self._carried = -1
        self._heartbeat_interval = heartbeat_interval
        self._repeat = first_repeat
        self._interface_mtu: int | None = None
        self._is_searching = False
        self._told_mtu = 0
        self._suspect_at = -inf
        self._probe_at = self._timeout_at = inf
        self._probed_at = -inf

    @property
    def mtu(self) -> int:
        """What fits an overlay packet."""
        return self.path.mtu - mtu_overhead(self._is_encrypted, is_ipv6=self._is_ipv6)

    @property
    def path_mtu(self) -> int:
        """What fits an IP packet to the neighbour."""
        return self.path.mtu

    @property
    def mtu_source(self) -> str:
        """Why that is so."""
        return self.path.source

    @property
    def proven_at(self) -> float | None:
        """When the neighbour last answered, or frames came back to this path later than that."""
        times = [each for each in (self.last_acknowledged, self._resumed_at) if each is not None]
        return max(times, default=None) if self.last_acknowledged is not None else None

    @property
    def patience(self) -> float:
        """Seconds since `proven_at` in which all may be well."""
        is_resumed = self._resumed_at is not None and self._resumed_at == self.proven_at
        return (RESUMED_PATIENCE - 1.0) * self._heartbeat_interval + (0.0 if is_resumed else self._rest)

    def set_standby(self, is_standby: bool, now: float) -> None:
        """Say whether frames go another way. When they come back the neighbour has to answer soon."""
        if is_standby == self._is_standby:
            return
        self._is_standby = is_standby
        if not is_standby and self.established_since is not None:
            self._rest = RESUMED_REPEAT * self._heartbeat_interval
            self._resumed_at = self._probe_at = now
            self._timeout_at = now + RESUMED_PATIENCE * self._heartbeat_interval

    def confirm(self, now: float) -> list[Action]:
        """Begin: the mesh connection is the one that stays."""
        if self.confirmed_since is not None or self._is_over:
            return []
        self.confirmed_since = now
        self._timeout_at = now + HEARTBEAT_TIMEOUT
        return [] if self.remote is None else self._reach_out(now)

    def probe_received(self, source: Endpoint, now: float) -> list[Action]:
        """Take a probe of the neighbour: it tells where the neighbour is."""
        if not self._is_live or source == self.remote or not self._can_be_at(source[0]):
            return []
        self.remote = source
        if self.established_since is None:
            return self._reach_out(now)
        return [self._set_path(), *self._heartbeat(now), QueryInterfaceMtu(), *self._search(now)]

    def probe_acknowledged(self, acked: ProbeAcknowledged, now: float) -> list[Action]:
        """Take an acknowledgement of one of our probes."""
        if not self._is_live:
            return []
        self.last_acknowledged = now
        self.last_send_error = None
        self._rest_until_next(acked)
        self._timeout_at = now + max((MISSED_HEARTBEATS - 1) * self._heartbeat_interval + self._rest, FAST_HEARTBEAT)
        self._probe_at = max(self._probe_at, self._probed_at + self._rest)
        if self.established_since is None:  # what went before the peer was there is no loss
            self.quality = PathQuality()
            self.quality.asked()
        self.quality.acknowledged(acked, now)
        actions: list[Action] = []
        if self.established_since is None:
            self.established_since = now
            self._probe_at = now + self._heartbeat_interval
            actions += [Established(), *self._search(now)]
        elif self._is_searching:
            actions += self._follow(self.path.acknowledged(acked.size, now, acked.rtt))
        if self.quality.is_losing and now >= self._suspect_at and self._is_searching:
            self._suspect_at = now + SUSPICION_INTERVAL
            actions += self._follow(self.path.suspect(now))
        return actions

    def interface_mtu_known(self, mtu: int | None, now: float) -> list[Action]:
        """Take the answer to QueryInterfaceMtu; None if there is no route."""
        if mtu is None or not self._is_live:
            return []
        was, self._interface_mtu = self._interface_mtu, mtu
        if was is None:
            return self._search(now)
        return self._follow(self.path.ceiling_changed(mtu, now)) if self._is_searching else []

    def mtu_hint(self, mtu: int, now: float) -> list[Action]:
        """Take what an ICMP message claims of the path."""
        return self._follow(self.path.hint(mtu, now)) if self._is_live and self._is_searching else []

    def packet_too_big(self) -> list[Action]:
        """The kernel refused a datagram (EMSGSIZE): the interface must have changed."""
        return [QueryInterfaceMtu()] if self._is_live else []

    def send_failed(self, errno: int) -> list[Action]:
        """The kernel refused a datagram for another reason."""
        if not self._is_live:
            return []
        self.last_send_error = os.strerror(errno)
        if errno in PASSING_ERRNOS or errno == e.EMSGSIZE:
            return []
        return [self._refused()]

    def control_received(self, tag: int, payload: bytes) -> list[Action]:
        """Take a control message of the neighbour's plait1; what means nothing is counted and ignored."""
        if not self._is_live:
            return []
        if tag == CONTROL_GENERATION and len(payload) == GENERATION_BYTES and self._is_encrypted:
            self.their_generation = int.from_bytes(payload, "big")
            return [SetGeneration(self.their_generation)]
        self.ignored_controls += 1
        return []

    def pump_died(self, now: float) -> list[Action]:
        """Our replay window died with the pump: have the neighbour seal with keys that nothing old fits.

        Probes that died with it say nothing about the path, so its quality is measured anew.
        """
        self.quality = PathQuality()
        if not self._is_live or not self._is_encrypted:
            return []
        self.generation += 1
        control = SendControl(CONTROL_GENERATION, self.generation.to_bytes(GENERATION_BYTES, "big"))
        path = [] if self.remote is None else [self._set_path()]
        return [RenewKeys(), SetGeneration(self.their_generation), *path, control, *self._heartbeat(now)]

    def handle_timer(self, now: float) -> list[Action]:
        """Do what is due; call when `next_deadline` has come, later does no harm."""
        if not self._is_live:
            return []
        if now >= self._timeout_at:
            return [self._fail(self._silence(now))]
        actions: list[Action] = []
        if now >= self._probe_at:
            actions += self._heartbeat(now)
        search_at = self.path.next_deadline() if self._is_searching else None
        if search_at is not None and now >= search_at:
            actions += self._follow(self.path.handle_timer(now))
        return actions

    def next_deadline(self) -> float | None:
        """When `handle_timer` wants to be called; None while nothing is due."""
        search_at = self.path.next_deadline() if self._is_searching else None
        deadline = min(self._probe_at, self._timeout_at, inf if search_at is None else search_at)
        return None if deadline == inf or not self._is_live else deadline

    def _reach_out(self, now: float) -> list[Action]:
        return [self._set_path(), *self._heartbeat(now), QueryInterfaceMtu()]

    def _heartbeat(self, now: float) -> list[Action]:
        if self.remote is None:
            return []
        # The next one comes so soon unless this is answered.
        repeat = min(self._rest, self._heartbeat_interval)
        self._probe_at = now + (self._repeat if self.established_since is None else repeat)
        self._probed_at = now
        self._repeat = min(self._repeat * 2, FAST_HEARTBEAT)
        self.quality.asked()
        return [SendProbe(LEAST)]

    def _rest_until_next(self, acked: ProbeAcknowledged) -> None:
        """Probe more slowly while nothing, or another way, is to be carried."""
        before, self._carried = self._carried, acked.sent
        self.path.is_idle = self._is_standby or before == self._carried
        factor = STANDBY if self._is_standby else IDLE if self.path.is_idle else 1.0
        self._rest = factor * self._heartbeat_interval

    def _search(self, now: float) -> list[Action]:
        """Search the path's MTU from the start, as soon as the path works and its first hop is known."""
        if self.established_since is None or self._interface_mtu is None:
            return []
        self._is_searching = True
        return self._follow(self.path.start(self._interface_mtu, now))

    def _follow(self, sizes: list[int]) -> list[Action]:
        """Use what the search found, and send what it asks for."""
        actions: list[Action] = [] if self.path.mtu == self._told_mtu else [self._set_path()]
        return actions + [SendProbe(size) for size in sizes]

    def _set_path(self) -> SetPath:
        self._told_mtu = self.path.mtu
        max_payload = self.path.mtu - ip_udp_bytes(is_ipv6=self._is_ipv6)
        return SetPath(self.remote, self.mtu, max_payload, stack_frag=False)

    def _silence(self, now: float) -> str:
        seconds, refusal = self._silent_for(self.last_acknowledged, now)
        return (
            f"no UDP probe was answered by the peer at {address_text(self.remote)} for {seconds:.0f} s{refusal}; "
            "let UDP between the two hosts through, both ways"
        )
