"""Who has which addresses on this host, as the state keeps it: containers and the host itself."""

from collections.abc import Iterator

from plait.attach.inventory import EXPOSED
from plait.ipam.address import Cidr
from plait.ipam.check import Use
from plait.ipam.requests import Claim
from plait.state import Store


def uses(store: Store) -> Iterator[Use]:
    """Give every address with its holder, IPv6 too."""
    for attachment in store.attachments:
        yield from (Use(attachment.ident, attachment.netns_id, cidr) for cidr in attachment.cidrs)
    yield from (Use(EXPOSED, EXPOSED, exposure.cidr) for exposure in store.exposures)


def claims(store: Store) -> Iterator[Claim]:
    """Give what an earlier node handed out, for the allocator, which knows IPv4 only."""
    for use in uses(store):
        if ":" not in use.cidr:
            yield Claim(None, use.ident, Cidr.parse(use.cidr), is_container=use.ident != EXPOSED)


def address_of(cidr: str) -> int:
    """Give the IPv4 address of a use as a number."""
    return Cidr.parse(cidr).address


def container_addresses(store: Store) -> set[str]:
    """Give the addresses of containers, without their lengths."""
    return {cidr.partition("/")[0] for attachment in store.attachments for cidr in attachment.cidrs}
