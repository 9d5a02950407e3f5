"""What goes wrong, told everywhere at once: in the register that `status` shows, in the log, to who asks just now."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import TypeVar

from plait.api import remarks
from plait.chronicle import Chronicle
from plait.errors import StateError
from plait.history import Kind
from plait.problems import Problem, Problems

_T = TypeVar("_T")
# How long a passing trouble stays in `status`, seconds: a refused peer that still tries does so every 9 minutes.
SHOWN_SECONDS = 600.0


class Troubles:
    """The problems of a running node, by the event loop's clock. Keys name what is touched."""

    def __init__(self, chronicle: Chronicle) -> None:
        self._problems = Problems()
        self._chronicle = chronicle

    def __contains__(self, key: object) -> bool:
        return key in self._problems

    def report(
        self,
        key: str,
        what: str,
        cure: str = "",
        lasts: float | None = None,
        *,
        varies: bool = False,
        peer: object = "",
        kind: Kind = Kind.PROBLEM_BEGUN,
        is_logged: bool = True,
    ) -> None:
        """Something is wrong, for `lasts` seconds or until `clear`; `varies` as in `Problems.report`.

        `peer`: whom it is about. `kind`: of the event that begins with it. `is_logged`: False if it was said already.
        """
        is_news = self._problems.report(key, what, cure, _now(), lasts, varies=varies)
        if is_news and is_logged:
            self._chronicle.note(kind, what, cure=cure, peer=peer, level=logging.WARNING)

    def warn(self, text: str, cure: str = "") -> None:
        """Something passing: shown for a while, and told to who made the request that is being served."""
        remarks.say(f"{text}; cure: {cure}" if cure else text)
        self.report(text, text, cure, SHOWN_SECONDS)

    def clear(self, key: str) -> None:
        """It is over."""
        problem = self._problems.clear(key)
        if problem is not None:
            self._chronicle.note(Kind.PROBLEM_OVER, f"over: {problem.what}")

    def current(self) -> list[Problem]:
        """Give what is wrong now, oldest first."""
        for problem in self._problems.expire(_now()):
            self._chronicle.note(Kind.PROBLEM_OVER, f"not seen any more: {problem.what}", level=logging.DEBUG)
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
