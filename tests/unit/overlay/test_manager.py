"""Two overlay managers with everything real but the pump's process: what one would send, the other receives."""

import asyncio
import errno
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import pytest

from plait.errors import KernelRefused
from plait.mesh import messages
from plait.mesh.events import ConnectionId
from plait.mesh.links import Link, Links
from plait.mesh.name import PeerName
from plait.mesh.records import ConnectionSummary, PeerRecord, PeerSummary
from plait.mesh.routes import Routes
from plait.overlay.live import our_features
from plait.overlay.manager import OverlayManager
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.plait1.keys import CIPHER_FEATURE, Cipher, agreed_cipher
from plait.overlay.sleeve.plait1.session import CONTROL_GENERATION, Plait1Session
from plait.overlay.sleeve.session import SleeveSession
from plait.overlay.sleeve.supervisor import Pump
from plait.overlay.switch import PLAIT1, SLEEVE, BestChanged
from unit.mesh.routers import features, opened

UID = 0x1122
PATH_MTU = 1500
KEY = bytes(range(32))
WEAVE = ("sleeve",)


class Wire(Pump):
    """A pump without a process: remembers what it is told, and hands special frames to the other side."""

    def __init__(self, side: "Side") -> None:
        self.sent: list[ipc.ToPump] = []
        self._side = side

    def send(self, message: ipc.ToPump) -> None:
        self.sent.append(message)
        if isinstance(message, ipc.SendSpecial) and self._side.far is not None and not self._side.is_cut:
            arrival = ipc.SpecialReceived(
                self._side.number, self._side.address, message.length, message.uid, all_zero=message.uid is None
            )
            asyncio.get_running_loop().call_soon(self._side.far.manager.pump_said, arrival)
        if isinstance(message, ipc.SendProbe) and self._side.far is not None and not self._side.is_cut:
            self._carry_probe(self._side.far, message)

    def _carry_probe(self, far: "Side", probe: ipc.SendProbe) -> None:
        """The far pump acknowledges what the path of 1500 bytes carries."""
        size = probe.size or 70
        if size > PATH_MTU:
            return
        soon = asyncio.get_running_loop().call_soon
        soon(far.manager.pump_said, ipc.ProbeReceived(self._side.number, self._side.address))
        acked = ipc.ProbeAcknowledged(far.number, size, 0.001, 0, 0, 0, 0)
        if not far.is_cut:
            soon(self._side.manager.pump_said, acked)


class Side:
    """One node's overlays; it is also what they take for the mesh."""

    def __init__(
        self,
        number: int,
        path_mtu: Callable[[str, str], int] = lambda local, remote: PATH_MTU,
        ours: Sequence[str] = (PLAIT1, SLEEVE),
    ) -> None:
        self.number = number
        self.address = (f"192.0.2.{number}", 6783)
        self.far: Side | None = None
        self.is_cut = False
        self.wire = Wire(self)
        self.warnings: list[str] = []
        self.controls: list[bytes] = []
        self.changes: list[BestChanged] = []
        self.works: list[ConnectionId] = []
        self.failures: list[tuple[ConnectionId, str]] = []
        self.interface_mtu: int | None = PATH_MTU
        self.refusals: list[Exception] = []
        """What looking at the interfaces ends with, once each."""
        self.manager = OverlayManager(self.wire, self, ours, path_mtu, self._interface_mtus, self.warnings.append)

    def link_to(
        self,
        far: int,
        *,
        number: int = 1,
        outbound: bool = True,
        overlays: tuple[str, ...] | None = WEAVE,
        key: bytes | None = None,
    ) -> Link:
        remote = features(far, overlays=overlays, extra=our_features() if overlays else {})
        connection = opened(remote, number=number, address=f"192.0.2.{far}:6783", uid=UID, outbound=outbound)
        connection = replace(connection, session_key=key)
        return Links(PeerName(self.number), 0, frozenset({"sleeve"})).add(connection, 0.0)

    def _interface_mtus(self, addresses: Sequence[str]) -> list[int | None]:
        if self.refusals:
            raise self.refusals.pop()
        return [self.interface_mtu for _ in addresses]

    def told(self, kind: type[ipc.ToPump]) -> list[Any]:
        return [message for message in self.wire.sent if isinstance(message, kind)]

    # The mesh

    def overlay_changed(self, link: Link, change: BestChanged) -> None:
        self.changes.append(change)

    def send_control(self, connection: ConnectionId, message: bytes) -> None:
        self.controls.append(message)
        decoded = messages.decode(message)
        assert isinstance(decoded, messages.OverlayControl | messages.LegacyOverlayControl)
        if self.far is not None:
            asyncio.get_running_loop().call_soon(self.far.manager.control_received, connection, decoded)

    def established(self, connection: ConnectionId) -> None:
        self.works.append(connection)

    def failed(self, connection: ConnectionId, reason: str) -> None:
        self.failures.append((connection, reason))


