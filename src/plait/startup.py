"""What a node takes from its host before it lives: name, MTU, tap, UDP sockets; and how to give all back."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface
from pathlib import Path

from plait.attach.container import Container
from plait.attach.reset import LINK_PREFIX, reset
from plait.config import DEFAULT_RANGE, Config
from plait.errors import AddressConflict, PermissionNeeded, PlaitError, StateError
from plait.host import tap, udp, underlay
from plait.host.netlink import Link, Netlink
from plait.mesh.addresses import parse_target
from plait.mesh.name import PeerName
from plait.overlay.bridge import TAP
from plait.overlay.fastdp.datapath import KernelDatapath, pins_of
from plait.overlay.fastdp.datapath import remove as remove_datapath
from plait.overlay.fastdp.plan import Tables
from plait.overlay.fastdp.wire import IPV4_OVERHEAD_BYTES, IPV6_OVERHEAD_BYTES, PORT_OFFSET
from plait.overlay.outer import is_ipv6
from plait.overlay.sleeve.plait1.wire import mtu_overhead
from plait.overlay.switch import FASTDP
from plait.state import FILE_NAME, Store

# The bits of a MAC address's first octet (IEEE 802): a name of our own making is locally administered unicast.
_LOCAL, _MULTICAST = 0x02, 0x01
DEFAULT_UNDERLAY_MTU = 1500
# Our own links follow the MTU of the overlay, and would make it smaller with each start.
_NO_UNDERLAY = ("lo", LINK_PREFIX)
# The overlay must at least carry what every IPv6 link must (RFC 8200, section 5).
_MIN_MTU = 1280


@dataclass(slots=True)
class Host:
    """What was opened. File descriptors stay open until the context ends."""

    name: PeerName
    mtu: int
    local_ips: frozenset[str]
    tap_fd: int
    sockets: list[udp.SleeveSockets]
    """In user space, of IPv4 and, where there is such, of IPv6."""
    kernel: KernelDatapath | None = None
    """What carries frames in the kernel; None if that is not wanted or not possible."""
    left: Tables = field(default_factory=Tables)
    """What an earlier node left in the kernel."""
    kernel_lack: str | None = None
    """Why the kernel carries none although that is wanted."""
    overlap: str | None = None
    """Which network here the addresses to share out hide."""

    def reopen_tap(self) -> None:
        """Make the tap again, which somebody removed. Raise what `tap.open_tap` raises."""
        fd, self.tap_fd = self.tap_fd, tap.open_tap(TAP)
        os.close(fd)


@contextlib.contextmanager
def open_host(config: Config, store: Store) -> Iterator[Host]:
    """Open what a node needs; raises PlaitError that says what is missing or taken."""
    if os.geteuid() != 0:
        raise PermissionNeeded("plait must be run as root: it makes network links; use sudo")
    # Who chose the range himself is only warned, as by Weave.
    overlap = range_overlap(config)
    if overlap is not None and config.ipalloc_range == DEFAULT_RANGE:
        raise AddressConflict(f"{overlap}: choose another range with --ipalloc-range, on all peers")
    name = _choose_name(config, store)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(each) for each in udp.open_all_sleeve_sockets(config.host, config.port)]
        local_ips = frozenset(map(str, underlay.local_addresses()))
        host = Host(name, 0, local_ips, tap.open_tap(TAP), sockets, overlap=overlap)
        stack.callback(lambda: os.close(host.tap_fd))
        if FASTDP in config.overlays:
            _open_kernel(config, host)
        if host.kernel is not None:
            stack.callback(host.kernel.close)
        host.mtu = _choose_mtu(config, is_kernel=host.kernel is not None)
        yield host


def range_overlap(config: Config) -> str | None:
    """Say which network of the host the addresses to share out hide, if any."""
    if config.ipalloc_range is None:
        return None
    with Netlink() as netlink:
        routes = netlink.routes()
    for route in routes:
        found = underlay.overlap_with(ip_interface(str(config.ipalloc_range)), [route], (config.bridge,))
        if found is None:
            continue
        return f"{found} (device {route.device}); what is there and containers may not meet"
    return None


def _open_kernel(config: Config, host: Host) -> None:
    is_direct = config.fastdp_encapsulation == "direct"
    kernel = KernelDatapath(config.bridge, config.port + PORT_OFFSET, pins_of(config.state_dir), is_direct=is_direct)
    try:
        host.left = kernel.open()
    except PlaitError as error:
        host.kernel_lack = str(error)
    else:
        host.kernel = kernel


def _choose_name(config: Config, store: Store) -> PeerName:
    """The name given, or the one kept, or that of a bridge Weave left (its MAC), or a new random one; and keep it.

    Random rather than derived from the machine: cloned machines share every id that Weave derived its names from.
    """
    name = config.name or store.peer_name or _name_of_bridge(config.bridge) or _random_name()
    if name != store.peer_name:
        store.set_peer_name(name)
    return name


def _name_of_bridge(bridge: str) -> PeerName | None:
    with Netlink() as netlink:
        link = netlink.link(bridge)
    return PeerName.parse(link.mac) if link is not None and link.kind == "bridge" else None


def _random_name() -> PeerName:
    first, *rest = secrets.token_bytes(6)
    return PeerName.from_bytes6(bytes([(first | _LOCAL) & ~_MULTICAST, *rest]))


def _choose_mtu(config: Config, *, is_kernel: bool) -> int:
    """What a datagram to other hosts can carry: the underlay's MTU without the overhead, unless one is given.

    Weave's largest, 65535, is taken as the largest that a tap can have.
    """
    if config.mtu:
        return min(config.mtu, tap.MAX_MTU)
    is_encrypted = config.password is not None
    by_ipv6 = _is_ipv6_underlay(config)
    overhead = mtu_overhead(is_encrypted, is_ipv6=by_ipv6)
    if is_kernel and not is_encrypted:
        overhead = IPV6_OVERHEAD_BYTES if by_ipv6 else IPV4_OVERHEAD_BYTES
    return max(_MIN_MTU, min(tap.MAX_MTU, _underlay_mtu(config) - overhead))


def _is_ipv6_underlay(config: Config) -> bool:
    """Whether other hosts are met by IPv6: the operator named such addresses, or this host has no others."""
    named = [config.host] if config.host else [parse_target(peer)[0] for peer in config.peers]
    if any(is_ipv6(host) for host in named):
        return True
    uplink = underlay.default_uplink()
    if uplink is not None:
        return uplink.is_ipv6
    with Netlink() as netlink:
        outside = {link.index for link in netlink.links() if link.kind != "bridge" and not _is_no_underlay(link)}
        ips = [address.cidr.ip for address in netlink.addresses() if address.link_index in outside]
    return bool(ips) and all(ip.version == 6 for ip in ips) and not all(ip.is_link_local for ip in ips)


def _is_no_underlay(link: Link) -> bool:
    return link.name.startswith(_NO_UNDERLAY)


def _underlay_mtu(config: Config) -> int:
    """The MTU of the device with the address to bind to, else of the default route, else the smallest of all."""
    with Netlink() as netlink:
        links = {link.index: link for link in netlink.links() if link.is_up}
        for address in netlink.addresses():
            if config.host and address.cidr.ip == ip_address(config.host) and address.link_index in links:
                return links[address.link_index].mtu
    uplink = underlay.default_uplink()
    if uplink is not None:
        return uplink.mtu
    others = [link for link in links.values() if link.kind != "bridge" and not _is_no_underlay(link)]
    return min((link.mtu for link in others), default=DEFAULT_UNDERLAY_MTU)


@contextlib.contextmanager
def pid_file(run_dir: Path) -> Iterator[None]:
    """Say who runs here, for `plait stop` when the API does not answer."""
    path = run_dir / "plait.pid"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{os.getpid()}\n")
    except OSError as error:
        raise StateError(
            f"cannot write {path} ({error.strerror}): free the disk or choose another --run-dir"
        ) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def reset_host(config: Config) -> list[str]:
    """Remove every link, rule and file that a node made here; gives sentences about what could not be removed.

    Raises StateError if a node still runs here.
    """
    if os.geteuid() != 0:
        raise PermissionNeeded("reset must be run as root: it removes network links; use sudo")
    with Store(config.state_dir) as store:
        containers = [Container(a.ident, Path(a.netns), a.netns_id, a.pid, a.docker_id) for a in store.attachments]
        troubles = reset(config.bridge, containers)
        remove_datapath(pins_of(config.state_dir))
    for path in config.state_dir.glob(f"{FILE_NAME}*"):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            troubles.append(f"{path} could not be removed ({error.strerror}): remove it yourself")
    return troubles
