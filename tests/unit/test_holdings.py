"""Who has which addresses, from a real state file."""

from pathlib import Path

from plait import holdings
from plait.attach.inventory import EXPOSED
from plait.ipam.address import Cidr
from plait.ipam.check import Use
from plait.ipam.requests import Claim
from plait.state import Attachment, Exposure, Store

CONTAINER = Attachment("c1", "/run/netns/c1", "boot/1", None, None, ("10.32.0.1/12", "fd00::1/64"), True)
HOST = Exposure("10.32.0.100/12", masquerade=True)


def test_what_containers_and_the_host_have(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        assert not [*holdings.uses(store), *holdings.claims(store), *holdings.container_addresses(store)]
        store.put_attachment(CONTAINER)
        store.set_exposures([HOST])
        assert list(holdings.uses(store)) == [
            Use("c1", "boot/1", "10.32.0.1/12"),
            Use("c1", "boot/1", "fd00::1/64"),
            Use(EXPOSED, EXPOSED, "10.32.0.100/12"),
        ]
        assert list(holdings.claims(store)) == [
            Claim(None, "c1", Cidr.parse("10.32.0.1/12"), is_container=True),
            Claim(None, EXPOSED, Cidr.parse("10.32.0.100/12"), is_container=False),
        ]
        assert holdings.container_addresses(store) == {"10.32.0.1", "fd00::1"}