def play(scene: Callable[[Side, Side], Coroutine[Any, Any, None]]) -> None:
    """Let two sides meet, with their timers running."""

    async def run() -> None:
        one, other = Side(1), Side(2)
        one.far, other.far = other, one
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(side.manager.run_timers()) for side in (one, other)]
            running += [tasks.create_task(side.manager.watch_interfaces()) for side in (one, other)]
            await scene(one, other)
            for task in running:
                task.cancel()

    asyncio.run(run())


async def meet(one: Side, other: Side, *, overlays: tuple[str, ...] = WEAVE, key: bytes | None = None) -> None:
    one.manager.confirmed(one.link_to(2, overlays=overlays, key=key))
    other.manager.confirmed(other.link_to(1, overlays=overlays, key=key, outbound=False))
    await until(lambda: bool(one.works and other.works))


async def until(condition: Callable[[], bool]) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 10
    while not condition():
        assert loop.time() < deadline
        await asyncio.sleep(0.002)


def test_both_sides_find_that_frames_pass_and_what_fits() -> None:
    async def scene(one: Side, other: Side) -> None:
        await meet(one, other)
        assert (one.works, other.works) == ([1], [1])
        for side, far in ((one, other), (other, one)):
            (connection,) = side.told(ipc.SetConnection)
            cipher = agreed_cipher(our_features()[CIPHER_FEATURE])
            assert connection == ipc.SetConnection(
                far.number, "192.0.2.1", None, side is one, 0, UID, "sleeve", cipher, 0
            )
            live = side.manager.get(1)
            assert live is not None
            assert isinstance(live.session, SleeveSession)
            assert live.overlay == SLEEVE
            assert live.session.remote == far.address  # the accepting side learnt it from a heartbeat
            assert live.session.mtu == 1500 - 62
            assert side.told(ipc.SetPath)[-1] == ipc.SetPath(far.number, far.address, 1438, 1472, True)
            assert live.switch.is_established
        assert not one.warnings + other.warnings

    play(scene)


def test_interfaces_that_cannot_be_looked_at_are_a_warning() -> None:
    async def scene(one: Side, other: Side) -> None:
        one.refusals = [KernelRefused("no memory for netlink")]
        await meet(one, other, overlays=BOTH)
        await until(lambda: bool(one.warnings))
        (live,) = one.manager._live.values()
        one.manager._interface_asked.set()
        await until(lambda: live.session.path_mtu == PATH_MTU)
        assert "no memory for netlink" in one.warnings[0]

    play(scene)


def test_heartbeats_are_repeated_until_one_is_heard() -> None:
    async def scene(one: Side, other: Side) -> None:
        one.is_cut = True
        one.manager.confirmed(one.link_to(2))
        other.manager.confirmed(other.link_to(1, outbound=False))
        await until(lambda: len([s for s in one.told(ipc.SendSpecial) if s.uid == UID]) >= 3)
        assert not one.works
        one.is_cut = False
        await until(lambda: bool(one.works and other.works))

    play(scene)


def test_a_connection_that_ends_is_forgotten_by_the_pump_unless_a_newer_one_took_its_place() -> None:
    async def scene(one: Side, other: Side) -> None:
        await meet(one, other)
        one.manager.confirmed(one.link_to(2, number=7))
        one.manager.removed(1)
        assert not one.told(ipc.RemoveConnection)
        one.manager.removed(7)
        one.manager.removed(7)
        assert one.told(ipc.RemoveConnection) == [ipc.RemoveConnection(2)]
        assert one.manager.get(7) is None
        before = len(one.wire.sent)
        one.manager.pump_said(ipc.SpecialReceived(2, other.address, 22, UID, False))
        one.manager.pump_said(ipc.PacketTooBig(2))
        one.manager.control_received(7, messages.OverlayControl(0, 1, b""))
        assert len(one.wire.sent) == before

    play(scene)


