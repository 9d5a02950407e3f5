"""One fastdp connection to a neighbour: heartbeats, "established", health, the path's MTU (docs/protocol/fastdp.md).

Decides when to say what; it sends nothing, reads no clock and sees no frame of a container. Towards a Weave peer it is
Weave's state machine; between plait nodes heartbeats are echoed, which judges both directions and finds the path's MTU.
"""

import errno as e
import os
from math import inf

from plait.overlay.ethernet import HEADER_BYTES
from plait.overlay.fastdp import wire
from plait.overlay.fastdp.actions import Action, Healthy, SendFrame, SetPath, Unhealthy
from plait.overlay.fastdp.echoes import Echoes, Traffic
from plait.overlay.fastdp.health import HOLD_FIRST, EchoHealth, Health, Illness, SilenceHealth
from plait.overlay.outer import is_ipv6
from plait.overlay.pmtu import LARGEST, PathMtu
from plait.overlay.quality import SUSPICION_INTERVAL, PathQuality
from plait.overlay.sleeve.actions import Established, Failed, QueryInterfaceMtu, SendControl
from plait.overlay.sleeve.life import SessionLife
from plait.overlay.sleeve.session import MIN_OVERLAY_MTU, PASSING_ERRNOS

CONTROL_ACK = 0
"""Weave's "heartbeat ack", its only control message without encryption."""

DEFAULT_PORT = 6784
LEAST = 0
"""Size of a heartbeat that is to be as small as possible."""

MOVE_INTERVAL = 1.0
"""Seconds between two moves of the peer that are followed: each costs a search of the path's MTU."""

ENCRYPTED = (
    "the connection is encrypted and fastdp carries frames in the clear: encryption in the kernel is not offered, "
    "sleeve carries the frames encrypted; nothing is to be done"
)


