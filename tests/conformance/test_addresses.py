"""Addresses shared with real Weave: one ring, pieces of it given in both directions, restarts, leaving."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from conformance.member import Member, Plait, wait_for_mesh
from conformance.mesh import PASSWORDS, Mesh
from conformance.weaver import Weaver
from plait.testing.lab import wait_until

RANGE = "10.32.0.0/12"
ON = ("--ipalloc-range", RANGE)


def allocate(member: Member, ident: str, subnet: str = "") -> str:
    status, body = member.request("POST", f"/ip/{ident}{subnet and f'/{subnet}'}")
    assert status == 200, body
    return body


def owners(member: Member) -> dict[str, int]:
    """How many addresses each peer owns, as this one sees it."""
    found: dict[str, int] = {}
    for line in member.request("GET", "/status/ipam")[1].splitlines():
        name, count = line.partition("(")[0], line.split(" IPs")[0].split()[-1]
        found[name] = int(count)
    return found


def piece_of(plait: Plait, owner: Member) -> str:
    """A /24 inside what a peer owns and has not begun to give out."""
    entries: list[dict[str, Any]] = plait.host.status_json()["IPAM"]["Entries"]
    entry = max((each for each in entries if each["Peer"] == owner.name), key=lambda each: each["Size"])
    first = int(ip_address(entry["Token"])) + entry["Size"] // 2
    return f"{ip_address(first - first % 256)}/24"


def agree(plait: Plait, weaver: Weaver) -> None:
    wait_until(lambda: owners(plait) == owners(weaver) and len(owners(plait)) == 2, "both see the same ring", 60)


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("plait_first", [True, False])
def test_both_give_out_addresses_of_one_ring(mesh: Mesh, password: str | None, plait_first: bool) -> None:
    mesh.password = password
    plait, weaver = mesh.plait(ON), mesh.weaver(ON)
    first, second = (plait, weaver) if plait_first else (weaver, plait)
    first.start()
    second.start(first)
    wait_for_mesh(plait, weaver)

    container = plait.host.container("c")
    address = plait.host.attach(container)
    given = [allocate(weaver, f"w{number}").partition("/")[0] for number in range(5)]
    given += [allocate(plait, f"p{number}").partition("/")[0] for number in range(5)]
    assert len({address, *given}) == 11
    assert all(ip_address(each) in ip_network(RANGE) for each in given)
    agree(plait, weaver)

    for asker, owner in ((plait, weaver), (weaver, plait)):
        subnet = piece_of(plait, owner)
        assert ip_address(allocate(asker, "far", subnet).partition("/")[0]) in ip_network(subnet)
        one = str(ip_network(piece_of(plait, owner))[77])
        assert asker.request("PUT", f"/ip/near/{one}/12") == (204, ""), "a free address of the other is handed over"
        status, body = owner.request("PUT", f"/ip/late/{one}/12")
        assert (status, "is owned by other peer" in body) == (400, True), body

    plait.stop()
    plait.start(weaver)
    wait_for_mesh(plait, weaver)
    assert plait.host.attach(container) == address
    plait.kill()
    plait.start(weaver)
    wait_for_mesh(plait, weaver)
    assert plait.host.attach(container) == address
    fresh = allocate(plait, "fresh").partition("/")[0]
    assert fresh not in {address, *given}
    assert allocate(weaver, "fresh").partition("/")[0] not in {address, fresh, *given}
    agree(plait, weaver)
    assert not plait.problems()


@pytest.mark.parametrize("leaver", ["plait", "weaver"])
def test_who_leaves_hands_over_and_who_dies_is_taken_over(mesh: Mesh, leaver: str) -> None:
    plait, weaver, third = mesh.plait(ON), mesh.weaver(ON), mesh.plait(ON)
    plait.start()
    weaver.start(plait)
    third.start(plait)
    wait_for_mesh(plait, weaver, third)
    for member in (plait, weaver, third):
        allocate(member, "c")
    wait_until(lambda: all(len(owners(each)) == 3 for each in (plait, weaver, third)), "all own something", 60)
    leaving, staying = (third, weaver) if leaver == "plait" else (weaver, third)
    if leaver == "plait":
        third.host.plait("reset")
    else:
        assert weaver.request("DELETE", "/peer")[0] == 204
    wait_until(lambda: leaving.name not in owners(plait) and leaving.name not in owners(staying), "it owns nothing", 60)
    if leaver == "weaver":
        weaver.stop()
    assert sum(owners(plait).values()) == ip_network(RANGE).num_addresses
    staying.kill()
    wait_until(lambda: "unreachable!" in plait.request("GET", "/status/ipam")[1], "its end is noticed", 90)
    assert "IPs taken over" in plait.host.plait("rmpeer", staying.name).stdout
    assert owners(plait) == {plait.name: ip_network(RANGE).num_addresses}


def test_different_ranges_part_plait_and_weave(mesh: Mesh) -> None:
    plait, weaver = mesh.plait(ON), mesh.weaver(("--ipalloc-range", "10.48.0.0/12", "--ipalloc-init", "seed=::1"))
    plait.extra = (*ON, "--ipalloc-init", "seed=::1")
    weaver.start()
    plait.start(weaver)
    wait_until(lambda: "Incompatible IP allocation ranges" in plait.problems(), "both ranges are named", 30)
    assert "10.32.0.0/12" in plait.problems()
    assert "10.48.0.0/12" in plait.problems()
