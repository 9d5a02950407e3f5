"""Which addresses to dial, and when: what the operator named, and (with discovery) where gossip places other peers.

Pure: after each call that reports something, call `check`; it gives the dials to make. Resolving names is the caller's.

Life of a target (an address we want a connection to):

    waiting --due--> attempting --added--> connected --ended--> waiting
       ^                 |failed, refused
       +---- retry later-+
    waiting --not wanted any more--> suspended if the operator named it (until it is wanted again), else forgotten
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from plait.mesh.addresses import KnownAddresses, join_address, split_address
from plait.mesh.name import PeerName
from plait.mesh.records import ConnectionSummary, PeerRecord

# Retrying (spec mesh, section 12), seconds.
INITIAL_INTERVAL = 2.0
MAX_INTERVAL = 360.0
INTERVAL_FACTOR = 1.5
# A connection that lasted longer than this, seconds from the time its dial was due, was a good one.
RESET_AFTER = 60.0

# Young attempts at a time. Weave dials everything at once; from about 100 nodes on, the handshakes of a starting mesh
# then time each other out.
MAX_YOUNG_ATTEMPTS = 16
# An attempt older than this, seconds, waits for a silent host: it costs nothing and must not keep others waiting.
YOUNG = 2.0
# An attempt without outcome for so long, seconds, will have none, as dial and handshake have shorter time limits. It
# counts as failed, lest a defect elsewhere leaves a peer without connection for ever.
ATTEMPT_TIMEOUT = 180.0
# Addresses taken from gossip: two for each of the peers that the table holds. Further ones are left until others go.
MAX_DISCOVERED = 16384


@dataclass(frozen=True, slots=True)
class Target:
    """What the operator named, resolved: `text` as given, `port` None if the text has none."""

    text: str
    ip: str
    port: int | None


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a TCP connection. `accepts_unknown`: the peer there need not be known from gossip."""

    address: str
    accepts_unknown: bool


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """A target without connection. `state` is Weave's word: connecting, retrying, failed or waiting.

    `next_try` is None during an attempt and if there will be none; `interval` (seconds) is that of the next failure.
    """

    address: str
    state: str
    error: str
    next_try: float | None
    interval: float


class _State(Enum):
    WAITING = auto()
    ATTEMPTING = auto()
    CONNECTED = auto()
    SUSPENDED = auto()


@dataclass(slots=True)
class _Target:
    """`due` is the time of the next attempt, or that of the last while attempting or connected.

    None: there will be none before the operator names the address again.
    """

    address: str
    due: float | None
    state: _State = _State.WAITING
    error: str = ""
    interval: float = INITIAL_INTERVAL

    def fail(self, error: str) -> None:
        self.state, self.error = _State.WAITING, error

    def try_now(self, now: float) -> None:
        self.due = now
        self.interval = INITIAL_INTERVAL

    def try_later(self, now: float, rng: random.Random) -> None:
        self.due = now + self.interval / 2 + rng.random() * self.interval
        self.interval = min(self.interval * INTERVAL_FACTOR, MAX_INTERVAL)


