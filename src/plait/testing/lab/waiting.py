"""Waiting for something to become true, with a bound."""

import time
from collections.abc import Callable
from typing import TypeVar

from plait.testing.lab.errors import Unanswered

T = TypeVar("T")
_POLL_SECONDS = 0.02


def wait_until(condition: Callable[[], T], what: str, timeout: float = 10.0) -> T:
    """Call `condition` again and again until it gives something true, and give that.

    Raise Unanswered, naming `what` was waited for, after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise Unanswered(f"not within {timeout:g} s: {what}")
        time.sleep(_POLL_SECONDS)
    return found
