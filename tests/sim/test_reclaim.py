"""Leases and heirs on a bad network: seeded histories, and defects that these must find."""

import os
from collections.abc import Callable

import pytest

from plait.ipam.reclaim import voter
from plait.ipam.reclaim.core import Reclaim
from plait.ipam.reclaim.messages import Config, Vote
from plait.ipam.reclaim.owner import Owner
from sim.ipam_world import Host, Violation
from sim.reclaim_world import AFTER, ReclaimWorld


def begin(seed: int, count: int, is_forgetful: bool = False) -> ReclaimWorld:
    world = ReclaimWorld(seed, count)
    world.is_forgetful = is_forgetful
    world.loss, world.duplication, world.delay = 0.2, 0.2, (0.001, 2.0)
    for host in world.hosts:
        world.start(host)
    for host in world.rng.sample(world.hosts, max(2, count // 2)):
        world.allocate(host)
        world.run_for(world.rng.uniform(0, 4))
    heal(world)
    return world


def heal(world: ReclaimWorld) -> None:
    """All is well again, until all may give out addresses and together own all."""
    world.settle()
    world.wait_for("all is owned by somebody alive", world.is_whole, 10 * AFTER)
    world.settle()


def part(world: ReclaimWorld) -> None:
    """Cut the network in two, at any place."""
    for host in world.hosts:
        host.group = world.rng.randrange(2)


def use(world: ReclaimWorld, seconds: float) -> None:
    """Containers come and go, clocks go on."""
    end = world.clock.now + seconds
    while world.clock.now < end:
        host = world.rng.choice(world.hosts)
        if host.allocator is not None:
            match world.rng.randrange(5):
                case 0 | 1:
                    world.allocate(host)
                case 2:
                    world.claim(host)
                case _:
                    world.end_container(host)
        world.run_for(world.rng.expovariate(0.3))


def history(seed: int, count: int, rounds: int = 3, is_forgetful: bool = False) -> ReclaimWorld:
    """Several times: partitions and crashes that last long enough for heirs, then all is healed."""
    world = begin(seed, count, is_forgetful)
    for _ in range(rounds):
        burnt: list[Host] = []
        world.loss, world.duplication, world.delay = 0.1, 0.1, (0.001, 1.5)
        for _ in range(world.rng.randrange(1, 5)):
            adversity(world, burnt)
            use(world, world.rng.uniform(5, 2 * AFTER))
        if burnt:
            world.loss = 0.0
            for host in world.hosts:
                host.group = 0
                if host.allocator is None and host not in burnt:
                    world.start(host)
            heal(world)
            for host in burnt:
                world.start(host)
        heal(world)
        world.check_nothing_lost()
    return world


def adversity(world: ReclaimWorld, burnt: list[Host]) -> None:
    luck = world.rng.random()
    host = world.rng.choice(world.hosts)
    if luck < 0.4:
        part(world)
    elif luck < 0.5:
        for each in world.hosts:
            each.group = 0
    elif host.allocator is None:
        if host not in burnt:
            world.start(host)
    elif luck < 0.75:
        world.crash(host)
    elif luck < 0.85 and not burnt and all(each.group == 0 for each in world.hosts):
        heal(world)
        world.lose_disk(host)
        burnt.append(host)
    else:
        world.crash(host)
        world.start(host)


HISTORIES = int(os.environ.get("PLAIT_HISTORIES", "12"))


@pytest.mark.parametrize("seed", range(1, HISTORIES + 1))
def test_no_address_has_two_owners_and_none_is_lost(seed: int) -> None:
    world = history(seed, count=3 + seed % 4)
    assert world.answers > 20
    assert world.refusals == [], "in all this nobody's ring contradicted another's"


def test_heirs_take_what_the_dead_owned_and_a_seed_tells_one_history() -> None:
    worlds = [history(5, 5), history(5, 5), history(6, 5)]
    first, again, other = ([host.allocator.snapshot() for host in world.running if host.allocator] for world in worlds)
    assert first == again != other
    assert all(world.taken() for world in worlds)


Plant = Callable[[pytest.MonkeyPatch], None]


def no_suspension(patch: pytest.MonkeyPatch) -> None:
    """Who has no majority goes on giving out addresses."""
    patch.setattr(Owner, "has_lease", lambda owner, now: owner.own is not None)


def living_only(patch: pytest.MonkeyPatch) -> None:
    """The majority is that of those who are left."""
    patch.setattr(
        Config, "has_majority", lambda config, names: len(names & {*config.electors}) >= len(config.electors) // 2
    )


def untold_gifts(patch: pytest.MonkeyPatch) -> None:
    """What is given to others is not told to the electors first."""
    patch.setattr(Reclaim, "gives_at_once", property(lambda core: True))


def haste(patch: pytest.MonkeyPatch) -> None:
    """Voters do not wait for the lease to end."""
    patch.setattr(voter, "MARGIN", 0.3)


def unfaithful(patch: pytest.MonkeyPatch) -> None:
    """Who promised to elect an heir renews the lease again."""
    patch.setattr(Vote, "is_bound", property(lambda vote: False))


def nothing(patch: pytest.MonkeyPatch) -> None:
    """What is promised is not kept on disk: see is_forgetful."""


@pytest.mark.parametrize("plant", [no_suspension, living_only, untold_gifts, haste, unfaithful, nothing])
def test_a_planted_defect_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    is_forgetful = plant is nothing
    seed, message = first_violation(range(1, 200), is_forgetful)
    assert message.startswith(f"seed {seed}, ")
    assert first_violation(range(seed, seed + 1), is_forgetful) == (seed, message), "it fails in the same way again"


def first_violation(seeds: range, is_forgetful: bool) -> tuple[int, str]:
    for seed in seeds:
        try:
            history(seed, 3 + seed % 4, is_forgetful=is_forgetful)
        except Violation as violation:
            return seed, str(violation)
    raise AssertionError("the planted defect was not found")
