"""A node of plait and a weaver with its fast datapath."""

import os
import threading

from conformance.member import wait_for_mesh
from conformance.mesh import Mesh
from conformance.traffic import copies, datagram_arrives
from plait.testing.lab import Container, Lab, PingResult
from vm.checks import Checks, wait
from vm.members import FastWeaver, SlowPlait, wait_for_overlay

MTU = 1376
"""What Weave gives its bridge and containers, and so what passes; those of plait may have more."""

VXLAN_PORT = 6784
_HEADERS = 28  # IPv4 and ICMP
_START_SECONDS = 60.0
_FALLBACK_SECONDS = 100.0  # Weave waits 60 s for a heartbeat
_RETURN_SECONDS = 40.0  # both send heartbeats every 10 s
_TCP_BYTES = 2_000_000


def check(lab: Lab, checks: Checks) -> None:
    """Plait calls the weaver, and is used, cut off, healed and killed."""
    mesh = Mesh(lab)
    plait, weaver = SlowPlait(lab.host("h1"), extra=("--mtu", str(MTU))), FastWeaver(lab.host("h2"))
    mesh.members += [plait, weaver]
    try:
        with checks("the weaver starts with its fast datapath"):
            weaver.start()
            assert "Bridge type is bridged_fastdp" in weaver.log, "its log tells of no fastdp"
        plait.start(weaver)
        with checks("both report a connection by fastdp"):
            wait_for_overlay("fastdp", plait, weaver, _START_SECONDS)
            wait_for_mesh(plait, weaver)
            _check_mtus(mesh)
        ours, theirs = plait.attach(1), weaver.attach(2)
        _check_traffic(checks, ours, theirs)
        with checks("the frames travel as VXLAN"):
            _check_vxlan(lab, ours, theirs)
        with checks("UDP 6784 is cut: both go over to sleeve"):
            lab.cut(plait.host, weaver.host, udp=[VXLAN_PORT])
            wait_for_overlay("sleeve", plait, weaver, _FALLBACK_SECONDS)
        # Weave's flows of MAC addresses that have talked still point at fastdp, so others must ask.
        more_ours, more_theirs = plait.attach(3), weaver.attach(4)
        with checks("by sleeve, ping between new containers"):
            _check_ping(more_ours, more_theirs)
            _check_ping(more_theirs, more_ours)
        with checks("UDP 6784 is healed: both come back to fastdp"):
            lab.heal()
            wait_for_overlay("fastdp", plait, weaver, _RETURN_SECONDS)
        with checks("after that, ping"):
            for source, target in ((ours, theirs), (theirs, ours), (more_ours, more_theirs)):
                _check_ping(source, target)
        with checks("plait is killed and started again while a ping goes on") as it:
            pinging = _Pinging(theirs, ours)
            plait.kill()
            plait.start(weaver)
            wait_for_overlay("fastdp", plait, weaver, _START_SECONDS)
            result = pinging.end()
            it.says(f"{result.received} of {result.sent} answered")
            _check_ping(theirs, ours)
            _check_ping(ours, theirs)
        with checks("nobody panicked"):
            mesh.check()
    finally:
        mesh.show_logs()
        print(plait.host.plait("status", check=False).stdout)


def check_wide(lab: Lab, checks: Checks) -> None:
    """Plait's containers have the MTU that the underlay allows, which is more than a weaver's take."""
    mesh = Mesh(lab)
    plait, weaver = SlowPlait(lab.host("h1")), FastWeaver(lab.host("h2"))
    mesh.members += [plait, weaver]
    try:
        weaver.start()
        plait.start(weaver)
        with checks("with a wider bridge: both report a connection by fastdp"):
            wait_for_overlay("fastdp", plait, weaver, _START_SECONDS)
            wait_for_mesh(plait, weaver)
            _check_mtus(mesh)
        _check_traffic(checks, plait.attach(1), weaver.attach(2))
    finally:
        mesh.show_logs()


def check_encrypted(lab: Lab, checks: Checks) -> None:
    """The weaver calls plait, both with a password: Weave would use IPsec, which plait does not offer."""
    mesh = Mesh(lab, "s3cret")
    plait, weaver = SlowPlait(lab.host("h1"), mesh.password), FastWeaver(lab.host("h2"), mesh.password)
    mesh.members += [plait, weaver]
    try:
        plait.start()
        weaver.start(plait)
        with checks("with a password, called by weave: both report a connection by sleeve"):
            wait_for_overlay("sleeve", plait, weaver, _START_SECONDS)
            wait_for_mesh(plait, weaver)
        ours, theirs = plait.attach(1), weaver.attach(2)
        for what, source, target in (("plait to weave", ours, theirs), ("weave to plait", theirs, ours)):
            with checks(f"with a password, ping and TCP {what}"):
                _check_ping(source, target)
                source.transfer(target, _TCP_BYTES)
        with checks("with a password, nobody panicked"):
            mesh.check()
    finally:
        mesh.show_logs()