def test_a_peer_without_names_of_overlays_gets_the_old_form_of_control_messages() -> None:
    async def scene(one: Side, other: Side) -> None:
        one.manager.confirmed(one.link_to(2, overlays=None))
        one.manager.pump_said(ipc.SpecialReceived(2, other.address, 22, UID, False))
        assert messages.decode(one.controls[0]) == messages.LegacyOverlayControl(1, b"\x00")
        one.manager.control_received(1, messages.OverlayControl(0, 1, b""))  # not in its form: ignored
        assert not one.works
        one.manager.control_received(1, messages.LegacyOverlayControl(1, b""))
        assert one.works == [1]

    play(scene)


def test_what_the_kernel_refuses_is_a_warning_or_the_end() -> None:
    async def scene(one: Side, other: Side) -> None:
        def no_route(local: str, remote: str) -> int:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")

        lost = Side(3, no_route)
        lost.manager.confirmed(lost.link_to(2))
        assert lost.warnings == [
            "the kernel knows no path MTU to 192.0.2.2 (Network is unreachable): is there a route to it?"
        ]
        await meet(one, other)
        one.manager.pump_said(ipc.SendFailed(2, errno.EHOSTUNREACH))  # heals by itself
        assert not one.failures
        one.manager.pump_said(ipc.SendFailed(2, errno.EINVAL))
        ((connection, reason),) = one.failures
        assert connection == 1
        assert "192.0.2.2:6783" in reason

    play(scene)


def test_what_the_pump_complains_of_is_passed_on() -> None:
    async def scene(one: Side, other: Side) -> None:
        one.manager.pump_said(ipc.Complaint("the tap was removed"))
        one.manager.pump_said(ipc.Ready(1))
        assert one.warnings == ["the tap was removed"]

    play(scene)


def test_the_pump_gets_all_routes() -> None:
    async def scene(one: Side, other: Side) -> None:
        def record(name: int, *far: int) -> PeerRecord:
            ends = tuple(ConnectionSummary(PeerName(n), f"192.0.2.{n}:6783", True, True) for n in far)
            return PeerRecord(PeerSummary(PeerName(name), f"n{name}", name, 1, name), ends)

        routes = Routes.compute(PeerName(1), [record(1, 2), record(2, 1, 3), record(3, 2)])
        names = [PeerName(n) for n in (1, 2, 3)]
        one.manager.routes_changed(names[0], {}, names, routes)
        (told,) = one.told(ipc.SetRoutes)
        assert sorted(told.known) == [1, 2, 3]
        assert {far: via for far, via in told.unicast.items() if far != 1} == {2: 2, 3: 2}
        assert told.broadcast == {1: [2], 2: [], 3: []}

    play(scene)


# Two plait nodes

BOTH = (PLAIT1, SLEEVE)


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_two_plait_nodes_speak_plait1_and_find_what_fits(key: bytes | None) -> None:
    async def scene(one: Side, other: Side) -> None:
        await meet(one, other, overlays=BOTH, key=key)
        overhead = 72 if key is None else 104
        for side, far in ((one, other), (other, one)):
            live = side.manager.get(1)
            assert live is not None
            await until(lambda live=live: live.session.path_mtu == PATH_MTU)  # type: ignore[misc]
            (connection,) = side.told(ipc.SetConnection)
            assert (connection.overlay, connection.uid, connection.key) == (PLAIT1, UID, key)
            assert (connection.outbound, connection.generation) == (side is one, 0)
            assert connection.cipher == agreed_cipher(our_features()[CIPHER_FEATURE])
            assert isinstance(live.session, Plait1Session)
            assert live.overlay == live.switch.best == PLAIT1
            assert live.switch.reason == "plait1 is the first choice"
            assert live.session.remote == far.address
            path = ipc.SetPath(far.number, far.address, PATH_MTU - overhead, PATH_MTU - 28, False)
            assert side.told(ipc.SetPath)[-1] == path
            assert not side.told(ipc.SendSpecial)
            assert max(probe.size for probe in side.told(ipc.SendProbe)) == PATH_MTU
        assert not one.warnings + other.warnings

    play(scene)


