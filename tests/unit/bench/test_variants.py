from typing import Any

import pytest

from bench.systems.plait import COMPILED_LOOP, PYTHON_LOOP, WEAVE_FORMAT, Variant, is_as_launched
from plait.testing.lab import LabError


def status(loop: str | None, *overlays: str) -> dict[str, Any]:
    return {
        "Plait": {"Pump": {"pid": 7, "loop": loop}},
        "Router": {"Connections": [{"Attrs": {"name": overlay} if overlay else {}} for overlay in overlays]},
    }


@pytest.mark.parametrize(
    ("variant", "options"),
    [
        (WEAVE_FORMAT, ["--overlays", "sleeve"]),
        (PYTHON_LOOP, ["--overlays", "plait1", "--sleeve-loop", "python"]),
        (COMPILED_LOOP, ["--overlays", "plait1", "--sleeve-loop", "compiled"]),
    ],
)
def test_a_variant_is_chosen_by_options_of_launch(variant: Variant, options: list[str]) -> None:
    assert variant.options() == options


@pytest.mark.parametrize(
    ("variant", "loop", "overlay"),
    [
        (WEAVE_FORMAT, "Python loop", "sleeve"),
        (WEAVE_FORMAT, None, "sleeve"),
        (PYTHON_LOOP, "Python loop", "plait1"),
        (COMPILED_LOOP, "compiled loop", "plait1"),
    ],
)
def test_nodes_that_work_as_launched_are_settled(variant: Variant, loop: str | None, overlay: str) -> None:
    assert is_as_launched(variant, "h1", status(loop, overlay))


@pytest.mark.parametrize(
    ("loop", "overlays"), [(None, ("plait1",)), ("Python loop", ()), ("Python loop", ("plait1", ""))]
)
def test_nodes_that_do_not_know_yet_are_not(loop: str | None, overlays: tuple[str, ...]) -> None:
    assert not is_as_launched(PYTHON_LOOP, "h1", status(loop, *overlays))


@pytest.mark.parametrize(
    ("variant", "loop", "overlay", "complaint"),
    [
        (
            COMPILED_LOOP,
            "Python loop",
            "plait1",
            "h1 was launched with --sleeve-loop compiled but works with its Python",
        ),
        (
            PYTHON_LOOP,
            "compiled loop",
            "plait1",
            "h1 was launched with --sleeve-loop python but works with its compiled",
        ),
        (PYTHON_LOOP, "Python loop", "sleeve", "h1 was launched with --overlays plait1 but sends sleeve"),
    ],
)
def test_another_loop_or_format_than_asked_for_is_no_result(
    variant: Variant, loop: str, overlay: str, complaint: str
) -> None:
    with pytest.raises(LabError, match=complaint):
        is_as_launched(variant, "h1", status(loop, overlay))
