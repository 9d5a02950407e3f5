"""What an eavesdropper on the underlay reads: nothing, or, between ends that trust the subnet, frames only."""

import os

import pytest

from conformance.member import wait_for_mesh
from conformance.mesh import PASSWORDS, Kind, Mesh
from conformance.traffic import datagram_arrives

SUBNET = ["--trusted-subnets", "10.99.0.0/24"]
_, ENCRYPTED = PASSWORDS
PLAIN_MTU, ENCRYPTED_MTU = 1438, 1414
_IP_PROTOCOL_AT = 14 + 9
TCP, UDP = 6, 17


BOTH: tuple[Kind, ...] = ("plait", "weaver")
CASES: list[tuple[tuple[Kind, ...], Kind]] = [
    (BOTH, "plait"),
    (BOTH, "weaver"),
    (("plait",), "weaver"),
    (("weaver",), "plait"),
]


@pytest.mark.parametrize(("trusting", "caller"), CASES)
def test_trusted_subnets(mesh: Mesh, trusting: tuple[Kind, ...], caller: Kind) -> None:
    """Frames are in clear only if both trust; control messages never are."""
    mesh.password = ENCRYPTED
    plait = mesh.plait(extra=SUBNET if "plait" in trusting else ())
    weaver = mesh.weaver(extra=SUBNET if "weaver" in trusting else ())
    is_trusted = trusting == BOTH
    first, second = (plait, weaver) if caller == "weaver" else (weaver, plait)
    first.start()
    with plait.host.capture("eth0") as capture:
        second.start(first)
        wait_for_mesh(plait, weaver)
        here, there = plait.attach(1), weaver.attach(2)
        frames = capture.frames()
        for source, target in ((here, there), (there, here)):
            content = os.urandom(16)
            assert datagram_arrives(source, target, content)
            sent = [frame for frame in capture.frames() if frame[_IP_PROTOCOL_AT] == UDP]
            assert sent
            assert any(content in frame for frame in sent) == is_trusted
        control = b"".join(frame for frame in [*frames, *capture.frames()] if frame[_IP_PROTOCOL_AT] == TCP)
    assert b"weave" in control
    assert not any(word in control for word in (b"NickName", b"PeerNameFlavour", b"topology"))
    here.transfer(there, 1_000_000)
    for one, other in ((plait, weaver), (weaver, plait)):
        connection = one.connection(other)
        assert connection is not None
        assert connection["Attrs"].get("encrypted", False) == (not is_trusted)
        assert connection["Info"].startswith("unencrypted" if is_trusted else "encrypted")
        assert connection["Attrs"]["mtu"] == (PLAIN_MTU if is_trusted else ENCRYPTED_MTU)
