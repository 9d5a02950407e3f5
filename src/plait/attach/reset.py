"""Taking back everything that attaching ever gave: what `plait reset` leaves of this host is nothing of ours."""

from plait.attach.container import Container, ContainerDied
from plait.attach.interface import detach
from plait.errors import PlaitError
from plait.host import firewall, tables
from plait.host.netlink import Netlink

# All links of Weave and plait but the bridge begin so (spec cli, reset).
LINK_PREFIX = "vethwe"


def reset(bridge: str, containers: list[Container]) -> list[str]:
    """Detach these containers, then remove links, rules and the bridge; gives sentences about what could not be."""
    troubles = []
    for container in containers:
        try:
            detach(container, None)
        except ContainerDied:
            continue
        except PlaitError as error:
            troubles.append(f"{container.ident} could not be detached: {error}")
    with Netlink() as netlink:
        for link in netlink.links():
            if link.name.startswith(LINK_PREFIX):
                netlink.delete_link(link.name)
        ours = netlink.link(bridge)
        if ours is not None and ours.kind == "bridge":
            netlink.delete_link(bridge)
    for table in (tables.EXPOSE, tables.API_GUARD):
        firewall.delete("ip", table)
    firewall.delete("ip6", tables.EXPOSE)
    firewall.delete_accepts()
    return troubles
