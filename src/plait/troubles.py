"""What goes wrong, told everywhere at once: in the register that `status` shows, in the log, to who asks just now."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import TypeVar

from plait.api import remarks
from plait.errors import StateError
from plait.problems import Problem, Problems

_T = TypeVar("_T")
_log = logging.getLogger("plait")
# How long a passing trouble stays in `status`, seconds: a refused peer that still tries does so every 9 minutes.
SHOWN_SECONDS = 600.0


class Troubles:
    """The problems of a running node, by the event loop's clock. Keys name what is touched."""

    def __init__(self) -> None:
        self._problems = Problems()

    def __contains__(self, key: object) -> bool:
        return key in self._problems

    def report(self, key: str, what: str, cure: str = "", lasts: float | None = None, *, varies: bool = False) -> None:
        """Something is wrong, for `lasts` seconds or until `clear`; `varies` as in `Problems.report`."""
        if self._problems.report(key, what, cure, _now(), lasts, varies=varies):
            _log.warning("%s", f"{what}; cure: {cure}" if cure else what)

    def warn(self, text: str, cure: str = "") -> None:
        """Something passing: shown for a while, and told to who made the request that is being served."""
        remarks.say(f"{text}; cure: {cure}" if cure else text)
        self.report(text, text, cure, SHOWN_SECONDS)

    def clear(self, key: str) -> None:
        """It is over."""
        if self._problems.clear(key):
            _log.info("over: %s", key)

    def current(self) -> list[Problem]:
        """Give what is wrong now, oldest first."""
        return self._problems.current(_now())

    async def keeping(self, work: Awaitable[_T]) -> _T:
        """Do something that writes to the state; what keeps it from being written is a problem of the node too."""
        try:
            return await work
        except StateError as error:
            self.report("state", str(error))
            raise


def _now() -> float:
    return asyncio.get_running_loop().time()