class FastdpSession(SessionLife):
    """The state machine. Inputs give the actions to carry out, in order; after the end all give none.

    `confirm` -> heartbeats -> the peer hears one -> established. Silence makes it unhealthy, never ends it. The peer's
    address is what its heartbeats come from.
    """

    SIGN, HEARD = "heartbeat", "answered"

    def __init__(
        self,
        *,
        connection_uid: int,
        is_encrypted: bool,
        remote_ip: str,
        is_plait: bool,
        heartbeat_interval: float,
        local_mtu: int,
        remote_port: int = DEFAULT_PORT,
    ) -> None:
        """`remote_ip`: the other end of the TCP connection; `remote_port`: where VXLAN goes, for texts.

        `is_plait`: both sides announced `wire.FEATURE`. `heartbeat_interval`: seconds, agreed with the neighbour.
        `local_mtu`: the largest IP packet of a container that the datapath may send.
        """
        super().__init__((remote_ip, remote_port), is_ipv6=is_ipv6(remote_ip))
        self.connection_uid = connection_uid
        self.remote_ip, self.remote_port = remote_ip, remote_port
        self.is_plait = is_plait
        self.last_heartbeat: float | None = None
        """When the peer's last heartbeat came."""
        self.last_acknowledged: float | None = None
        """When the last echo of ours came."""
        self.ignored_heartbeats = 0
        self.path = PathMtu()
        self.quality = PathQuality()
        self._is_encrypted = is_encrypted
        self._local_mtu = local_mtu
        self._echo_health = EchoHealth(heartbeat_interval)
        self._silence_health = SilenceHealth(heartbeat_interval)
        self._echoes = Echoes(connection_uid, self._echo_health.patience)
        self._health: Health = self._echo_health if is_plait else self._silence_health
        self._has_acknowledged = False
        self._told_illness: str | None = None
        self._told_mtu = 0
        self._traffic: Traffic | None = None
        self._traffic_before: Traffic | None = None
        self._interface_mtu: int | None = None
        self._is_searching = False
        self._move_from = self._suspect_from = -inf

    @property
    def mtu(self) -> int:
        """What fits an IP packet of a container."""
        fitting = self.path.mtu - self._overhead if self.is_plait else LARGEST - self._overhead
        return max(min(fitting, self._local_mtu), MIN_OVERLAY_MTU)

    @property
    def path_mtu(self) -> int:
        """What fits an IP packet to the neighbour, as far as it is used."""
        return self.path.mtu if self.is_plait else self.mtu + self._overhead

    @property
    def mtu_source(self) -> str:
        """Why that is so."""
        if self.is_plait:
            return self.path.source
        if self.established_since is None:
            return "this host's, the peer has not acknowledged a heartbeat of that size yet"
        return "this host's, the peer acknowledged a heartbeat of that size"

    @property
    def patience(self) -> float:
        """Seconds since `last_acknowledged` in which all may be well; between plait nodes only."""
        return self._echo_health.patience + self._echo_health.rest

    @property
    def illness(self) -> str | None:
        """Why frames should not go by fastdp at the moment, for people; None if they may."""
        if not self.is_plait and self._interface_mtu is not None and self._interface_mtu < self.path_mtu:
            return (
                f"heartbeats of {self.path_mtu} bytes do not fit the interface to {self.remote_ip}, whose MTU is "
                f"{self._interface_mtu}: start with a smaller MTU for containers, or raise the interface's"
            )
        return None if self._health.illness is None else self._diagnosis(self._health.illness)

    @property
    def state(self) -> str:
        """Where the session stands, in words for a status line."""
        if self._is_live and self._told_illness is not None:
            return f"on hold: {self._told_illness}"
        return super().state

    def confirm(self, now: float) -> list[Action]:
        """Begin: the mesh connection is the one that stays."""
        if self.confirmed_since is not None or self._is_over:
            return []
        if self._is_encrypted:
            return [self._fail(ENCRYPTED)]
        self.confirmed_since = now
        self._health.begin(now)
        return [self._set_path(), *self._heartbeat(now), QueryInterfaceMtu()]

    def traffic_counted(self, traffic: Traffic) -> None:
        """Take the datapath's counters, best right before `heartbeat_received` and `handle_timer`."""
        self._echoes.count(traffic)
        self._traffic = traffic

    def heartbeat_received(self, source_ip: str, heartbeat: wire.Heartbeat, now: float) -> list[Action]:
        """Take a heartbeat; one with another UID belongs to an earlier connection and is ignored."""
        if not self._is_live:
            return []
        is_ours = heartbeat.uid == self.connection_uid and self._can_be_at(source_ip)
        if not is_ours or (self.is_plait and heartbeat.extension is None):
            self.ignored_heartbeats += 1
            return []
        if not self.is_plait or heartbeat.extension is None:
            return self._heard_weave(source_ip, now)
        if heartbeat.extension.kind is wire.Kind.ECHO:
            return self._echoed(heartbeat.extension, now)
        return self._probed(source_ip, heartbeat.length, heartbeat.extension, now)

    def control_received(self, tag: int, payload: bytes, now: float) -> list[Action]:
        """Take a control message of the neighbour's fastdp; what means nothing is counted and ignored."""
        if not self._is_live:
            return []
        if tag != CONTROL_ACK or self.is_plait or self.established_since is not None:
            self.ignored_controls += 1
            return []
        self.established_since = now
        self._silence_health.slow_down(now)
        return [Established()]

    def interface_mtu_known(self, mtu: int | None, now: float) -> list[Action]:
        """Take the answer to QueryInterfaceMtu; None if there is no route."""
        if mtu is None or not self._is_live:
            return []
        was, self._interface_mtu = self._interface_mtu, mtu
        if not self.is_plait:
            return self._report()
        if was is None:
            return self._search(now)
        return self._follow(self.path.ceiling_changed(self._ceiling(mtu), now), now) if self._is_searching else []

    def packet_too_big(self) -> list[Action]:
        """The kernel refused a heartbeat (EMSGSIZE): the interface must have changed."""
        return [QueryInterfaceMtu()] if self._is_live else []

    def send_failed(self, errno: int) -> list[Action]:
        """The kernel refused a heartbeat for another reason."""
        if not self._is_live:
            return []
        self.last_send_error = os.strerror(errno)
        return [] if errno in PASSING_ERRNOS or errno == e.EMSGSIZE else [self._refused()]

    def handle_timer(self, now: float) -> list[Action]:
        """Do what is due; call when `next_deadline` has come, later does no harm."""
        if not self._is_live:
            return []
        self._health.judge(now)
        actions = self._heartbeat(now) if now >= self._health.heartbeat_at else []
        search_at = self.path.next_deadline() if self._is_searching else None
        if search_at is not None and now >= search_at:
            actions += self._follow(self.path.handle_timer(now), now)
        return actions + self._report()

    def next_deadline(self) -> float | None:
        """When `handle_timer` wants to be called; None while nothing is due."""
        search_at = self.path.next_deadline() if self._is_searching else None
        deadline = min(self._health.next_deadline(), inf if search_at is None else search_at)
        return None if deadline == inf or not self._is_live else deadline

    # Towards Weave

    def _heard_weave(self, source_ip: str, now: float) -> list[Action]:
        self.last_heartbeat = now
        self._silence_health.heard(now)
        actions: list[Action] = []
        if source_ip != self.remote_ip:
            self._move(source_ip)
            actions.append(self._set_path())
        if not self._has_acknowledged:
            self._has_acknowledged = True
            actions.append(SendControl(CONTROL_ACK))
        return actions + self._report()

    # Between plait nodes

    def _probed(self, source_ip: str, length: int, probe: wire.Extension, now: float) -> list[Action]:
        self.last_heartbeat = now
        self._echo_health.heard(now)
        actions: list[Action] = []
        is_new = self._echoes.is_new(probe.sequence)
        if is_new and source_ip != self.remote_ip and now >= self._move_from:
            self._move_from = now + MOVE_INTERVAL
            self._move(source_ip)
            self._echoes.forget()
            actions += [self._set_path(), *self._heartbeat(now), QueryInterfaceMtu(), *self._search(now)]
        echo = self._echoes.echo(length, probe.sequence, now)
        if echo is None:
            self.ignored_heartbeats += 1
            return actions
        return [*actions, SendFrame(echo)]

    def _echoed(self, echo: wire.Extension, now: float) -> list[Action]:
        answer = self._echoes.answered(echo, now)
        if answer is None:
            self.ignored_heartbeats += 1
            return []
        self.last_acknowledged = now
        self.last_send_error = None
        if self.established_since is None:  # what went before the peer was there is no loss
            self.quality = PathQuality()
            self.quality.asked()
        self.quality.acknowledged(answer, now)
        self._echo_health.heard(now)
        is_heartbeat = answer.length == wire.EXTENDED_HEARTBEAT_BYTES
        is_back = self._echo_health.echoed(now, is_heartbeat=is_heartbeat)
        actions: list[Action] = []
        if self.established_since is None:
            self.established_since = now
            actions += [Established(), *self._search(now)]
        elif self._is_searching:
            size = answer.length - HEADER_BYTES + self._overhead
            actions += self._follow(self.path.acknowledged(size, now, answer.rtt), now)
        if self._is_searching and (is_back or (self.quality.is_losing and now >= self._suspect_from)):
            self._suspect_from = now + SUSPICION_INTERVAL
            actions += self._follow(self.path.suspect(now), now)
        return actions + self._report()

    def _search(self, now: float) -> list[Action]:
        """Search the path's MTU from the start, as soon as the path works and its first hop is known."""
        if self.established_since is None or self._interface_mtu is None:
            return []
        self._is_searching = True
        return self._follow(self.path.start(self._ceiling(self._interface_mtu), now), now)

    def _follow(self, sizes: list[int], now: float) -> list[Action]:
        """Use what the search found, and send what it asks for."""
        actions: list[Action] = [] if self.path.mtu == self._told_mtu else [self._set_path()]
        return actions + [self._probe(size, now) for size in sizes]

    def _ceiling(self, interface_mtu: int) -> int:
        """Give the largest IP packet that may be probed: what the datapath may not send need not fit."""
        return min(interface_mtu, self._local_mtu + self._overhead)

    def _probe(self, size: int, now: float) -> SendFrame:
        """Send a heartbeat in an IP packet of `size` bytes, or the least one can have."""
        return SendFrame(self._echoes.heartbeat(size - self._overhead + HEADER_BYTES, now))

    # Both

    @property
    def _overhead(self) -> int:
        return wire.overhead(self.remote_ip)

    def _heartbeat(self, now: float) -> list[Action]:
        self.path.is_idle = self._traffic is not None and self._traffic == self._traffic_before
        self._health.carries(is_idle=self.path.is_idle)
        self._traffic_before = self._traffic
        self._health.sent(now, self.quality.rtt)
        if not self.is_plait:
            return [SendFrame(wire.heartbeat(self.connection_uid, self.mtu + HEADER_BYTES))]
        self.quality.asked()
        return [self._probe(LEAST, now)]

    def _move(self, ip: str) -> None:
        self.remote_ip, self.remote = ip, (ip, self.remote_port)

    def _set_path(self) -> SetPath:
        self._told_mtu = self.path.mtu
        return SetPath(self.remote_ip, self.mtu, self.path_mtu)

    def _report(self) -> list[Action]:
        """Tell a change of health."""
        illness = self.illness
        if illness == self._told_illness:
            return []
        self._told_illness = illness
        return [Healthy() if illness is None else Unhealthy(illness)]

    def _diagnosis(self, illness: Illness) -> str:
        refusal = f"; the kernel refused to send: {self.last_send_error}" if self.last_send_error else ""
        lately = ""
        if self._health.hold > HOLD_FIRST:
            lately = f"; it failed repeatedly, so it is used again only after answers for {self._health.hold:.0f} s"
        seconds = f"{self._health.patience:g} s"
        if illness is Illness.DEAF:
            return (
                f"{illness.value}: its heartbeats arrive, but it answered none of ours for {seconds}{refusal}; "
                f"let UDP port {self.remote_port} from this host to {self.remote_ip} through{lately}"
            )
        return (
            f"{illness.value} for {seconds}{refusal}; "
            f"let UDP port {self.remote_port} from {self.remote_ip} to this host through{lately}"
        )

    def _refused(self) -> Failed:
        return self._fail(
            f"the kernel refuses to send VXLAN to the peer at {self.remote_ip} ({self.last_send_error}); "
            "check this host's network, fastdp is tried again with the next connection"
        )
