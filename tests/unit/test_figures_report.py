"""The figures of a report, from real rooms."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import plait
from plait.api.figures import PathFigures
from plait.figures_report import MTU_SOURCES
from plait.overlay import pmtu
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.plait1.session import Plait1Session
from plait.overlay.switch import FASTDP, PLAIT1, Choice, OverlaySwitch
from plait.problems import OTHER_KIND, PROBLEM_KINDS, Problems, count_kinds
from unit.mesh.routers import Member, World
from unit.overlay.test_manager import Side
from unit.test_report import reported


def paths(*, is_encrypted: bool = False, acknowledged: int = 0) -> PathFigures:
    def prepare(one: Member, world: World, side: Side) -> None:
        (link,) = one.router.links
        link.overlays = (PLAIT1,)
        link.session_key = bytes(32) if is_encrypted else None
        side.manager.confirmed(link)
        live = side.manager.get(link.id)
        assert live is not None
        assert isinstance(live.session, Plait1Session)
        for now in range(acknowledged):
            acked = ipc.ProbeAcknowledged(2, 70, 0.02, 10 * now, 10 * now, 0, 0)
            live.session.probe_acknowledged(acked, float(now))
        live.switch.established(live.overlay)

    (path,) = reported(prepare).plait.figures.paths
    return path


def test_a_path_in_words_of_few_values() -> None:
    assert paths() == PathFigures(
        peer="00:00:00:00:00:02",
        user_overlay=PLAIT1,
        choice=Choice.FIRST_CHOICE,
        mtu_source="assumed",
        jitter=None,
        black_holes=0,
    )


def test_jitter_is_there_once_it_is_measured() -> None:
    assert paths(acknowledged=3).jitter == pytest.approx(0.01, abs=0.01)


def test_each_reason_of_a_path_mtu_has_its_word() -> None:
    reasons = [value for name, value in vars(pmtu).items() if name.isupper() and isinstance(value, str)]
    assert set(reasons) == set(MTU_SOURCES)
    assert len(set(MTU_SOURCES.values())) == len(reasons)


def test_services_that_are_off_have_no_figures() -> None:
    figures = reported().plait.figures
    assert (figures.addresses, figures.names) == (None, None)
    assert figures.channels >= 1
    assert set(figures.problems) == {*PROBLEM_KINDS, OTHER_KIND}


def test_each_key_of_a_problem_begins_with_its_kind() -> None:
    kinds = set()
    for path in Path(plait.__file__).parent.glob("*.py"):
        text = path.read_text()
        kinds |= {*re.findall(r'roubles\.report\(\s*f?"(\w+)', text)}
        kinds |= {*re.findall(r'def _key\(.*\n    return f"(\w+) ', text)}
    assert kinds == set(PROBLEM_KINDS), "a new kind of problem belongs into PROBLEM_KINDS and docs/metrics.md"


def test_kinds_of_problems_are_bounded() -> None:
    problems = Problems()
    for key in ("lost 00:01", "lost 00:02", "pump", "a MAC address moves", "pumping"):
        problems.report(key, "x", "", 0.0)
    counts = count_kinds(problems.current(0.0))
    assert {kind: count for kind, count in counts.items() if count} == {"lost": 2, "pump": 1, OTHER_KIND: 2}


def test_choices_of_an_overlay() -> None:
    switch = OverlaySwitch((FASTDP, PLAIT1), (FASTDP, PLAIT1))
    choices = [switch.choice]
    steps: list[Callable[[], object]] = [
        lambda: switch.established(PLAIT1),
        lambda: switch.established(FASTDP),
        lambda: switch.unhealthy(FASTDP, "silence"),
        lambda: switch.failed(FASTDP, "the kernel refused it"),
    ]
    for step in steps:
        step()
        choices.append(switch.choice)
    assert choices == [
        Choice.NOTHING_WORKS,
        Choice.BETTER_PENDING,
        Choice.FIRST_CHOICE,
        Choice.BETTER_UNHEALTHY,
        Choice.BETTER_FAILED,
    ]


def test_a_peer_that_lacks_the_better_overlay() -> None:
    switch = OverlaySwitch((FASTDP, PLAIT1), (PLAIT1,))
    switch.established(PLAIT1)
    assert switch.choice is Choice.PEER_LACKS_BETTER
