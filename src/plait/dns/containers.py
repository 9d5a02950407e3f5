"""The names that containers bring with them: that of `docker run --hostname web.weave.local`, for their addresses."""

import logging
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address

from plait.api.model import Names
from plait.attach.runtime import ContainerRuntime, NoSuchContainer, RuntimeUnavailable
from plait.dns.names import BadName

_log = logging.getLogger(__name__)


class ContainerNames:
    """Gives containers of an engine their own names; those that are no container of it, or have no domain, get none.

    `warn` gets sentences for people.
    """

    def __init__(self, names: Names, runtime: ContainerRuntime, warn: Callable[[str], None]) -> None:
        self._names = names
        self._runtime = runtime
        self._warn = warn

    async def attached(self, container: str, addresses: Iterable[str]) -> None:
        """Name a container's addresses (without length), by the engine's word for it. Raises nothing."""
        if ":" in container or container.isdecimal():
            return  # a namespace or a process
        try:
            found = await self._runtime.inspect(container)
        except (NoSuchContainer, RuntimeUnavailable) as error:
            _log.info("%s gets no name: %s", container, error)
            return
        if not (found.fqdn and found.running):
            return
        for address in (each for each in addresses if ":" not in each):
            try:
                self._names.add(found.ident, int(IPv4Address(address)), found.fqdn)
            except BadName as error:
                self._warn(f"{found.name} gets no name: {error}")
                return
