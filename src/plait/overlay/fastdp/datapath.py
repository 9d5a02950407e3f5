"""The programs, maps and devices of this host's datapath: made, kept and removed. It blocks, and decides nothing.

What a frame needs is pinned in bpffs and belongs to the kernel: it goes on when the node that made it is gone, and the
next node takes it over. Call `open`, `ensure` and `remove` in a thread; the rest costs microseconds.
"""

import errno
import hashlib
import os
import shutil
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from importlib import resources
from itertools import islice, product
from pathlib import Path

from plait.errors import KernelLacks, PlaitError
from plait.host import sysctl, udp
from plait.host.bpf.attachment import Direction, Way, attach, attached, detach
from plait.host.bpf.bpffs import ensure_bpffs
from plait.host.bpf.elf import read_object
from plait.host.bpf.features import probe
from plait.host.bpf.loader import MapMismatch, load
from plait.host.bpf.maps import Map
from plait.host.bpf.mirror import MapMirror
from plait.host.bpf.ringbuf import RingBuffer
from plait.host.netlink import Link, Netlink
from plait.overlay.bridge import TAP, containers
from plait.overlay.ethernet import octets
from plait.overlay.fastdp import tables
from plait.overlay.fastdp.carrier import Underlay
from plait.overlay.fastdp.description import Description, MapUse, ProgramPlace, entries_used
from plait.overlay.fastdp.plan import Tables
from plait.overlay.fastdp.tables import ID, Conf, Container, Event, Fan, Neighbour, NextHop, PeerStats
from plait.overlay.fastdp.wire import pack_vni, vxlan_header
from plait.overlay.outer import is_ipv6

DEVICE = "vethwe-vxlan"
"""Begins as all links of Weave and plait do, so that every clean-up finds it."""

DEVICE_MTU = 65485
"""The largest a VXLAN device can have: the bridge must not drop what the underlay could carry, or answer to."""

PINS = Path("/sys/fs/bpf/plait")
_OBJECT = "fastdp.bpf.o"

MAX_AGE = 600.0
"""Seconds without traffic until a learned address is forgotten (Weave: macMaxAge)."""

_NEEDED = frozenset(("bpf", "ring_buffer", "redirect_peer", "redirect_neigh"))
"""What bpf/fastdp.bpf.c uses (host/bpf/features.py)."""

_SO_NO_CHECK = 11
_UDP_NO_CHECK6_TX = 101
"""Both: UDP without a checksum, as the datapath sends it."""

_TUNNELS = frozenset(("tun", "wireguard", "ipip", "sit", "gre", "ip6tnl", "ppp", "vti", "xfrm"))
"""Kinds of links without Ethernet headers, or that change packets after us."""


