"""One sleeve connection to a neighbour: heartbeats, "established", fragmentation tests and the MTU search.

Decides when to say what; it sends nothing, reads no clock and sees no frame of a container. Weave's 60000-byte
datagram is never asked for: `QueryPathMtu` reads the kernel's value instead (spec: sleeve 6 and 7, ufo-bug 4).
"""

import errno as e
import os
from enum import Enum
from math import inf

from plait.overlay.outer import ip_udp_bytes
from plait.overlay.sleeve.actions import (
    Action,
    Established,
    Failed,
    QueryPathMtu,
    SendControl,
    SendFragmentationTest,
    SendHeartbeat,
    SendMtuTest,
    SetPath,
)
from plait.overlay.sleeve.datagram import MAX_PAYLOAD_BYTES, mtu_overhead
from plait.overlay.sleeve.ipc import Endpoint
from plait.overlay.sleeve.life import SessionLife, address_text
from plait.overlay.sleeve.mtu_search import FLOOR, MtuSearch, mtu_test_length
from plait.overlay.sleeve.sender import UNKNOWN_MTU
from plait.overlay.sleeve.token_bucket import TokenBucket

__all__ = [
    "Action",
    "Established",
    "Failed",
    "QueryPathMtu",
    "SendControl",
    "SendFragmentationTest",
    "SendHeartbeat",
    "SendMtuTest",
    "SetPath",
    "SleeveSession",
]

CONTROL_ESTABLISHED = 1
CONTROL_FRAGMENTATION_RECEIVED = 2
CONTROL_MTU_VERIFIED = 3

FAST_HEARTBEAT = 0.5
SLOW_HEARTBEAT = 10.0
MISSED_HEARTBEATS = 6
HEARTBEAT_TIMEOUT = MISSED_HEARTBEATS * SLOW_HEARTBEAT
FRAGMENTATION_TEST_INTERVAL = 300.0
"""Seconds, as Weave has them."""

FIRST_REPEAT = 0.01
"""Seconds until a plait peer gets the first heartbeat again, doubling up to FAST_HEARTBEAT: the first often comes
before the other end has its connection, and until one is heard broadcasts, so ARP requests, are lost."""

HEARTBEAT_FEATURE = "PlaitHeartbeat"
"""Handshake feature with the interval, in milliseconds, at which a node can send heartbeats. Weave peers ignore it."""

OUR_HEARTBEAT_MS = 1000
"""A dead path is noticed after 6 s instead of a minute. Idle ones are probed more slowly (fastdp/health.py, plait1)."""

MTU_CHECK_INTERVAL = 600.0
"""Seconds until the path is looked at again (RFC 8899 PMTU_RAISE_TIMER); Weave looks once and then only at ICMP."""

MTU_FIRST_RETRY = 30.0
"""The same if less passed than the kernel promised, doubling each time: an outage may have been taken for a limit."""

QUERY_PATIENCE = 1.0
"""Seconds after which a refused datagram makes us ask the kernel again although it has not answered."""

MAX_PATH_MTU = 65535
"""Largest IPv4 packet; loopback claims one byte more."""

FROM_KERNEL = "what the kernel says of the path"

MIN_OVERLAY_MTU = 68
"""The smallest MTU of IPv4: whatever the kernel says, less carries nothing."""

ANSWERS_PER_SECOND = 100.0
"""MTU tests answered on the control connection: a search needs some 20, and anybody can forge unencrypted ones."""

PASSING_ERRNOS = frozenset(
    {
        *(e.ECONNREFUSED, e.ENETUNREACH, e.EHOSTUNREACH, e.EHOSTDOWN, e.EPROTO, e.ENOPROTOOPT),
        *(e.ENETDOWN, e.ENODEV, e.ENXIO, e.EADDRNOTAVAIL, e.EPERM, e.EACCES),
        *(e.ENOBUFS, e.ENOMEM, e.EAGAIN, e.EINTR),
    }
)
"""Refusals that heal by themselves (route, interface, firewall, full queue); only silence decides then."""


