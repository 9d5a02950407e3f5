"""A host goes from Weave to plait, and its containers stay."""

import os

from conformance.member import wait_for_mesh
from conformance.mesh import PASSWORDS, Mesh
from conformance.traffic import VERSIONS, datagram_arrives, ping6

_, ENCRYPTED = PASSWORDS


def test_containers_of_weave_stay_when_plait_takes_over(mesh: Mesh) -> None:
    """They keep Weave's interface with its MTU of 65535; the rest of the mesh sees a restart under the same name."""
    mesh.password = ENCRYPTED
    former, other = mesh.weaver(), mesh.weaver()
    plait = mesh.successor(former)
    other.start()
    former.start(other)
    wait_for_mesh(former, other)
    old, far = former.attach(1), other.attach(2)
    assert old.ping(far, timeout=3.0).ok

    former.stop()
    plait.start(other)
    wait_for_mesh(plait, other)
    new = plait.attach(3)
    for source, target in ((old, far), (far, old), (new, far), (far, new), (old, new), (new, old)):
        assert source.ping(target).ok, f"{source} to {target}"
        assert ping6(source, target), f"{source} to {target}"
        source.transfer(target, 1_000_000)
    # Not between the two of one host: a bridge between different MTUs does not tell who sends too much.
    for source, target in ((old, far), (far, old), (new, far), (far, new)):
        for version in VERSIONS:
            assert datagram_arrives(source, target, os.urandom(3000), version), f"{source} to {target}"
    assert not plait.problems()