class KernelDatapath:
    """One node's. `pins` is the node's own directory in bpffs."""

    def __init__(self, bridge: str, port: int, pins: Path, *, is_direct: bool = True, way: Way | None = None) -> None:
        """`port`: UDP port of VXLAN. `is_direct`: outer headers are written by the programs where that is possible."""
        self.port = port
        self.way = way
        self._bridge = bridge
        self._pins = pins
        self._is_direct = is_direct
        self._tap = self._device = 0
        self._our_id = tables.NO_ID
        self._attached: dict[tuple[int, Direction], str] = {}
        self._underlays: dict[str, Underlay] = {}

    def open(self) -> Tables:
        """Load the programs and take over what an earlier node left. Raises PlaitError."""
        features = probe()
        missing = [why for name, why in features.reasons.items() if name in _NEEDED]
        if missing:
            raise KernelLacks(f"this kernel cannot carry frames by itself: {'; '.join(dict.fromkeys(missing))}")
        self.way = self.way or (Way.TCX if features.tcx else Way.CLSACT)
        ensure_bpffs(PINS.parent)
        self._pins.mkdir(mode=0o700, parents=True, exist_ok=True)
        program = read_object(resources.files("plait.overlay.fastdp").joinpath("bpf", _OBJECT).read_bytes())
        try:
            self._loaded = load(program, self._pins)
        except MapMismatch:
            # Another version's tables: what they say can be found out again, what they mean cannot.
            shutil.rmtree(self._pins)
            self._pins.mkdir(mode=0o700)
            self._loaded = load(program, self._pins)
        self._maps: Mapping[str, Map] = self._loaded.maps
        self._ring = RingBuffer(self._maps["events"])
        self._sockets = {version: _open_socket(version) for version in _versions()}
        self._mirror()
        return self._tables

    @property
    def our_id(self) -> int | None:
        """The short id that the tables say is ours."""
        return None if self._our_id == tables.NO_ID else self._our_id

    def close(self) -> None:
        """Let go of everything; what is pinned goes on."""
        self._ring.close()
        for sock in self._sockets.values():
            sock.close()
        self._loaded.close()

    # Keeping

    def ensure(self, remotes: Collection[str]) -> list[str]:
        """Make and repair the device, attach the programs, tell them of containers; gives sentences about repairs.

        `remotes`: addresses of the neighbours. Raises PlaitError.
        """
        with Netlink() as netlink:
            repairs = self._ensure_device(netlink, remotes)
            bridge, tap = netlink.link(self._bridge), netlink.link(TAP)
            device = netlink.link(DEVICE)
            if bridge is None or tap is None or device is None:
                return repairs  # the bridge's keeper makes them; the next look finds them
            self._device, self._tap = device.index, tap.index
            if tap.master_index == bridge.index:
                netlink.set_isolated(TAP, True)
            netlink.set_isolated(DEVICE, True)
            ports = [port for port in netlink.ports(self._bridge) if port.index not in (tap.index, device.index)]
            underlays = self._find_underlays(netlink, remotes)
            here = {mac: Container(port.index, is_elsewhere=True) for mac, port in containers(netlink, ports)}
        self._write_conf()
        repairs += self._attach(self._points(ports, underlays))
        self._containers.set({octets(bridge.mac): Container(0, is_elsewhere=False)} | here)
        self._underlays = underlays
        return repairs

    def underlay(self, remote: str) -> Underlay | None:
        """Give the way to a neighbour as the last `ensure` found it."""
        return self._underlays.get(remote)

    def write(self, wanted: Tables) -> None:
        """Make the node's tables say this. Raises PlaitError; what the kernel did not take is written the next time."""
        self._neighbours.set({ip: each for ip, each in wanted.neighbours.items() if not is_ipv6(ip)})
        self._neighbours6.set({ip: each for ip, each in wanted.neighbours.items() if is_ipv6(ip)})
        self._nexthops.set(wanted.nexthops)
        self._trees.set(wanted.trees)
        if wanted.our_id != self._our_id:
            self._our_id = wanted.our_id
            self._write_conf()

    def write_announced(self, owners: Mapping[bytes, int]) -> None:
        """Say behind which peer (short id) MAC addresses are that others announced. Raises PlaitError.

        What finds no room in the map is found by flooding, as addresses that nobody announced.
        """
        self._announced.set(dict(islice(owners.items(), self._announced.max_entries)))

    def container_macs(self) -> list[bytes]:
        """Give the MAC addresses of this host's containers, as the last `ensure` found them."""
        return [mac for mac, container in self._containers.held.items() if container.is_elsewhere]

    def forget(self, short_ids: Collection[int]) -> None:
        """Forget the addresses learned behind these peers: their ids mean others now, or nobody."""
        learned = self._maps["learned"]
        for mac, value in learned.items():
            if tables.unpack_learned(value)[1] in short_ids:
                learned.delete(mac)

    def sweep(self) -> None:
        """Forget the addresses that were silent for MAX_AGE."""
        learned, oldest = self._maps["learned"], time.monotonic() - MAX_AGE
        for mac, value in learned.items():
            if tables.unpack_learned(value)[0] < oldest:
                learned.delete(mac)

    def lacks(self) -> list[str]:
        """Say which programs are gone from where `ensure` attached them. Blocking: call in a thread."""
        assert self.way is not None
        found = []
        for (index, direction), name in list(self._attached.items()):
            with suppress(OSError, PlaitError):  # an interface that is gone takes its program along, rightly
                where = socket.if_indextoname(index)
                if attached(index, direction, self.way, self._pin(index, direction)) != self._loaded.programs[name].id:
                    found.append(f"eBPF program {name} is gone from the {direction.value} of {where}")
        return found

    def ring_waiting_at(self) -> int | None:
        """Give the place in the ring of the oldest heartbeat that nobody took yet; None if none waits."""
        return self._ring.waiting_at()

    # Heartbeats

    def fileno(self) -> int:
        """Becomes readable when `events` has something."""
        return self._ring.fileno()

    def events(self) -> Iterator[Event]:
        """Give the heartbeats that came in."""
        for record in self._ring.read():
            event = Event.unpack(record)
            if event is not None:
                yield event

    def send(self, frame: bytes, peer_id: int, local: str, remote: str) -> None:
        """Send a frame of the node itself to a neighbour. Raises OSError, EMSGSIZE if the interface is too narrow."""
        header = vxlan_header(pack_vni(self._our_id, peer_id))
        sock = self._sockets.get(udp.family(remote))
        if sock is None:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        sock.sendmsg([header, frame], [udp.pktinfo(local)], 0, (remote, self.port))

    # Counters

    def stats(self, short_id: int) -> PeerStats:
        """Give what was exchanged with a neighbour."""
        return PeerStats.total(self._maps["stats"].lookup_per_cpu(ID.pack(short_id)) or [])

    def drops(self) -> dict[str, int]:
        """Give how many frames were dropped, by reason (tables.DROP_REASONS)."""
        counts = self._maps["drops"]
        return {
            reason: tables.total_count(counts.lookup_per_cpu(ID.pack(number)) or [])
            for number, reason in enumerate(tables.DROPS)
        }

    def learned(self) -> Iterator[tuple[str, float, int | None]]:
        """Give the learned addresses: MAC, when last seen (CLOCK_MONOTONIC), short id of the peer or None."""
        for mac, value in self._maps["learned"].items():
            seen, peer = tables.unpack_learned(value)
            yield mac[:6].hex(":"), seen, peer

    def describe(self) -> Description:
        """Give all of the above, and what runs where; it reads every map, so call it in a thread."""
        programs, way = self._loaded.programs, "" if self.way is None else self.way.value
        places = sorted((name, index, direction.value) for (index, direction), name in self._attached.items())
        return Description(
            programs=[
                ProgramPlace(name, programs[name].id, _interface_name(index), direction, way)
                for name, index, direction in places
            ],
            maps=[
                MapUse(name, each.kind.name.lower(), entries_used(each), each.max_entries)
                for name, each in sorted(self._maps.items())
            ],
            device=DEVICE,
            underlays=dict(self._underlays),
            tables=self._tables,
            stats={
                ID.unpack(key)[0]: PeerStats.total(values)
                for key, values in self._maps["stats"].items_per_cpu()
                if any(map(any, values))
            },
            drops=self.drops(),
            learned=list(self.learned()),
            announced={mac.hex(":"): short_id for mac, short_id in self._announced.held.items()},
            port=self.port,
        )

    # Helpers

    def _ensure_device(self, netlink: Netlink, remotes: Collection[str]) -> list[str]:
        bridge = netlink.link(self._bridge)
        if bridge is None:
            return []
        repairs = []
        device = netlink.link(DEVICE)
        if device is None:
            netlink.create_vxlan(DEVICE, self.port, DEVICE_MTU)
            device = netlink.link(DEVICE)
            repairs.append(f"VXLAN device {DEVICE} was absent: made it")
        elif not device.takes_zero_checksums and any(map(is_ipv6, remotes)):
            netlink.delete_link(DEVICE)
            netlink.create_vxlan(DEVICE, self.port, DEVICE_MTU)
            device = netlink.link(DEVICE)
            repairs.append(f"VXLAN device {DEVICE} refused IPv6 packets without a checksum: made it anew")
        if device is not None and device.master_index != bridge.index:
            netlink.set_link(DEVICE, master=self._bridge)
        # The kernel would report its multicast groups there to all peers, again and again.
        with suppress(KernelLacks):  # without IPv6 there is nothing to switch off
            sysctl.write(f"net.ipv6.conf.{DEVICE}.disable_ipv6", "1")
        if device is not None and not device.is_up:
            # Weave's own device, or any other on this port, shows here: AddressInUse.
            netlink.set_link(DEVICE, up=True)
        return repairs

    def _find_underlays(self, netlink: Netlink, remotes: Collection[str]) -> dict[str, Underlay]:
        found = {}
        for remote in remotes:
            route = netlink.route_to(remote)
            link = netlink.link(route.device) if route else None
            if link is not None:
                found[remote] = Underlay(link.index, link.name, link.mtu, self._is_direct and _is_plain(link))
        return found

    def _points(self, ports: Iterable[Link], underlays: Mapping[str, Underlay]) -> dict[tuple[int, Direction], str]:
        points = {(port.index, Direction.INGRESS): "from_container" for port in ports}
        points |= {(each.index, Direction.INGRESS): "from_underlay" for each in underlays.values() if each.is_direct}
        points[self._device, Direction.INGRESS] = "from_vxlan"
        points[self._device, Direction.EGRESS] = "to_vxlan"
        points[self._tap, Direction.INGRESS] = "from_tap"
        points[self._tap, Direction.EGRESS] = "to_tap"
        return points

    def _attach(self, points: Mapping[tuple[int, Direction], str]) -> list[str]:
        """Have the programs run at these points and at no others; says what another tool had taken away."""
        assert self.way is not None
        repairs = []
        for (index, direction), name in points.items():
            program, pin = self._loaded.programs[name], self._pin(index, direction)
            if (index, direction) in self._attached:
                if attached(index, direction, self.way, pin) == program.id:
                    continue
                place = f"{direction.value} of {_interface_name(index)}"
                repairs.append(f"eBPF program {name} was gone from the {place}: attached it again")
            attach(program, index, direction, pin, way=self.way)
        for index, direction in self._attached.keys() - points.keys():
            with suppress(OSError):  # the interface is gone, and the program with it
                detach(index, direction, self._pin(index, direction), self.way)
        self._attached = dict(points)
        wanted = {self._pin(*point).name for point in points}
        for pin in self._pins.glob("link-*"):
            if pin.name not in wanted:
                pin.unlink(missing_ok=True)
        return repairs

    def _pin(self, index: int, direction: Direction) -> Path:
        return self._pins / f"link-{index}-{direction.name.lower()}"

    def _write_conf(self) -> None:
        if self._device:
            conf = Conf(self._our_id, self._device, self._tap, self.port)
            self._maps["conf"].update(ID.pack(0), conf.pack())

    def _mirror(self) -> None:
        """Take over what is in the maps. An array counts as empty where nothing was ever written."""
        maps = self._maps
        self._our_id = Conf.unpack(maps["conf"].lookup(ID.pack(0)) or b"").our_id
        by_id = ID.pack, tables.unpack_id
        by_mac = tables.mac_key, tables.unpack_mac
        self._nexthops = MapMirror(maps["nexthops"], *by_id, NextHop.pack, NextHop.unpack)
        self._trees = MapMirror(maps["trees"], *by_id, Fan.pack, Fan.unpack)
        by_address = tables.pack_address, tables.unpack_address, Neighbour.pack, Neighbour.unpack
        self._neighbours = MapMirror(maps["neighbours"], *by_address)
        self._neighbours6 = MapMirror(maps["neighbours6"], *by_address)
        self._containers = MapMirror(maps["containers"], *by_mac, Container.pack, Container.unpack)
        self._announced = MapMirror(maps["announced"], *by_mac, ID.pack, tables.unpack_id)

    @property
    def _tables(self) -> Tables:
        neighbours = {**self._neighbours.held, **self._neighbours6.held}
        return Tables(self._our_id, dict(self._nexthops.held), dict(self._trees.held), neighbours)


