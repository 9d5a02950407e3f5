"""Attaching with addresses that the allocator chose or agreed to: first the address, then the interface.

What was chosen for a container that then could not be attached is given back.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from plait.errors import NotFound, PlaitError, UsageError
from plait.ipam.address import Cidr, InvalidAddress
from plait.ipam.service import AddressService

DEFAULT = "net:default"
"""The word for an address of the default subnet, and what no word at all stands for."""
HOST = "weave:expose"
"""Weave's name for this host as a holder of addresses."""
_NET, _IP = "net:", "ip:"
_OFF = (
    "IP address allocation must be enabled to use 'net:'\n"
    "the node was launched with an empty --ipalloc-range: name an address with its length, like 10.2.1.1/24"
)


class Attachments(Protocol):
    """Who does it (attach.service.Attacher)."""

    async def ident_of(self, container_text: str) -> str:
        """Give the name under which a container is recorded."""

    async def recorded_ident(self, container_text: str) -> str:
        """The same of one that may be gone."""

    async def attach(self, container_text: str, cidrs: list[str], multicast_route: bool = True) -> list[str]:
        """Give the container these addresses."""

    async def detach(self, container_text: str, cidrs: list[str]) -> list[str]:
        """Take these, or all, from the container."""

    async def expose(self, cidrs: list[str], masquerade: bool = True) -> list[str]:
        """Give the host these addresses."""

    async def hide(self, cidrs: list[str]) -> list[str]:
        """Take these, or all, from the host."""


class _Got(NamedTuple):
    cidr: str
    is_new: bool


class Attaching:
    """The verbs about addresses. `addresses` is None without an allocator: then only explicit ones are possible."""

    def __init__(self, attachments: Attachments, addresses: AddressService | None) -> None:
        self._attachments = attachments
        self._addresses = addresses

    async def attach(self, container: str, words: list[str], multicast_route: bool) -> list[str]:
        """Attach with `net:default`, `net:SUBNET`, `ADDR/LEN` or `ip:ADDR/LEN`; without any with `net:default`.

        It waits while no address can be had. Raise UsageError without an allocator, Refused for an address in use.
        """
        words = self._checked(words)
        if self._addresses is None:
            return await self._attachments.attach(container, words, multicast_route)
        ident = await self._attachments.ident_of(container)
        with self._addresses.hold(ident):
            got = await self._obtain(ident, words, is_container=True)
            try:
                return await self._attachments.attach(container, [each.cidr for each in got], multicast_route)
            except BaseException:
                await self._give_back(ident, (each.cidr for each in got if each.is_new))
                raise

    async def detach(self, container: str, words: list[str]) -> list[str]:
        """Take these addresses (`net:` for those of a subnet; all without words), and release them."""
        if self._addresses is None:
            return await self._attachments.detach(container, self._explicit(words))
        ident = await self._attachments.recorded_ident(container)
        wanted = self._held(ident, words)
        if words and not wanted:
            return []
        before = self._of(ident)
        removed = await self._attachments.detach(container, wanted)
        await self._give_back(ident, (cidr for cidr in before if not words or _bare(cidr) in removed))
        return removed

    async def expose(self, words: list[str], masquerade: bool) -> list[str]:
        """Give the host addresses; words as of `attach`."""
        words = self._checked(words)
        if self._addresses is None:
            return await self._attachments.expose(words, masquerade)
        got = await self._obtain(HOST, words, is_container=False)
        try:
            return await self._attachments.expose([each.cidr for each in got], masquerade)
        except BaseException:
            await self._give_back(HOST, (each.cidr for each in got if each.is_new))
            raise

    async def hide(self, words: list[str]) -> list[str]:
        """Take addresses from the host; words as of `detach`."""
        if self._addresses is None:
            return await self._attachments.hide(self._explicit(words))
        wanted = self._held(HOST, words)
        if words and not wanted:
            return []
        before = self._of(HOST)
        removed = await self._attachments.hide(wanted)
        await self._give_back(HOST, (cidr for cidr in before if not words or _bare(cidr) in removed))
        return removed

    def _checked(self, words: list[str]) -> list[str]:
        words = [word.removeprefix(_IP) for word in words] or [DEFAULT]
        if self._addresses is None and any(word.startswith(_NET) for word in words):
            raise UsageError(_OFF)
        return words

    def _explicit(self, words: list[str]) -> list[str]:
        """Weave's answer to `net:` without an allocator is that there is no such thing."""
        if any(word.startswith(_NET) for word in words):
            raise NotFound("")
        return [word.removeprefix(_IP) for word in words]

    async def _obtain(self, ident: str, words: list[str], *, is_container: bool) -> list[_Got]:
        assert self._addresses is not None
        got: list[_Got] = []
        try:
            for word in words:
                before = self._of(ident)
                if word.startswith(_NET):
                    cidr = await self._addresses.allocate(ident, self._subnet(word), is_container=is_container)
                    got.append(_Got(str(cidr), str(cidr) not in before))
                elif (claimed := _v4(word)) is not None:
                    # Who names an address has it also while nobody can be asked: it is claimed as soon as one can.
                    await self._addresses.claim(ident, claimed, is_container=is_container, no_error_on_unknown=True)
                    got.append(_Got(word, str(claimed) not in before))
                else:
                    got.append(_Got(word, False))  # IPv6, and what the attacher will refuse: not the allocator's
        except BaseException:
            await self._give_back(ident, (each.cidr for each in got if each.is_new))
            raise
        return got

    def _subnet(self, word: str) -> Cidr:
        assert self._addresses is not None
        return self._addresses.default_subnet if word == DEFAULT else Cidr.parse_subnet(word.removeprefix(_NET))

    def _held(self, ident: str, words: list[str]) -> list[str]:
        """Words with each `net:` replaced by what the ident holds there."""
        assert self._addresses is not None
        found: list[str] = []
        for word in words:
            if word.startswith(_NET):
                found += map(str, self._addresses.lookup(ident, self._subnet(word)))
            else:
                found.append(word.removeprefix(_IP))
        return found

    def _of(self, ident: str) -> list[str]:
        assert self._addresses is not None
        holding = self._addresses.owned().get(ident)
        return [str(cidr) for cidr in holding.cidrs] if holding is not None else []

    async def _give_back(self, ident: str, cidrs: Iterable[str]) -> None:
        assert self._addresses is not None
        for cidr in cidrs:
            try:
                await self._addresses.free(ident, Cidr.parse(cidr).address)
            except PlaitError:
                pass  # it was not recorded (any more); what could not be written is told by the service


def _v4(word: str) -> Cidr | None:
    try:
        return Cidr.parse(word)
    except InvalidAddress:
        return None


def _bare(cidr: str) -> str:
    return cidr.partition("/")[0]
