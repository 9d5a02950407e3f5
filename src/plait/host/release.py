"""Closing what takes the kernel long to close."""

import threading
from collections.abc import Callable


def release(close: Callable[[], object]) -> None:
    """Have `close` called, and do not wait: some descriptors close only after a grace period of 10 ms and more."""
    try:
        threading.Thread(target=close, name="release").start()
    except RuntimeError:  # no thread can be had: then it takes the time it takes
        close()
