"""The overlays of one live connection: which run, with what they were told in the handshake."""

from collections.abc import Iterable
from dataclasses import dataclass

from plait.mesh.addresses import ip_of, split_address
from plait.mesh.links import Link
from plait.overlay.fastdp import actions as fastdp
from plait.overlay.fastdp import wire
from plait.overlay.fastdp.session import FastdpSession
from plait.overlay.outer import is_ipv6
from plait.overlay.sleeve import actions as sleeve
from plait.overlay.sleeve.plait1.keys import CIPHER_FEATURE, CIPHER_WORDS, preferred_cipher
from plait.overlay.sleeve.plait1.session import Plait1Session
from plait.overlay.sleeve.session import (
    FAST_HEARTBEAT,
    FIRST_REPEAT,
    HEARTBEAT_FEATURE,
    OUR_HEARTBEAT_MS,
    SleeveSession,
    agreed_heartbeat,
)
from plait.overlay.switch import FASTDP, PLAIT1, SLEEVE, OverlaySwitch

WEAVE_MTU = 1376
"""Of a Weave peer's datapath and its containers, unless its user set another (spec: fastdp, section 4)."""

UserSession = SleeveSession | Plait1Session
Session = UserSession | FastdpSession
Action = sleeve.Action | fastdp.Action


def our_features() -> dict[str, str]:
    """Give the handshake features of plait's own, which Weave peers ignore."""
    return {
        HEARTBEAT_FEATURE: str(OUR_HEARTBEAT_MS),
        CIPHER_FEATURE: CIPHER_WORDS[preferred_cipher()],
        wire.FEATURE: wire.FEATURE_VALUE,
    }


@dataclass(slots=True)
class LiveConnection:
    """A connection with its overlays: one in user space, unless none is common, and fastdp if both offer it."""

    link: Link
    switch: OverlaySwitch
    user: UserSession | None
    fastdp: FastdpSession | None
    handed: int = 0
    """Packets of the node's own that were handed over for the peer: heartbeats and probes."""

    @property
    def overlay(self) -> str:
        """The name of the overlay in user space."""
        return PLAIT1 if isinstance(self.user, Plait1Session) else SLEEVE

    @property
    def sessions(self) -> list[Session]:
        """All of them."""
        return [session for session in (self.fastdp, self.user) if session is not None]

    @property
    def session(self) -> Session:
        """The session of the overlay that frames go by."""
        best = self.fastdp if self.switch.best == FASTDP else self.user
        return best or self.sessions[0]

    def silence(self, now: float) -> tuple[float, float] | None:
        """Give the seconds since the peer proved that it hears us, and how many of them are normal.

        None where that cannot be known: before the first proof, and ever in Weave's formats.
        """
        match self.session:
            case Plait1Session() as session:
                proven = session.proven_at
            case FastdpSession(is_plait=True) as session:
                proven = session.last_acknowledged
            case _:
                return None
        return None if proven is None else (now - proven, session.patience)

    def is_silent(self, now: float) -> bool:
        """Nothing proves that frames pass: the peer does not answer, or never did."""
        silence = self.silence(now)
        return not self.session.is_established if silence is None else silence[0] > silence[1]


def begin(link: Link, switch: OverlaySwitch, local_mtu: int) -> LiveConnection:
    """Make the sessions of a connection. `local_mtu`: the largest IP packet of a container of this host."""
    user = _user_session(link, switch) if {PLAIT1, SLEEVE} & {*switch.common} else None
    return LiveConnection(link, switch, user, _fastdp_session(link, local_mtu) if FASTDP in switch.common else None)


def remote_ip(session: Session) -> str | None:
    """Give where a session's packets go, None while that is not known."""
    if isinstance(session, FastdpSession):
        return session.remote_ip
    return None if session.remote is None else session.remote[0]


def ports_in_words(port: int, sessions: Iterable[Session]) -> str:
    """Name the UDP ports of these sessions of a node with this port."""
    if any(isinstance(session, FastdpSession) for session in sessions):
        return f"ports {port} and {port + wire.PORT_OFFSET}"
    return f"port {port}"


def weave_lack(link: Link) -> str | None:
    """Say why no overlay of a Weave peer can serve a connection, None if they can or the peer is none."""
    if is_ipv6(link.local_ip) and wire.FEATURE not in link.extra:
        return f"{link.address} is a Weave peer, which carries frames over IPv4 alone: call it by its IPv4 address"
    return None


def vxlan_lack(link: Link, port: int | None) -> str | None:
    """Say why VXLAN cannot serve a connection, None if it can. `port`: of our VXLAN device, None without one."""
    if port is None:
        return "this node's kernel does not carry frames"
    theirs = int(link.address.rpartition(":")[2]) + wire.PORT_OFFSET if link.outbound else port
    if theirs == port:
        return None
    return (
        f"the peer's VXLAN is at UDP port {theirs} and this node's at {port}, and one device serves one port: "
        "launch both with the same --port"
    )


def _user_session(link: Link, switch: OverlaySwitch) -> UserSession:
    """Begin the best of the common overlays that this node carries in user space."""
    remote = split_address(link.address) if link.outbound else None
    theirs = link.extra.get(HEARTBEAT_FEATURE)
    is_encrypted, interval = link.session_key is not None, agreed_heartbeat(theirs)
    if PLAIT1 in switch.common:
        return Plait1Session(
            connection_uid=link.uid,
            is_encrypted=is_encrypted,
            remote=remote,
            heartbeat_interval=interval,
            first_repeat=FIRST_REPEAT,
            is_ipv6=is_ipv6(link.local_ip),
        )
    # A weaver with fastdp has containers with its MTU; one without gives them the largest there is.
    is_limited = FASTDP in switch.common
    return SleeveSession(
        connection_uid=link.uid,
        is_encrypted=is_encrypted,
        remote=remote,
        heartbeat_interval=interval,
        first_repeat=FAST_HEARTBEAT if theirs is None else FIRST_REPEAT,
        most_mtu=WEAVE_MTU if is_limited and wire.FEATURE not in link.extra else None,
        is_ipv6=is_ipv6(link.local_ip),
    )


def _fastdp_session(link: Link, local_mtu: int) -> FastdpSession:
    is_plait = wire.FEATURE in link.extra
    return FastdpSession(
        connection_uid=link.uid,
        is_encrypted=link.session_key is not None,
        remote_ip=ip_of(link.address),
        is_plait=is_plait,
        heartbeat_interval=agreed_heartbeat(link.extra.get(HEARTBEAT_FEATURE)),
        local_mtu=local_mtu if is_plait else min(local_mtu, WEAVE_MTU),
    )