class ConnectionMaker:
    """The targets of one node. `our_addresses` (`ip:port`) are never dialled; a connection limit of 0 is none."""

    def __init__(
        self,
        *,
        rng: random.Random,
        port: int,
        our_name: PeerName,
        our_addresses: frozenset[str],
        discovery: bool,
        connection_limit: int = 0,
    ) -> None:
        self._rng = rng
        self._port = port
        self._our_name = our_name
        self._our_addresses = our_addresses
        self._discovery = discovery
        self._connection_limit = connection_limit
        self._known_addresses = KnownAddresses(our_name, port)
        self._direct: dict[str, Target] = {}
        self._targets: dict[str, _Target] = {}
        self._left_out = 0
        self._deadline: float | None = None

    # What the operator says

    def connect(self, targets: Sequence[Target], replace: bool, now: float) -> None:
        """Add direct targets, or replace all by these; each is tried at once, whatever happened before."""
        if replace:
            self._direct.clear()
        for target in targets:
            self._direct[target.text] = target
            known = self._targets.get(self._address(target))
            if known is not None:
                known.try_now(now)
        self._deadline = now

    def forget(self, texts: Iterable[str], now: float) -> None:
        """Drop direct targets, named exactly as they were given; their connections stay up."""
        for text in texts:
            self._direct.pop(text, None)
        self._deadline = now

    def direct_targets(self) -> list[str]:
        """Give the texts of the direct targets: what to keep over a restart."""
        return list(self._direct)

    def direct_addresses(self) -> set[str]:
        """Give the addresses (`ip:port`) of the direct targets."""
        return {self._address(target) for target in self._direct.values()}

    def voters(self) -> int:
        """Count the direct targets that can be other peers: not those that turned out to be us or a namesake."""
        addresses = [self._address(target) for target in self._direct.values()]
        ended = {address for address, target in self._targets.items() if target.error and target.due is None}
        return sum(address not in self._our_addresses and address not in ended for address in addresses)

    # What became of dials and connections

    def attempt_failed(self, address: str, error: str, now: float) -> None:
        """The dial or the handshake after it failed."""
        self.attempt_refused(address, error, is_final=False, now=now)

    def attempt_refused(self, address: str, error: str, *, is_final: bool, now: float) -> None:
        """The connection was made but may not join the mesh. `is_final`: trying again cannot help."""
        target = self._targets.get(address)
        if target is not None and target.state is _State.ATTEMPTING:
            target.fail(error)
            if is_final:
                target.due = None
            else:
                target.try_later(now, self._rng)
        self._deadline = now

    def connection_added(self, address: str, outbound: bool, now: float) -> None:
        """A connection joined the mesh; `check` finds it in our record too."""
        target = self._targets.get(address) if outbound else None
        if target is not None:
            target.state, target.error = _State.CONNECTED, ""
        self._deadline = now

    def connection_terminated(self, address: str, outbound: bool, error: str, now: float) -> None:
        """A connection left the mesh; one that lasted is made anew at once."""
        target = self._targets.get(address) if outbound else None
        if target is not None and target.state is _State.CONNECTED:
            target.fail(error)
            if target.due is not None and now - target.due > RESET_AFTER:
                target.try_now(now)
            else:
                target.try_later(now, self._rng)
        self._deadline = now

    # What to do

    def check(self, now: float, records: Iterable[PeerRecord]) -> list[Dial]:
        """Give the dials to make now. `records` are those of all peers, ours with our live connections among them."""
        records = list(records)
        self._end_overdue_attempts(now)
        own = next((record.connections for record in records if record.name == self._our_name), ())
        direct = {self._address(target) for target in self._direct.values()}
        wanted = self._wanted(own, records)
        self._enter(wanted, direct, now)
        self._suspend_unwanted(wanted, direct)
        is_full = bool(self._connection_limit) and len(own) >= self._connection_limit
        dials = self._start_attempts(now, direct, is_full=is_full)
        # What is due and was not started waits for a place, that is for the end or the age of an attempt.
        self._deadline = min((when for when in self._deadlines() if when > now), default=None)
        return dials

    def next_deadline(self) -> float | None:
        """When `check` wants to be called next if nothing happens before."""
        return self._deadline

    # What there is to see

    @property
    def left_out(self) -> int:
        """Number of addresses known from gossip that are not tried because there are too many."""
        return self._left_out

    def targets(self) -> list[TargetStatus]:
        """Give all targets that are tried or will be, in no particular order."""
        return [_status(target) for target in self._targets.values() if target.state in _LISTED]

    # Helpers

    def _address(self, target: Target) -> str:
        return join_address(target.ip, self._port if target.port is None else target.port)

    def _wanted(self, own: Sequence[ConnectionSummary], records: Sequence[PeerRecord]) -> dict[str, None]:
        """Addresses that should have a connection and have none: an ordered set, direct ones first."""
        inbound_ips = {_ip(connection.address) for connection in own if not connection.outbound}
        wanted = {
            self._address(target): None
            for target in self._direct.values()
            if target.port is not None or target.ip not in inbound_ips
        }
        if self._discovery:
            self._known_addresses.update(records)
            neighbours = {connection.remote for connection in own}
            for address in self._known_addresses.excluding(neighbours):
                if address not in self._our_addresses:
                    wanted.setdefault(address)
        for connection in own:
            wanted.pop(connection.address, None)
        return wanted

    def _enter(self, wanted: dict[str, None], direct: set[str], now: float) -> None:
        self._left_out = 0
        for address in wanted:
            if address in self._targets:
                continue
            if address in direct or len(self._targets) < MAX_DISCOVERED:
                self._targets[address] = _Target(address, due=now)
            else:
                self._left_out += 1

    def _suspend_unwanted(self, wanted: dict[str, None], direct: set[str]) -> None:
        for target in list(self._targets.values()):
            if target.state in (_State.ATTEMPTING, _State.CONNECTED):
                continue
            if target.address in wanted:
                target.state = _State.WAITING
            elif target.address in direct:
                target.state = _State.SUSPENDED
            else:
                del self._targets[target.address]

    def _start_attempts(self, now: float, direct: set[str], *, is_full: bool) -> list[Dial]:
        """Start what is due, longest due first, then direct ones, then at random lest all peers dial the same ones."""
        young = sum(now < started + YOUNG for started, _ in self._attempts())
        due = [
            (target.due, target.address not in direct, self._rng.random(), target)
            for target in self._targets.values()
            if target.state is _State.WAITING and target.due is not None and target.due <= now
        ]
        due.sort(key=lambda entry: entry[:3])
        dials: list[Dial] = []
        for _, _, _, target in due:
            if target.address in self._our_addresses:
                target.fail(
                    f"cannot connect to ourself: {target.address} is this node's own address, so drop the target"
                )
                target.due = None
            elif is_full:
                target.fail(f"connection limit reached ({self._connection_limit}): raise it with --conn-limit")
                target.try_later(now, self._rng)
            elif young + len(dials) < MAX_YOUNG_ATTEMPTS:
                target.state, target.due = _State.ATTEMPTING, now
                dials.append(Dial(target.address, accepts_unknown=target.address in direct))
        return dials

    def _end_overdue_attempts(self, now: float) -> None:
        for started, target in self._attempts():
            if now >= started + ATTEMPT_TIMEOUT:
                target.fail(f"the attempt had no outcome in {ATTEMPT_TIMEOUT:.0f} seconds")
                target.try_later(now, self._rng)

    def _attempts(self) -> list[tuple[float, _Target]]:
        """Running attempts with the time of their start."""
        return [
            (target.due, target)
            for target in self._targets.values()
            if target.state is _State.ATTEMPTING and target.due is not None
        ]

    def _deadlines(self) -> Iterator[float]:
        for target in self._targets.values():
            if target.state is _State.WAITING and target.due is not None:
                yield target.due
        for started, _ in self._attempts():
            yield started + YOUNG
            yield started + ATTEMPT_TIMEOUT


_LISTED = frozenset({_State.WAITING, _State.ATTEMPTING})


def _status(target: _Target) -> TargetStatus:
    if target.state is _State.ATTEMPTING:
        state = "retrying" if target.error else "connecting"
        return TargetStatus(target.address, state, target.error, None, target.interval)
    return TargetStatus(
        target.address, "failed" if target.error else "waiting", target.error, target.due, target.interval
    )


def _ip(address: str) -> str:
    where = split_address(address)
    return "" if where is None else where[0]
