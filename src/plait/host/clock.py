"""Whether something keeps this machine's clock right: adjtimex(2), read only."""

import ctypes
import os
from typing import TypedDict

from plait.host.kernel_errors import kernel_error

_STA_UNSYNC = 0x40  # linux/timex.h
_WORDS = 32  # struct timex has 26 longs


class ClockState(TypedDict):
    """`max_error` in seconds."""

    synchronised: bool
    max_error: float


def state() -> ClockState:
    """Ask the kernel. Raise KernelRefused."""
    # struct timex: modes (int, padded), offset, freq, maxerror, esterror, status (int)
    words = (ctypes.c_long * _WORDS)()
    if ctypes.CDLL(None, use_errno=True).adjtimex(words) < 0:
        code = ctypes.get_errno()
        raise kernel_error(code, f"read the state of the clock ({os.strerror(code)})")
    status = words[5] & 0xFFFFFFFF
    return ClockState(synchronised=not status & _STA_UNSYNC, max_error=words[3] / 1e6)