def check_relay(lab: Lab, checks: Checks) -> None:
    """Two weavers call plait, with no way between them but through it."""
    mesh = Mesh(lab)
    plait = SlowPlait(lab.host("h1"))
    one, other = FastWeaver(lab.host("h2")), FastWeaver(lab.host("h3"))
    mesh.members += [plait, one, other]
    try:
        lab.cut(one.host, other.host)
        plait.start()
        for weaver in (one, other):
            weaver.start(plait)
        with checks("between two weavers: all report connections by fastdp"):
            for weaver in (one, other):
                wait_for_overlay("fastdp", plait, weaver, _START_SECONDS)
            wait_for_mesh(plait, one, other, seconds=_START_SECONDS)
        first, second = one.attach(1), other.attach(2)
        for source, target in ((first, second), (second, first)):
            with checks(f"plait relays ping and TCP {source.name} to {target.name}") as it:
                _check_ping(source, target)
                it.says(f"{source.transfer(target, _TCP_BYTES).gigabits_per_second * 1000:.1f} Mbit/s")
            with checks(f"plait relays a DF ping of {MTU} bytes {source.name} to {target.name}"):
                _check_ping(source, target, size=MTU - _HEADERS, dont_fragment=True)
            with checks(f"plait relays one copy of a broadcast {source.name} to {target.name}"):
                assert copies(source, [target], "10.47.255.255") == [1]
        with checks("the relayed frames travel as VXLAN"):
            _check_vxlan(lab, first, second)
        with checks("between two weavers: nobody panicked"):
            mesh.check()
    finally:
        mesh.show_logs()


def _check_traffic(checks: Checks, ours: Container, theirs: Container) -> None:
    for what, source, target in (("plait to weave", ours, theirs), ("weave to plait", theirs, ours)):
        with checks(f"ping {what}"):
            _check_ping(source, target)
        with checks(f"TCP {what}") as it:
            it.says(f"{source.transfer(target, _TCP_BYTES).gigabits_per_second * 1000:.1f} Mbit/s")
        with checks(f"DF ping of {MTU} bytes {what}, one more is refused"):
            _check_ping(source, target, size=MTU - _HEADERS, dont_fragment=True)
            result = source.ping(target, size=MTU - _HEADERS + 1, dont_fragment=True)
            assert result.error == "Message too long", result
        with checks(f"datagrams of 3000 bytes {what}"):
            assert datagram_arrives(source, target, os.urandom(3000))
        with checks(f"a broadcast {what} arrives once"):
            assert copies(source, [target], "10.47.255.255") == [1]
        with checks(f"ARP {what}"):
            source.run(["ip", "neigh", "flush", "dev", "ethwe"])
            _check_ping(source, target)


def _check_ping(source: Container, target: Container, size: int = 56, dont_fragment: bool = False) -> None:
    wait(
        lambda: source.ping(target, interval=0.2, timeout=3.0, size=size, dont_fragment=dont_fragment).ok,
        f"{source.name} reaches {target.name}",
        15.0,
    )


def _check_mtus(mesh: Mesh) -> None:
    for one, other in (mesh.members, mesh.members[::-1]):
        connection = one.connection(other)
        assert connection is not None, f"{one} has no connection"
        assert connection["Attrs"]["mtu"] == MTU, f"{one}: {connection}"


def _check_vxlan(lab: Lab, source: Container, target: Container) -> None:
    """Fail unless echo requests and answers pass the wire in VXLAN."""
    with lab.wire.capture(lab.nodes[0].ports[0].outer or "") as capture:
        capture.frames()
        assert source.ping(target, count=5, interval=0.2).ok
        ports = [int.from_bytes(frame[36:38], "big") for frame in capture.frames() if frame[23:24] == b"\x11"]
    assert ports.count(VXLAN_PORT) >= 10, f"UDP ports on the wire: {ports}"


class _Pinging:
    """A ping in the background, five requests a second."""

    def __init__(self, source: Container, target: Container) -> None:
        self._is_over = threading.Event()
        self._parts: list[PingResult] = []
        self._thread = threading.Thread(target=self._run, args=(source, target), daemon=True)
        self._thread.start()

    def end(self) -> PingResult:
        """Stop it and give what it got in all."""
        self._is_over.set()
        self._thread.join()
        sent = sum(part.sent for part in self._parts)
        return PingResult(sent, sum(part.received for part in self._parts), 0, (), None)

    def _run(self, source: Container, target: Container) -> None:
        while not self._is_over.is_set():
            self._parts.append(source.ping(target, count=10, interval=0.2, timeout=0.5))