def agreed_heartbeat(theirs: str | None) -> float:
    """Give the heartbeat interval (seconds) towards a peer with this feature: the slower of both; Weave's without."""
    if theirs is None or not (theirs.isascii() and theirs.isdecimal()):
        return SLOW_HEARTBEAT
    return min(max(int(theirs[:6]), OUR_HEARTBEAT_MS) / 1000, SLOW_HEARTBEAT)


class _Query(Enum):
    """Why the kernel was asked for the path MTU."""

    REFUSED = "it refused a datagram"
    LOOK = "the path is new or was not looked at for long"


class SleeveSession(SessionLife):
    """The state machine. Inputs give the actions to carry out, in order; after the end all give none.

    `confirm` -> heartbeats, in the end every 0.5 s -> the neighbour hears one and says CONTROL_ESTABLISHED ->
    established: every 10 s, test whether fragments pass, search the MTU. The other direction does the same on its own.
    The neighbour's address is what its heartbeats come from. 60 s without one end the session.
    """

    def __init__(
        self,
        *,
        connection_uid: int,
        is_encrypted: bool,
        remote: Endpoint | None,
        heartbeat_interval: float = SLOW_HEARTBEAT,
        first_repeat: float = FAST_HEARTBEAT,
        most_mtu: int | None = None,
        is_ipv6: bool = False,
    ) -> None:
        """`remote`: the address dialled, None on the accepting side, which learns it from a heartbeat.

        `heartbeat_interval`: seconds between heartbeats once established, agreed with the neighbour.
        `first_repeat`: seconds from the first heartbeat to the second, if the first was not heard.
        `is_ipv6`: the mesh connection goes over IPv6, and datagrams too.
        `most_mtu`: what the neighbour's containers take, if known: who sends more is told, however wide the path.
        """
        self._heartbeat_interval = heartbeat_interval
        self._repeat = first_repeat
        super().__init__(remote, is_ipv6=is_ipv6)
        self.connection_uid = connection_uid
        self.mtu = UNKNOWN_MTU
        self.mtu_source = "not known yet"
        self.max_payload = MAX_PAYLOAD_BYTES
        self.stack_frag = False
        self.fragments_arrive: bool | None = None
        """What the last test that ended said."""
        self.last_heartbeat: float | None = None
        self._most_mtu = most_mtu
        self._overhead = mtu_overhead(is_encrypted, is_ipv6=is_ipv6)
        self._has_acknowledged = False
        self._search = MtuSearch()
        self._query: _Query | None = None
        self._query_again_at = 0.0
        self._mtu_retry = MTU_FIRST_RETRY
        self._answers = TokenBucket(ANSWERS_PER_SECOND, ANSWERS_PER_SECOND)
        self._heartbeat_at = self._timeout_at = self._fragmentation_test_at = self._mtu_check_at = inf

    @property
    def path_mtu(self) -> int:
        """What fits an IP packet to the neighbour, as far as the overlay MTU needs it."""
        return min(self.mtu + self._overhead, MAX_PATH_MTU)

    def confirm(self, now: float) -> list[Action]:
        """Begin: the mesh connection is the one that stays."""
        if self.confirmed_since is not None or self._is_over:
            return []
        self.confirmed_since = now
        self._timeout_at = now + HEARTBEAT_TIMEOUT
        return [self._set_path(), *self._reach_out(now)]

    def heartbeat_received(self, source: Endpoint, uid: int, now: float) -> list[Action]:
        """Take a heartbeat; one with another UID belongs to an earlier connection and is ignored."""
        if not self._is_live or uid != self.connection_uid or not self._can_be_at(source[0]):
            return []
        self.last_heartbeat = now
        self._timeout_at = now + MISSED_HEARTBEATS * self._heartbeat_interval
        actions = self._adopt(source, now)
        if not self._has_acknowledged:
            self._has_acknowledged = True
            actions.append(SendControl(CONTROL_ESTABLISHED))
        return actions

    def mtu_test_received(self, length: int, now: float) -> list[Action]:
        """Take a special frame that is an MTU test by its length."""
        if not self._is_live or length < mtu_test_length(0) or not self._answers.take(now):
            return []
        return [SendControl(CONTROL_MTU_VERIFIED, (length - mtu_test_length(0)).to_bytes(2, "big"))]

    def fragmentation_test_received(self, all_zero: bool) -> list[Action]:
        """Take a fragmentation test; a damaged one gets no answer."""
        if not self._is_live or not all_zero:
            return []
        return [SendControl(CONTROL_FRAGMENTATION_RECEIVED)]

    def control_received(self, tag: int, payload: bytes, now: float) -> list[Action]:
        """Take a control message of the neighbour's sleeve; what means nothing is counted and ignored."""
        if not self._is_live:
            return []
        if tag == CONTROL_ESTABLISHED and self.established_since is None:
            return self._establish(now)
        if tag == CONTROL_FRAGMENTATION_RECEIVED and self.established_since is not None:
            self.fragments_arrive = True
            return self._set_stack_frag(True)
        if tag == CONTROL_MTU_VERIFIED and int.from_bytes(payload[:2], "big") == self._search.candidate:
            return self._after_search_step(self._search.verified(self._search.candidate, now), now)
        self.ignored_controls += 1
        return []

    def path_mtu_known(self, value: int | None, now: float) -> list[Action]:
        """Take the answer to QueryPathMtu in bytes; None if the kernel could not tell."""
        query, self._query = self._query, None
        if query is None or value is None or not self._is_live:
            return []
        ceiling = max(min(value, MAX_PATH_MTU) - self._overhead, MIN_OVERLAY_MTU)
        if self.established_since is None:
            return self._set_mtu(ceiling, FROM_KERNEL)
        is_verified = self._search.result is not None
        if self._search.candidate is not None and ceiling >= self._search.candidate:
            return self._set_mtu(ceiling, FROM_KERNEL) if ceiling < self.mtu else []
        # A refusal teaches nothing if what we send is no larger than what the kernel allows.
        if query is _Query.REFUSED and is_verified and ceiling >= self.mtu:
            return []
        actions: list[Action] = []
        if not is_verified or ceiling < self.mtu:
            actions += self._set_mtu(ceiling, FROM_KERNEL)
        return actions + self._after_search_step(self._search.begin(ceiling, now), now)

    def packet_too_big(self, now: float) -> list[Action]:
        """The kernel refused a DF datagram (EMSGSIZE)."""
        is_asked = self._query is not None and now < self._query_again_at
        return [] if is_asked or not self._is_live else self._ask_kernel(_Query.REFUSED, now)

    def send_failed(self, errno: int, now: float) -> list[Action]:
        """The kernel refused a datagram for another reason."""
        if not self._is_live:
            return []
        if errno == e.EMSGSIZE:
            return self.packet_too_big(now)
        self.last_send_error = os.strerror(errno)
        if errno in PASSING_ERRNOS:
            return []
        return [self._refused()]

    def handle_timer(self, now: float) -> list[Action]:
        """Do what is due; call when `next_deadline` has come, later does no harm."""
        if not self._is_live:
            return []
        if now >= self._timeout_at:
            return [self._fail(self._silence(now))]
        actions: list[Action] = []
        if now >= self._heartbeat_at:
            actions += self._heartbeat(now)
        if now >= self._fragmentation_test_at:
            self.fragments_arrive = self.stack_frag
            actions += [*self._set_stack_frag(False), *self._test_fragmentation(now)]
        if self._search.deadline is not None and now >= self._search.deadline:
            actions += self._after_search_step(self._search.handle_timer(now), now)
        if now >= self._mtu_check_at:
            actions += self._look_at_path(now)
        return actions

    def next_deadline(self) -> float | None:
        """When `handle_timer` wants to be called; None while nothing is due."""
        search_at = inf if self._search.deadline is None else self._search.deadline
        deadline = min(self._heartbeat_at, self._timeout_at, self._fragmentation_test_at, self._mtu_check_at, search_at)
        return None if deadline == inf or not self._is_live else deadline

    def _adopt(self, source: Endpoint, now: float) -> list[Action]:
        """Follow the neighbour to the address of its heartbeat."""
        if source == self.remote:
            return []
        was_unknown = self.remote is None
        self.remote = source
        return [self._set_path(), *(self._reach_out(now) if was_unknown else self._look_at_path(now))]

    def _reach_out(self, now: float) -> list[Action]:
        """Begin to send, if the address is known; ask at once what fits, before the first frame is sent."""
        return [] if self.remote is None else [*self._heartbeat(now), *self._look_at_path(now)]

    def _heartbeat(self, now: float) -> list[Action]:
        self._heartbeat_at = now + (self._repeat if self.established_since is None else self._heartbeat_interval)
        self._repeat = min(self._repeat * 2, FAST_HEARTBEAT)
        return [SendHeartbeat()]

    def _establish(self, now: float) -> list[Action]:
        self.established_since = now
        self._heartbeat_at = now + self._heartbeat_interval
        return [Established(), *self._test_fragmentation(now), *self._look_at_path(now)]

    def _test_fragmentation(self, now: float) -> list[Action]:
        self._fragmentation_test_at = now + FRAGMENTATION_TEST_INTERVAL
        return [SendFragmentationTest()]

    def _look_at_path(self, now: float) -> list[Action]:
        """Ask the kernel; always the last of a list of actions, since the answer makes an earlier SetPath stale."""
        if self.established_since is not None:
            self._mtu_check_at = now + self._mtu_retry
        return self._ask_kernel(_Query.LOOK, now)

    def _ask_kernel(self, query: _Query, now: float) -> list[Action]:
        self._query = query
        self._query_again_at = now + QUERY_PATIENCE
        return [QueryPathMtu()]

    def _after_search_step(self, candidate: int | None, now: float) -> list[Action]:
        """Send the next test, or use the result of the search that just ended."""
        if candidate is not None:
            return [SendMtuTest(mtu_test_length(candidate))]
        result = self._search.result
        if result is None:
            return []
        if self._search.is_at_ceiling:
            self._mtu_check_at = now + MTU_CHECK_INTERVAL
            self._mtu_retry = MTU_FIRST_RETRY
        else:
            self._mtu_check_at = now + self._mtu_retry
            self._mtu_retry = min(self._mtu_retry * 2, MTU_CHECK_INTERVAL)
        return self._set_mtu(result, "acknowledged by the peer" if result > FLOOR else "assumed without a test")

    def _set_mtu(self, mtu: int, source: str) -> list[Action]:
        self.mtu_source = source
        if mtu == self.mtu:
            return []
        self.mtu = mtu
        self.max_payload = mtu + self._overhead - ip_udp_bytes(is_ipv6=self._is_ipv6)
        return [self._set_path()]

    def _set_stack_frag(self, stack_frag: bool) -> list[Action]:
        if stack_frag == self.stack_frag:
            return []
        self.stack_frag = stack_frag
        return [self._set_path()]

    def _set_path(self) -> SetPath:
        if self._most_mtu is None:
            return SetPath(self.remote, self.mtu, self.max_payload, self.stack_frag)
        return SetPath(self.remote, min(self.mtu, self._most_mtu), self.max_payload, stack_frag=False)

    def _silence(self, now: float) -> str:
        seconds, refusal = self._silent_for(self.last_heartbeat, now)
        return (
            f"no UDP heartbeat from the peer at {address_text(self.remote)} for {seconds:.0f} s{refusal}; "
            "let UDP between the two hosts through, both ways"
        )
