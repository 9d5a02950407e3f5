"""What the sessions of both formats have in common: when they began, whether they work, how they ended."""

from plait.mesh.addresses import join_address
from plait.overlay.outer import is_ipv6 as is_ipv6_address
from plait.overlay.sleeve.actions import Failed
from plait.overlay.sleeve.ipc import Endpoint


class SessionLife:
    """From `confirm` to `stop` or a failure. `remote` is where the neighbour is, None until that is known.

    `is_ipv6` tells the version of IP of the mesh connection, which the datagrams share.
    """

    SIGN = "heartbeat"
    """What a session sends until the neighbour hears it, in a word for people."""

    HEARD = "heard"
    """What the neighbour does to one."""

    def __init__(self, remote: Endpoint | None, *, is_ipv6: bool = False) -> None:
        self.remote = remote
        self._is_ipv6 = is_ipv6
        self.confirmed_since: float | None = None
        self.established_since: float | None = None
        self.last_send_error: str | None = None
        self.ignored_controls = 0
        self.failure: str | None = None
        self._is_stopped = False

    @property
    def is_established(self) -> bool:
        """The neighbour hears us, and the session lives."""
        return self.established_since is not None and self._is_live

    @property
    def state(self) -> str:
        """Where the session stands, in words for a status line."""
        if self.failure is not None:
            return f"failed: {self.failure}"
        if self._is_stopped:
            return "stopped"
        if self.confirmed_since is None:
            return "waiting for the mesh connection"
        if self.established_since is not None:
            return "established"
        if self.remote is None:
            return f"waiting for the peer's first UDP {self.SIGN}"
        return f"sending UDP {self.SIGN}s, the peer has not {self.HEARD} one yet"

    def unavailable(self, reason: str) -> list[Failed]:
        """The overlay cannot carry this connection: `reason` is a sentence."""
        return [] if self._is_over else [self._fail(reason)]

    def stop(self) -> None:
        """End without a failure: the mesh connection was closed."""
        self._is_stopped = True

    @property
    def _is_over(self) -> bool:
        return self._is_stopped or self.failure is not None

    @property
    def _is_live(self) -> bool:
        return self.confirmed_since is not None and not self._is_over

    def _can_be_at(self, ip: str) -> bool:
        """Say whether the neighbour can have an address: nothing of ours goes to one of the other version of IP."""
        return is_ipv6_address(ip) is self._is_ipv6

    def _fail(self, reason: str) -> Failed:
        self.failure = reason
        return Failed(reason)

    def _refused(self) -> Failed:
        """End because the kernel refuses to send, with `last_send_error`."""
        return self._fail(
            f"the kernel refuses to send UDP datagrams to the peer at {address_text(self.remote)} "
            f"({self.last_send_error}); check this host's network, the mesh connects again by itself"
        )

    def _silent_for(self, heard_at: float | None, now: float) -> tuple[float, str]:
        """Give the seconds without a sign of the neighbour, and what the kernel refused meanwhile."""
        since = self.confirmed_since if heard_at is None else heard_at
        refusal = f"; the kernel refused to send: {self.last_send_error}" if self.last_send_error else ""
        return now - (now if since is None else since), refusal


def address_text(remote: Endpoint | None) -> str:
    """Give an address for people."""
    return "an unknown address" if remote is None else join_address(*remote)
