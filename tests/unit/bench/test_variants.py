from typing import Any

import pytest

from bench.systems.plait import (
    BY_DEVICE,
    COMPILED_LOOP,
    DIRECT,
    PYTHON_LOOP,
    WEAVE_FORMAT,
    Variant,
    is_as_launched,
)
from plait.testing.lab import LabError


def status(loop: str | None, *overlays: str) -> dict[str, Any]:
    return {
        "Plait": {"Pump": {"pid": 7, "loop": loop}},
        "Router": {"Connections": [{"Attrs": {"name": overlay} if overlay else {}} for overlay in overlays]},
    }


def kernel_status(*hops: dict[str, Any], overlay: str = "fastdp", why_not: str = "") -> dict[str, Any]:
    found = status("compiled loop", overlay)
    found["Plait"]["Datapath"] = {"Carries": not why_not, "Why": why_not, "Hops": list(hops)}
    return found


def hop(via: str = "vxlan", *, direct: bool = True) -> dict[str, Any]:
    return {"Peer": "02:00:00:00:00:01", "Via": via, "Direct": direct}


@pytest.mark.parametrize(
    ("variant", "options"),
    [
        (DIRECT, []),
        (BY_DEVICE, ["--fastdp-encapsulation", "device"]),
        (WEAVE_FORMAT, ["--overlays", "sleeve"]),
        (PYTHON_LOOP, ["--overlays", "plait1", "--sleeve-loop", "python"]),
        (COMPILED_LOOP, ["--overlays", "plait1", "--sleeve-loop", "compiled"]),
    ],
)
def test_a_variant_is_chosen_by_options_of_launch(variant: Variant, options: list[str]) -> None:
    assert variant.options == tuple(options)


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


@pytest.mark.parametrize(("variant", "direct"), [(DIRECT, True), (BY_DEVICE, False)])
def test_the_kernel_carries_as_launched(variant: Variant, direct: bool) -> None:
    ourselves = hop("nothing", direct=False)
    assert is_as_launched(variant, "h1", kernel_status(ourselves, hop(direct=direct)))


@pytest.mark.parametrize(
    "found",
    [
        kernel_status(),
        kernel_status(hop("pump")),
        kernel_status(hop(), overlay="plait1"),
        kernel_status(hop("nothing")),
    ],
)
def test_as_long_as_user_space_carries_a_node_with_fastdp_is_not_settled(found: dict[str, Any]) -> None:
    assert not is_as_launched(DIRECT, "h1", found)


@pytest.mark.parametrize(
    ("variant", "found", "complaint"),
    [
        (DIRECT, kernel_status(hop(direct=False)), "h1 was launched with no options but direct is False"),
        (BY_DEVICE, kernel_status(hop()), "h1 was launched with --fastdp-encapsulation device but direct is True"),
        (DIRECT, kernel_status(why_not="it is too old"), "its kernel carries nothing: it is too old"),
    ],
)
def test_another_encapsulation_than_asked_for_is_no_result(
    variant: Variant, found: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(LabError, match=complaint):
        is_as_launched(variant, "h1", found)


def test_peers_that_cannot_be_reached_do_not_count() -> None:
    found = status("compiled loop", "plait1")
    found["Router"]["Connections"].append({"State": "failed", "Attrs": None})
    assert is_as_launched(COMPILED_LOOP, "h1", found)
