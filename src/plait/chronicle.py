"""Tells what happens: in the history that `plait events` shows, in the log, and to who follows. One event, one line."""

import asyncio
import logging
import time
from collections.abc import Callable

from plait.history import Happening, History, Kind, Page

_log = logging.getLogger("plait")


class Chronicle:
    """The history of a running node and those who wait for more of it."""

    def __init__(self) -> None:
        self._history = History()
        self._more = asyncio.Event()

    def note(
        self,
        kind: Kind,
        what: str,
        *,
        peer: object = "",
        nickname: str = "",
        cure: str = "",
        level: int = logging.INFO,
        exc_info: BaseException | None = None,
    ) -> None:
        """Something happened: a sentence, whom it is about, and what helps."""
        self._history.add(kind, what, time.time(), peer=str(peer), nickname=nickname, cure=cure)
        extra = {"event": kind.value, "peer": str(peer), "cure": cure}
        _log.log(level, "%s", what, extra=extra, exc_info=exc_info)
        self._more.set()
        self._more = asyncio.Event()

    async def after(self, number: int, wait: float, wanted: Callable[[Happening], bool]) -> Page:
        """Give the events after this number; wait up to so many seconds for one if there is none."""
        deadline = asyncio.get_running_loop().time() + wait
        while True:
            more, page = self._more, self._history.after(number, wanted)
            if page.events or page.missed or asyncio.get_running_loop().time() >= deadline:
                return page
            number = page.last
            try:
                async with asyncio.timeout_at(deadline):
                    await more.wait()
            except TimeoutError:
                pass
