"""Allocators on a bad network. Seeded: a failure names its seed, and `World(seed, ...)` shows it again."""

import pytest

from plait.ipam.actions import Action, Persist, SendUnicast
from plait.ipam.merge import Merger
from sim.ipam_world import Host, Violation, World


def begin(seed: int, count: int) -> World:
    """Start all hosts on a lossy network, and wait until they agree on a first ring."""
    world = World(seed, count)
    world.loss, world.duplication, world.delay = 0.25, 0.25, (0.001, 3.0)
    for host in world.hosts:
        world.start(host)
    for host in world.rng.sample(world.hosts, max(2, count // 2)):
        world.allocate(host)
        world.run_for(world.rng.uniform(0, 4))
    world.settle()
    return world


def history(seed: int, count: int) -> World:
    """Several times: a bad while, then one of the things that an operator does in a quiet one."""
    world = begin(seed, count)
    for _ in range(3):
        world.misfortune(90)
        world.settle()
        victim, taker = world.rng.sample(world.hosts, 2)
        match world.rng.randrange(3):
            case 0:  # a burnt machine, replaced under its old name
                world.lose_disk(victim)
                world.run_for(5)
                world.start(victim)
            case 1:  # a burnt machine, given up, and later replaced
                world.lose_disk(victim)
                world.run_for(5)
                world.take_over(victim, taker)
                world.settle()
                world.start(victim)
            case 2:  # one that leaves, and comes again
                world.leave(victim)
                world.settle()
                world.start(victim)
    world.misfortune(60)
    world.settle()
    world.check_nothing_lost()
    return world


@pytest.mark.parametrize("seed", range(1, 13))
def test_no_address_has_two_owners_and_none_is_lost(seed: int) -> None:
    world = history(seed, count=3 + seed % 3)
    assert world.refusals == [], "in all this nobody's ring contradicted another's"
    assert world.answers > 50


@pytest.mark.parametrize("seed", range(101, 111))
def test_the_first_ring_is_one(seed: int) -> None:
    world = begin(seed, count=5)
    world.check_nothing_lost()
    seeds = {host.allocator.ring.seeds for host in world.running if host.allocator is not None}
    assert len(seeds) == 1
    assert not world.refusals


def test_waiting_requests_are_served_when_there_is_room() -> None:
    world = begin(7, count=4)
    for _ in range(60):
        world.allocate(world.rng.choice(world.hosts))
    world.settle()
    pending = [str(waiting) for host in world.running if host.allocator for waiting in host.allocator.waiting.allocates]
    assert pending == []


def test_a_seed_tells_one_history() -> None:
    assert fingerprint(history(3, 4)) == fingerprint(history(3, 4))
    assert fingerprint(history(3, 4)) != fingerprint(history(4, 4))


def fingerprint(world: World) -> object:
    return [(host.allocator.snapshot(), host.life) for host in world.hosts if host.allocator is not None]


def first_violation(seeds: range, spoiled: bool = False) -> tuple[int, str]:
    for seed in seeds:
        try:
            if spoiled:
                forgetful(seed)
            else:
                history(seed, 4)
        except Violation as violation:
            return seed, str(violation)
    raise AssertionError("the planted defect was not found")


def forgetful(seed: int) -> None:
    """A history in which what is given away is sent, but never kept."""

    def spoil(host: Host, actions: list[Action]) -> list[Action]:
        is_gift = any(isinstance(action, SendUnicast) for action in actions)
        return [action for action in actions if not (is_gift and isinstance(action, Persist))]

    world = begin(seed, 4)
    world.spoil = spoil
    for _ in range(4):
        world.misfortune(90)
        world.settle()


def test_a_gift_that_is_not_durable_before_it_is_sent_is_found() -> None:
    seed, message = first_violation(range(1, 20), spoiled=True)
    assert message.startswith(f"seed {seed}, ")
    assert first_violation(range(seed, seed + 1), spoiled=True) == (seed, message), "it fails in the same way again"


def test_a_merge_that_ignores_newer_versions_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Merger, "_meet", lambda merger, index, theirs: merger._keep(merger.mine[index]))
    seed, message = first_violation(range(1, 5))
    assert first_violation(range(seed, seed + 1)) == (seed, message)
