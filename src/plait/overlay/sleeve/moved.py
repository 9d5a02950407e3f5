"""What compiled code is told of a way, and what it tells of the frames that it moved; the code itself is in native/."""

from typing import NamedTuple


class Route(NamedTuple):
    """How datagrams reach a neighbour by the sockets for everybody."""

    plain_fd: int
    df_fd: int
    remote: bytes
    """Its address, as the kernel has it."""
    source: tuple[int, int, bytes]
    """The control message that names ours."""
    max_run: int
    """Datagrams of one send."""


class Sent(NamedTuple):
    """What a sender did."""

    captured: int
    """Frames and super-frames from the tap."""
    frames: int
    """What these became."""
    datagrams: int
    bytes: int
    failed: int
    """Datagrams."""
    error: int
    """The errno of the last that failed."""


class Delivered(NamedTuple):
    """What a receiver did."""

    datagrams: int
    data_datagrams: int
    bytes: int
    """Of the datagrams that were not given back."""
    frames: int
    """Of the neighbour."""
    injected: int
    """Frames and super-frames that these became."""
    forged: int
    malformed: int
    replayed: int
    refused: int
    """Frames that the tap did not take."""
    tap_errno: int | None
    """Of the last frame that was written; None if there was none."""
