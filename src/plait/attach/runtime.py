"""What attaching needs to know of a container engine. An engine's adapter implements it; nothing here talks to one."""

from dataclasses import dataclass
from typing import Protocol

from plait.errors import PlaitError


class NoSuchContainer(PlaitError):
    """Neither the engine nor this machine knows the container."""


class ContainerNotRunning(PlaitError):
    """The container exists but has no process."""


class RuntimeUnavailable(PlaitError):
    """No engine answers, or its answer makes no sense."""


@dataclass(frozen=True, slots=True)
class RuntimeContainer:
    """A container as its engine describes it. `pid` is 0 when it does not run; `network_mode` is Docker's word.

    `fqdn` is its host name with its domain, empty without a domain.
    """

    ident: str
    name: str
    pid: int
    running: bool
    network_mode: str
    fqdn: str = ""


class ContainerRuntime(Protocol):
    """A container engine. Both methods may raise RuntimeUnavailable."""

    async def inspect(self, container: str) -> RuntimeContainer:
        """Look at a container by its id, a prefix of it, or its name. Raise NoSuchContainer."""

    async def running(self) -> list[RuntimeContainer]:
        """All containers that have a process."""
