"""Looks after the node's tasks: one that dies is told of at once, started again, and in the end takes the node along.

The kernel's datapath and the pump go on meanwhile.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from plait.chronicle import Chronicle
from plait.errors import PlaitError, TaskFailed
from plait.history import Kind
from plait.restarts import MAX_DEATHS, WINDOW, Restarts
from plait.troubles import SHOWN_SECONDS, Troubles

REPORT_IT = "report it with what the log says at this time"


@dataclass(frozen=True, slots=True)
class Task:
    """A part of the node that runs until it is cancelled. `make` begins it; one that is `vital` cannot begin again."""

    name: str
    make: Callable[[], Coroutine[Any, Any, None]]
    is_vital: bool = False


class Supervisor:
    """Of one node."""

    def __init__(self, troubles: Troubles, chronicle: Chronicle) -> None:
        self._troubles = troubles
        self._chronicle = chronicle
        self._restarts: dict[str, Restarts] = {}
        self._fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.dead: dict[str, str] = {}
        """The tasks that do not run just now, and why."""

    async def keep(self, task: Task) -> None:
        """Run a task until cancelled or it ends well; raises TaskFailed, or its PlaitError, if it dies too often."""
        while True:
            try:
                await task.make()
                return
            except Exception as error:
                delay = self._died(task.name, error, is_vital=task.is_vital)
            await asyncio.sleep(delay)
            del self.dead[task.name]
            self._chronicle.note(Kind.TASK_RESTARTED, f"the node's part {task.name!r} was started again")

    def guarded(self, name: str, call: Callable[[], None]) -> Callable[[], None]:
        """Give a function for the event loop to call: its errors are told of, and too many end the node."""

        def guard() -> None:
            try:
                call()
            except Exception as error:
                try:
                    self._died(name, error)
                except PlaitError as end:
                    if not self._fatal.done():
                        self._fatal.set_exception(end)
            else:
                self.dead.pop(name, None)

        return guard

    async def watch(self) -> None:
        """Raise what ended a guarded function for good."""
        await self._fatal

    def _died(self, name: str, error: Exception, *, is_vital: bool = False) -> float:
        """Tell of it; gives after how many seconds to start again. Raises PlaitError if that is given up."""
        why = str(error) if isinstance(error, PlaitError) else f"{type(error).__name__}: {error}"
        what = f"the node's part {name!r} died ({why})"
        self.dead[name] = why
        delay = self._restarts.setdefault(name, Restarts()).died(asyncio.get_running_loop().time())
        defect = None if isinstance(error, PlaitError) else error
        self._chronicle.note(Kind.TASK_DIED, what, cure=REPORT_IT, level=logging.ERROR, exc_info=defect)
        self._troubles.report(f"task {name}", f"{what}; it is started again", REPORT_IT, SHOWN_SECONDS, is_logged=False)
        if delay is not None and not is_vital:
            return delay
        if isinstance(error, PlaitError):
            raise error
        often = "it cannot be started again alone" if is_vital else f"{MAX_DEATHS} times within {WINDOW:.0f} s"
        raise TaskFailed(f"the node ends: {what}, {often}; systemd starts it again, else 'plait launch'; {REPORT_IT}")
