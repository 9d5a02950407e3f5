"""Gossip of channels that plait does not take part in: it passes names from one weaver to another."""

import json
from functools import partial

from conformance.member import MESH_SECONDS, Member, wait_for_mesh
from conformance.mesh import PASSWORDS, Mesh
from plait.testing.lab import wait_until

_, ENCRYPTED = PASSWORDS
ADDRESS = "10.32.0.9"
GOSSIP_SECONDS = 40.0
"""Every 30 s Weave gossips all that it has."""


def test_names_pass_from_weaver_to_weaver(mesh: Mesh) -> None:
    """At once if both are there; a weaver that comes late waits for the next gossip, as it would without plait."""
    mesh.password = ENCRYPTED
    near, relay, far = mesh.weaver(dns=True), mesh.plait(["--no-dns"]), mesh.weaver(dns=True)
    mesh.lab.cut(near.host, far.host)
    relay.start()
    near.start(relay)
    wait_for_mesh(near, relay)
    _register(near, "early")
    far.start(relay)
    wait_for_mesh(near, relay, far)
    for one, other, name in ((near, far, "web"), (far, near, "db")):
        _register(one, name)
        wait_until(partial(_knows, other, name), f"{other} knows {name}", MESH_SECONDS)
        assert one.request("DELETE", f"/name/{name}/{ADDRESS}") == (204, "")
        wait_until(partial(_knows_not, other, name), f"{other} has forgotten {name}", MESH_SECONDS)
    wait_until(partial(_knows, far, "early"), f"{far} learns what it missed", GOSSIP_SECONDS)


def _register(member: Member, name: str) -> None:
    assert member.request("PUT", f"/name/{name}/{ADDRESS}?fqdn={name}.weave.local") == (204, "")


def _knows(member: Member, name: str) -> bool:
    status, body = member.request("GET", "/name")
    assert status == 200, body
    return any(each["ContainerID"] == name and not each["Tombstone"] for each in json.loads(body) or [])


def _knows_not(member: Member, name: str) -> bool:
    return not _knows(member, name)
