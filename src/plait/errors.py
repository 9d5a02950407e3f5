"""Errors for people: one sentence with what happened, what it touches and what to do.

The exit codes are the CLI's. 1, 3, 4, 7 and 125 are Weave's (spec: cli); the rest tell plait's own kinds apart.
"""


class PlaitError(Exception):
    """Anything plait can explain. `str()` is the sentence a user reads; it never needs a traceback beside it."""

    exit_code = 1


class UsageError(PlaitError):
    """The words of a command or a flag are off."""

    exit_code = 1


class AlreadyRunning(PlaitError):
    """`launch` while a node runs."""

    exit_code = 3


class NotFound(PlaitError):
    """The node has no such thing, or the service that owns it is off (HTTP 404)."""

    exit_code = 4


class PermissionNeeded(PlaitError):
    """Root, or a capability, is missing."""

    exit_code = 5


class AddressInUse(PlaitError):
    """A port, an address or the name of a link of ours is taken by somebody else."""

    exit_code = 6


class NodeUnreachable(PlaitError):
    """No node answers at the API's address (curl's code for a refused connection, which Weave's CLI passed on)."""

    exit_code = 7


class KernelLacks(PlaitError):
    """The kernel has not what is needed (tun, veth, bridge, nftables)."""

    exit_code = 8


class AddressConflict(PlaitError):
    """An address is held by another container or overlaps a route of the host."""

    exit_code = 9


class StateError(PlaitError):
    """The state file cannot be read or written."""

    exit_code = 10


class KernelRefused(PlaitError):
    """The kernel answered a request with an error that has no kind of its own."""

    exit_code = 11


class FrameLost(PlaitError):
    """`trace`: a frame does not get where it is to go."""

    exit_code = 12


class TaskFailed(PlaitError):
    """A part of the node died, and starting it again does not help."""

    exit_code = 13


class ConfigError(PlaitError):
    """A node refuses its configuration (Weave's code for a rejected flag)."""

    exit_code = 125