def pins_of(state_dir: Path) -> Path:
    """The directory of the node that keeps its state there: several nodes may share a machine."""
    return PINS / hashlib.sha256(os.fsencode(state_dir.absolute())).hexdigest()[:16]


def remove(pins: Path) -> None:
    """Remove programs, maps and device of a node that does not run. Links of the programs end with their pins."""
    with Netlink() as netlink:
        netlink.delete_link(DEVICE)
        links = netlink.links()
    for link, direction in product(links, Direction):  # clsact has no pins that say where programs are
        with suppress(KernelLacks):  # a kernel without filters has none of ours
            detach(link.index, direction, None, Way.CLSACT)
    shutil.rmtree(pins, ignore_errors=True)


def _interface_name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"number {index}, which is gone"


def _is_plain(link: Link) -> bool:
    return bool(link.mac) and link.kind not in _TUNNELS and link.name != "lo"


def _versions() -> list[socket.AddressFamily]:
    return [socket.AF_INET, socket.AF_INET6] if udp.has_ipv6() else [socket.AF_INET]


def _open_socket(version: socket.AddressFamily) -> socket.socket:
    """For heartbeats: DF whatever a router said about the path's MTU, no checksum, as Weave sends them."""
    sock = socket.socket(version, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    udp.set_discovery(sock, udp.IP_PMTUDISC_PROBE)
    if version == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_UDP, _UDP_NO_CHECK6_TX, 1)
    else:
        sock.setsockopt(socket.SOL_SOCKET, _SO_NO_CHECK, 1)
    return sock