def test_a_node_that_does_not_want_plait1_speaks_weaves_format_with_plait() -> None:
    async def scene(one: Side, other: Side) -> None:
        weave = Side(3, ours=WEAVE)
        weave.manager.confirmed(weave.link_to(2, overlays=BOTH))
        live = weave.manager.get(1)
        assert live is not None
        assert isinstance(live.session, SleeveSession)
        assert weave.told(ipc.SendSpecial)

    play(scene)


def test_a_peer_whose_processor_has_no_aes_gets_the_other_cipher() -> None:
    async def scene(one: Side, other: Side) -> None:
        link = one.link_to(2, overlays=BOTH, key=KEY)
        one.manager.confirmed(replace(link, extra=dict(link.extra) | {CIPHER_FEATURE: "chacha20poly1305"}))
        (connection,) = one.told(ipc.SetConnection)
        assert connection.cipher == Cipher.CHACHA20_POLY1305

    play(scene)


def test_controls_of_plait1_reach_its_session_only() -> None:
    async def scene(one: Side, other: Side) -> None:
        await meet(one, other, overlays=BOTH, key=KEY)
        generation = messages.OverlayControl(0, CONTROL_GENERATION, bytes((0, 0, 0, 3)))
        one.manager.control_received(1, generation)
        assert one.told(ipc.SetGeneration) == [ipc.SetGeneration(2, 3)]
        one.manager.control_received(1, messages.OverlayControl(1, CONTROL_GENERATION, bytes(4)))  # no such overlay
        one.manager.control_received(1, messages.LegacyOverlayControl(1, b""))
        assert len(one.told(ipc.SetGeneration)) == 1
        live = one.manager.get(1)
        assert live is not None
        assert live.switch.ignored_controls == 2

    play(scene)


def test_what_plait1_does_not_send_means_nothing_to_its_session() -> None:
    async def scene(one: Side, other: Side) -> None:
        await meet(one, other, overlays=BOTH)
        before = len(one.wire.sent)
        one.manager.pump_said(ipc.SpecialReceived(2, ("192.0.2.77", 6783), 22, UID, False))
        assert len(one.wire.sent) == before
        live = one.manager.get(1)
        assert live is not None
        assert live.session.remote == other.address
        one.manager.pump_said(ipc.SendFailed(2, errno.EHOSTUNREACH))
        one.manager.pump_said(ipc.MtuHint(2, 1400))
        one.manager.pump_said(ipc.MtuHint(9, 1400))  # nobody we know
        one.manager.pump_said(ipc.SendFailed(2, errno.EINVAL))
        ((_, reason),) = one.failures
        assert "192.0.2.2:6783" in reason

    play(scene)


def test_the_interface_is_asked_again_when_a_datagram_was_too_big() -> None:
    async def scene(one: Side, other: Side) -> None:
        await meet(one, other, overlays=BOTH)
        live = one.manager.get(1)
        assert live is not None
        await until(lambda: live.session.path_mtu == PATH_MTU)
        one.interface_mtu = 1400
        one.manager.pump_said(ipc.PacketTooBig(2))
        await until(lambda: live.session.path_mtu == 1400)
        assert one.told(ipc.SetPath)[-1].max_payload == 1400 - 28
        one.interface_mtu = None  # no route at the moment: what was known stays
        one.manager.pump_said(ipc.PacketTooBig(2))
        await asyncio.sleep(0.02)
        assert live.session.path_mtu == 1400

    play(scene)


def test_after_the_pumps_death_plait1_takes_new_keys_and_weaves_format_a_new_connection() -> None:
    async def scene(one: Side, other: Side) -> None:
        await meet(one, other, overlays=BOTH, key=KEY)
        one.manager.confirmed(one.link_to(3, number=7, key=KEY))
        one.manager.confirmed(one.link_to(4, number=8))
        one.wire.sent.clear()
        assert one.manager.pump_died() == [7]
        (connection,) = one.told(ipc.SetConnection)
        assert (connection.peer, connection.generation, connection.overlay) == (2, 1, PLAIT1)
        assert one.told(ipc.SetGeneration) == [ipc.SetGeneration(2, 0)]
        assert one.told(ipc.SetPath)[0].remote == other.address
        assert messages.decode(one.controls[-1]) == messages.OverlayControl(0, CONTROL_GENERATION, bytes((0, 0, 0, 1)))
        await until(lambda: bool(other.told(ipc.SetGeneration)))
        assert other.told(ipc.SetGeneration) == [ipc.SetGeneration(1, 1)]

    play(scene)
