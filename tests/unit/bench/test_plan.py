import pytest

from bench import plan
from bench.plan import PLAIT, PLAIT_ENC, ROUTED, SYSTEMS, VXLAN, WEAVE, WEAVE_ENC, baseline, select
from plait.errors import UsageError

WITHOUT_WEAVE = (PLAIT, PLAIT_ENC, VXLAN, ROUTED)


def test_nothing_chosen_is_everything() -> None:
    selection = select("", SYSTEMS)
    assert selection.systems == SYSTEMS
    assert selection.metrics == frozenset(plan.UNITS)


def test_a_metric_is_chosen_for_all_systems() -> None:
    selection = select("rr_per_s", SYSTEMS)
    assert selection.systems == SYSTEMS
    assert selection.wants("rr_per_s")
    assert not selection.wants("tcp1_gbps", "attach_ms")


def test_a_cpu_metric_needs_the_rate_in_whose_run_it_is_taken() -> None:
    selection = select("cpu_us_per_pkt", SYSTEMS)
    assert selection.wants("udp64_kpps")
    assert not selection.wants("tcp1_gbps")


@pytest.mark.parametrize(
    ("only", "systems"),
    [
        ("routed", (ROUTED,)),
        ("weave-sleeve-enc", (WEAVE_ENC,)),
        ("weave-sleeve", (WEAVE, WEAVE_ENC)),
        ("plait-weaveformat-enc", (PLAIT_ENC, WEAVE_ENC)),
        ("plait, routed", (PLAIT, PLAIT_ENC, WEAVE, WEAVE_ENC, ROUTED)),
    ],
)
def test_systems_are_chosen_by_parts_of_names_and_come_with_their_baselines(
    only: str, systems: tuple[str, ...]
) -> None:
    assert select(only, SYSTEMS).systems == systems


def test_metrics_and_systems_can_be_mixed() -> None:
    selection = select("tcp1_gbps,rtt_us,plait-weaveformat-enc", WITHOUT_WEAVE)
    assert selection.metrics == {"tcp1_gbps", "rtt_us"}
    assert selection.systems == (PLAIT_ENC, VXLAN)


@pytest.mark.parametrize("only", ["tcp", "tcp1_gbps,nebula"])
def test_a_word_that_names_nothing_is_refused_with_all_that_could_be_meant(only: str) -> None:
    with pytest.raises(UsageError, match=r"names no metric \(tcp1_gbps, .*\) and no system \(plait-weaveformat, .*\)"):
        select(only, SYSTEMS)


@pytest.mark.parametrize(
    ("system", "available", "rival"),
    [
        (PLAIT, SYSTEMS, WEAVE),
        (PLAIT_ENC, SYSTEMS, WEAVE_ENC),
        (PLAIT, WITHOUT_WEAVE, VXLAN),
        (PLAIT, (PLAIT,), None),
        (WEAVE, SYSTEMS, None),
        (ROUTED, SYSTEMS, None),
    ],
)
def test_the_baseline_is_weave_where_it_can_run(system: str, available: tuple[str, ...], rival: str | None) -> None:
    assert baseline(system, available) == rival
