"""Checks with a line each, and waiting in a machine that is slow."""

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from plait.testing.lab import Unanswered

T = TypeVar("T")
_POLL_SECONDS = 1.0


class Remark:
    """What a check has to say beside that it passed."""

    def __init__(self) -> None:
        self.text = ""

    def says(self, text: str) -> None:
        """Say this in the check's line."""
        self.text = f": {text}"


class Checks:
    """Call it for a block: what the block raises, it failed with; the next check comes all the same."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0

    @contextmanager
    def __call__(self, what: str) -> Iterator[Remark]:
        """Check one thing; `what` is a sentence that is true if it passes."""
        remark, began = Remark(), time.monotonic()
        try:
            yield remark
        except Exception as error:
            self.failed += 1
            traceback.print_exc()
            print(f"@FAIL {what}: {_first_line(error)}", flush=True)
        else:
            self.passed += 1
            print(f"@ok   {what}{remark.text} ({time.monotonic() - began:.0f} s)", flush=True)

    def ended(self, scenario: str, error: Exception) -> None:
        """Count a scenario that could not go on."""
        self.failed += 1
        traceback.print_exception(error)
        print(f"@FAIL the scenario {scenario} ended: {_first_line(error)}", flush=True)


def wait(condition: Callable[[], T], what: str, seconds: float) -> T:
    """Do what `wait_until` does, asking once a second: where everything is emulated, asking is work."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise Unanswered(f"not within {seconds:g} s: {what}")
        time.sleep(_POLL_SECONDS)
    return found


def _first_line(error: Exception) -> str:
    return " / ".join(str(error).strip().splitlines()[-3:]) or type(error).__name__
