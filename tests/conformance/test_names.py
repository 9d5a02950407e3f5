"""Names between plait and a real weaver: given on either, answered by both, taken back, and gone with who gave them."""

from functools import partial

import dns.message
import dns.query

from conformance.member import MESH_SECONDS, Member, wait_for_mesh
from conformance.mesh import PASSWORDS, Mesh
from plait.testing.lab import wait_until

_, ENCRYPTED = PASSWORDS


def answers(member: Member, name: str, rdtype: str = "A") -> list[str]:
    """What a member's name server says, asked on its host."""
    with member.host.entered():
        answer = dns.query.udp(dns.message.make_query(name, rdtype), member.host.ip, timeout=10).answer
    return sorted(str(record) for rrset in answer for record in rrset)


def answer_is(member: Member, name: str, *expected: str) -> None:
    wait_until(lambda: answers(member, name) == sorted(expected), f"{name} is {expected} at {member}", MESH_SECONDS)


def name(member: Member, container: str, ip: str, fqdn: str, method: str = "PUT") -> None:
    assert member.request(method, f"/name/{container}/{ip}?fqdn={fqdn}") == (204, "")


def test_names_are_shared_both_ways(mesh: Mesh) -> None:
    mesh.password = ENCRYPTED
    weaver = mesh.weaver(dns=True)
    plait = mesh.plait()
    plait.extra = (f"--dns-listen-address={plait.host.ip}:53", "--resolv-conf=")
    weaver.start()
    name(weaver, "w1", "10.32.0.1", "early.weave.local")
    plait.start(weaver)
    wait_for_mesh(weaver, plait)
    name(weaver, "w1", "10.32.0.1", "web.weave.local")
    name(plait, "p1", "10.40.0.1", "Web.weave.local")
    name(plait, "p1", "10.40.0.1", "db.weave.local")
    for member in (weaver, plait):
        answer_is(member, "web.weave.local.", "10.32.0.1", "10.40.0.1")
        answer_is(member, "db.weave.local.", "10.40.0.1")
        answer_is(member, "early.weave.local.", "10.32.0.1")
        assert answers(member, "1.0.40.10.in-addr.arpa.", "PTR") == ["db.weave.local."]
    name(plait, "p1", "10.40.0.1", "Web.weave.local", "DELETE")
    name(weaver, "w1", "10.32.0.1", "early.weave.local", "DELETE")
    for member in (weaver, plait):
        answer_is(member, "web.weave.local.", "10.32.0.1")
        answer_is(member, "early.weave.local.")
    # Brought back, by the one that had deleted it.
    name(plait, "p1", "10.40.0.1", "Web.weave.local")
    answer_is(weaver, "web.weave.local.", "10.32.0.1", "10.40.0.1")


def test_names_of_an_earlier_life_are_taken_back(mesh: Mesh) -> None:
    weaver, plait = mesh.weaver(dns=True), mesh.plait()
    plait.extra = (f"--dns-listen-address={plait.host.ip}:53", "--resolv-conf=")
    weaver.start()
    plait.start(weaver)
    wait_for_mesh(weaver, plait)
    name(plait, "p1", "10.40.0.1", "web.weave.local")
    answer_is(weaver, "web.weave.local.", "10.40.0.1")
    plait.stop()
    plait.start(weaver)
    wait_for_mesh(weaver, plait)
    for member in (weaver, plait):
        wait_until(partial(lambda member: answers(member, "web.weave.local.") == [], member), "it is gone", 40)
    name(plait, "p1", "10.40.0.1", "web.weave.local")
    answer_is(weaver, "web.weave.local.", "10.40.0.1")
