"""One side behind a source NAT: only it can call, and its address is what its heartbeats come from."""

import os

import pytest

from conformance.member import wait_for_mesh
from conformance.mesh import KINDS, PASSWORDS, Kind, Mesh
from conformance.traffic import VERSIONS, datagram_arrives

_, ENCRYPTED = PASSWORDS


@pytest.mark.parametrize("inside", KINDS)
def test_one_behind_a_nat(mesh: Mesh, inside: Kind) -> None:
    mesh.password = ENCRYPTED
    private, public = mesh.lab.switch(), mesh.lab.switch()
    mesh.lab.nat("gate", inside=private, outside=public)
    caller, called = (
        (mesh.plait(on=[private]), mesh.weaver(on=[public]))
        if inside == "plait"
        else (mesh.weaver(on=[private]), mesh.plait(on=[public]))
    )
    called.start()
    caller.start(called)
    wait_for_mesh(caller, called)
    here, there = caller.attach(1), called.attach(2)
    for source, target in ((here, there), (there, here)):
        assert source.ping(target, timeout=3.0).ok
        source.transfer(target, 1_000_000)
        for version in VERSIONS:
            assert datagram_arrives(source, target, os.urandom(3000), version)
