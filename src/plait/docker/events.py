"""Hears of the starts and ends of containers as they happen; after a gap it has everything looked at once.

The node's regular look at all containers stays: this makes it come at once, and an engine that is silent loses nothing.
"""

import asyncio
import logging
from typing import Protocol

from plait.attach.runtime import RuntimeUnavailable
from plait.docker.client import DockerClient
from plait.troubles import Troubles

_log = logging.getLogger(__name__)

RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Before each attempt to hear an engine that does not answer; the last one again and again."""


class Listener(Protocol):
    """Who is told; idents are an engine's long ones."""

    def started(self, ident: str) -> None:
        """A container has a process."""

    def died(self, ident: str) -> None:
        """A container has a process no longer."""

    def destroyed(self, ident: str) -> None:
        """A container was removed."""

    def missed(self) -> None:
        """Anything may have happened."""


class EngineWatch:
    """Tells `listener` what the engine tells."""

    def __init__(self, docker: DockerClient, listener: Listener, troubles: Troubles) -> None:
        self._docker = docker
        self._told = {"start": listener.started, "die": listener.died, "destroy": listener.destroyed}
        self._listener = listener
        self._troubles = troubles

    async def run(self) -> None:
        """Listen until cancelled. A stream that breaks is a problem of the node until the next one."""
        failures, was_heard = 0, False
        while True:
            try:
                async with self._docker.news() as news:
                    failures, was_heard = 0, True
                    self._troubles.clear("docker")
                    self._listener.missed()  # what happened before is told by nobody
                    async for action, ident in news:
                        _log.debug("the engine says %s of the container %s", action, ident)
                        if action in self._told:
                            self._told[action](ident)
                raise RuntimeUnavailable("the Docker engine ended its events")
            except RuntimeUnavailable as error:
                if was_heard:  # a host without an engine has no problem
                    cure = "start it; what ends meanwhile is noticed when it is back"
                    self._troubles.report("docker", f"the ends of containers are not heard: {error}", cure)
                await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1
