"""Whole nodes on networks that break: cuts and relays, one-way links, no UDP, NAT, paths with a small MTU."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab.node_lab import (
    check_logs,
    connections,
    established,
    launch_pairs,
    log,
    problems,
    report,
    told,
    wait_for_neighbours,
)
from plait.testing.lab import Host, Lab, wait_until
from plait.testing.lab.features import missing_features
from plait.testing.lab.hosts import Container, Router

PATH_MTU = 1400
FITS = PATH_MTU - 50  # without what VXLAN adds to a frame


@dataclass
class World:
    """One lab for all tests here. What takes seconds to be noticed is cut before the first of them runs."""

    lab: Lab
    routers: tuple[Router, Router]
    half_cut: tuple[Host, Host]
    without_udp: tuple[Host, Host]
    black_hole: tuple[Host, Host]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    if missing := missing_features():
        pytest.skip("; ".join(missing))
    with Lab() as lab:
        main, narrow, beyond = lab.switch(), lab.switch(mtu=PATH_MTU), lab.switch()
        world = World(
            lab,
            routers=(lab.router("r1", main, narrow, icmp=False), lab.router("r2", narrow, beyond, icmp=False)),
            half_cut=(lab.host("left"), lab.host("right")),
            without_udp=(lab.host("near"), lab.host("far")),
            black_hole=(lab.host("here"), lab.host("beyond", on=[beyond])),
        )
        lab.cut(*world.without_udp, udp=[6783, 6784])
        launch_pairs(world.half_cut, world.without_udp, world.black_hole)
        wait_for_neighbours(world.half_cut[0], "right")
        lab.cut(*world.half_cut, one_way=True)
        yield world
        check_logs(lab)


def attached(host: Host, number: int) -> Container:
    """A new container with the address 10.32.0.NUMBER."""
    container = host.container(f"c{number}")
    host.attach(container, f"10.32.0.{number}/12")
    return container


def meets(one: Container, other: Container) -> None:
    wait_until(lambda: one.ping(other, count=1).ok, f"{one.name} reaches {other.name}", 30)


def detail(host: Host, neighbour: Host) -> dict[str, object]:
    """What the report says of one connection."""
    found = [each for each in report(host)["Plait"]["Connections"] if each["NickName"] == neighbour.name]
    return dict(found[0]) if found else {}


def test_behind_a_nat(world: World) -> None:
    inside = world.lab.switch()
    world.lab.nat("nat", inside, world.lab.segments[0])
    outer, inner = world.lab.host("outer"), world.lab.host("inner", on=[inside])
    outer.launch()
    inner.launch(outer)
    here, there = attached(outer, 1), attached(inner, 2)
    meets(here, there)
    meets(there, here)
    assert here.transfer(there, 1_000_000).transferred_bytes == 1_000_000
    assert established(outer) == {"inner"}
    assert inner.ip not in str(detail(outer, inner)["Remote"])  # it is seen under the NAT's address
    assert not problems(outer)
    assert not problems(inner)


def test_a_third_node_relays_while_a_link_is_cut(world: World) -> None:
    one, two, three = (world.lab.host(name) for name in ("one", "two", "three"))
    one.launch()
    two.launch(one)
    three.launch(one)
    wait_for_neighbours(one, "two", "three")
    wait_for_neighbours(two, "one", "three")
    here, there = attached(one, 21), attached(two, 22)
    meets(here, there)
    world.lab.cut(one, two)
    meets(here, there)
    what, cure = "no UDP probe was answered by the peer at", "let UDP between the two hosts through"
    told(one, "connection with", "(two)", what, cure)
    assert established(one) == established(two) == {"three"}
    via = {route["Dest"]: route["Via"] for route in report(one)["Router"]["UnicastRoutes"]}
    assert via[two.peer_name] == three.peer_name
    assert here.transfer(there, 1_000_000).transferred_bytes == 1_000_000
    world.lab.heal(one, two)
    wait_for_neighbours(one, "two", "three", timeout=40)
    wait_until(lambda: not [line for host in (one, two) for line in problems(host)], "it is over")
    meets(here, there)


def test_a_link_cut_one_way_is_noticed(world: World) -> None:
    left, right = world.half_cut
    told(right, "(left)", "no UDP probe was answered by the peer at")
    wait_until(lambda: not established(left), "the sender notices too")
    assert " ended: " in log(left)
    world.lab.heal(left, right)
    wait_for_neighbours(left, "right", timeout=40)
    wait_for_neighbours(right, "left")
    wait_until(lambda: not problems(right), "it is over")


def test_a_path_that_swallows_what_is_too_large(world: World) -> None:
    carry_no_more_than_fits(*world.black_hole, numbers=(31, 32))


def test_a_path_that_tells_what_is_too_large(world: World) -> None:
    for router in world.routers:
        router.set_icmp(True)
    one, other = world.lab.host("here2"), world.lab.host("beyond2", on=[world.lab.segments[2]])
    one.launch()
    other.launch(one)
    carry_no_more_than_fits(one, other, numbers=(33, 34))


def carry_no_more_than_fits(one: Host, other: Host, numbers: tuple[int, int]) -> None:
    """Both ends find what the path takes, tell containers that send more, and lose nothing."""
    here, there = (attached(host, number) for host, number in zip((one, other), numbers, strict=True))
    meets(here, there)
    wait_until(lambda: detail(one, other)["Mtu"] == detail(other, one)["Mtu"] == FITS, "both ends know what fits", 40)
    for source, target in (here, there), (there, here):
        refused = source.ping(target, size=1500 - 50 - 28, count=1, dont_fragment=True)
        assert (refused.received, refused.error) == (0, "Message too long")
        assert source.ping(target, size=FITS - 28, count=1, dont_fragment=True).ok
        assert source.ping(target, size=3000, count=1).ok
        assert source.transfer(target, 2_000_000).transferred_bytes == 2_000_000


def test_without_udp_there_is_no_connection(world: World) -> None:
    near, far = world.without_udp
    for here, there in (near, far), (far, near):
        told(here, "no frames pass", f"({there.name})", "let UDP ports 6783 and 6784 through", "UDP probe")
        assert not established(here)
    assert connections(far)[f"{near.ip}:6783"]["State"] == "pending"
    assert " pending " in far.plait("status", "connections").stdout
    world.lab.heal(near, far)
    wait_for_neighbours(near, "far")
    wait_for_neighbours(far, "near")
    assert not problems(near)
    assert not problems(far)
