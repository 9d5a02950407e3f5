import pytest

from bench import plan
from bench.plan import (
    FASTDP,
    FASTDP_DIRECT,
    FULL,
    LOSSY,
    NEBULA,
    PEERS,
    QUICK,
    RELAYED,
    ROUTED,
    SLEEVE,
    SLEEVE_C,
    SLEEVE_C_ENC,
    SLEEVE_ENC,
    SUPER,
    SWARM,
    SYSTEMS,
    TINC,
    VXLAN,
    WEAVE,
    WEAVE_ENC,
    WEAVEFORMAT,
    WEAVEFORMAT_ENC,
    WIRE,
    WIREGUARD,
    Kind,
    Way,
    adjusted,
    baselines,
    estimate,
    is_measured,
    kinds,
    lossy_kinds,
    relay_kinds,
    select,
    traffic,
)
from plait.errors import UsageError

WITHOUT_WEAVE = (WEAVEFORMAT, WEAVEFORMAT_ENC, VXLAN, ROUTED)
SLEEVES = (SLEEVE, SLEEVE_ENC, SLEEVE_C, SLEEVE_C_ENC)


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
        ("vxlan", (VXLAN,)),
        ("routed", (VXLAN, ROUTED)),
        ("weave-sleeve-enc", (WEAVE_ENC, VXLAN)),
        ("weave-sleeve", (WEAVE, WEAVE_ENC, VXLAN)),
        ("plait-weaveformat-enc", (WEAVEFORMAT_ENC, WEAVE_ENC, VXLAN)),
        ("weaveformat, tinc", (WEAVEFORMAT, WEAVEFORMAT_ENC, WEAVE, WEAVE_ENC, VXLAN, TINC)),
        ("sleeve", (*SLEEVES, WEAVE, WEAVE_ENC, VXLAN)),
        ("fastdp", (FASTDP, FASTDP_DIRECT, VXLAN, SWARM, ROUTED)),
        ("peers", (FASTDP_DIRECT, *PEERS.values())),
    ],
)
def test_systems_are_chosen_by_parts_of_names_and_come_with_their_baselines(
    only: str, systems: tuple[str, ...]
) -> None:
    assert select(only, SYSTEMS).systems == systems


def test_metrics_and_systems_can_be_mixed() -> None:
    selection = select("tcp1_gbps,rtt_us,plait-weaveformat-enc", WITHOUT_WEAVE)
    assert selection.metrics == {"tcp1_gbps", "rtt_us"}
    assert selection.systems == (WEAVEFORMAT_ENC, VXLAN)


@pytest.mark.parametrize("only", ["tcp", "tcp1_gbps,slowdp"])
def test_a_word_that_names_nothing_is_refused_with_all_that_could_be_meant(only: str) -> None:
    with pytest.raises(UsageError, match=r"names no metric \(tcp1_gbps, .*\) and no system \(plait-fastdp, .*\)"):
        select(only, SYSTEMS)


@pytest.mark.parametrize(
    ("system", "available", "rivals"),
    [
        (SLEEVE, SYSTEMS, (WEAVE, VXLAN)),
        (SLEEVE_C_ENC, SYSTEMS, (WEAVE_ENC, VXLAN)),
        (WEAVEFORMAT, WITHOUT_WEAVE, (VXLAN,)),
        (WEAVEFORMAT, (WEAVEFORMAT,), ()),
        (WEAVE, SYSTEMS, (VXLAN,)),
        (FASTDP, SYSTEMS, (VXLAN, ROUTED, SWARM)),
        (FASTDP_DIRECT, WITHOUT_WEAVE, (VXLAN, ROUTED)),
        (PEERS[1000], SYSTEMS, (FASTDP_DIRECT,)),
        (NEBULA, SYSTEMS, (VXLAN,)),
        (VXLAN, SYSTEMS, ()),
    ],
)
def test_baselines_are_what_does_the_same_elsewhere_if_it_can_run(
    system: str, available: tuple[str, ...], rivals: tuple[str, ...]
) -> None:
    assert baselines(system, available) == rivals


@pytest.mark.parametrize("system", [NEBULA, WIREGUARD, TINC])
def test_of_vpns_the_traffic_is_measured_that_container_networks_carry_alike(system: str) -> None:
    measured = {metric for metric in plan.UNITS if is_measured(system, metric)}
    assert measured == {"tcp1_gbps", "tcp4_gbps", "tcp1_loss1_gbps", "udp64_kpps", "rr_per_s", "rtt_us"}


def test_what_has_no_processes_is_not_weighed_and_attach_is_ours() -> None:
    selection = select("", SYSTEMS)
    assert {VXLAN, ROUTED, NEBULA, *PEERS.values()}.isdisjoint(selection.systems_for("rss_mb"))
    assert selection.systems_for("attach_ms") == (FASTDP, FASTDP_DIRECT, SLEEVE, SLEEVE_C, WEAVEFORMAT)


def test_tcp_is_measured_on_both_wires_and_with_the_second_congestion_control_once() -> None:
    found = list(kinds(select("tcp1_gbps,tcp4_gbps", SYSTEMS), FULL))
    assert found == [
        Kind("tcp1_gbps", SUPER, "cubic"),
        Kind("tcp1_gbps", SUPER, "bbr"),
        Kind("tcp4_gbps", SUPER, "cubic"),
        Kind("tcp1_gbps", WIRE, "cubic"),
        Kind("tcp4_gbps", WIRE, "cubic"),
    ]


def test_a_daemon_cpu_metric_is_taken_in_the_runs_of_one_stream() -> None:
    assert {kind.metric for kind in kinds(select("daemon_cpu_s_per_gb", SYSTEMS), FULL)} == {"tcp1_gbps"}


def test_loss_is_measured_with_both_congestion_controls_on_the_wire_that_segments() -> None:
    assert lossy_kinds(select("", SYSTEMS), FULL) == [Kind(LOSSY, WIRE, "cubic"), Kind(LOSSY, WIRE, "bbr")]
    assert lossy_kinds(select("rtt_us", SYSTEMS), FULL) == []


def test_a_quick_run_has_loss_only_if_it_is_named() -> None:
    assert lossy_kinds(select("sleeve", SYSTEMS), QUICK) == []
    assert lossy_kinds(select(LOSSY, SYSTEMS), QUICK) == [Kind(LOSSY, WIRE, "cubic")]
    assert list(kinds(select(LOSSY, SYSTEMS), QUICK)) == []


def test_a_run_of_more_is_estimated_to_take_longer() -> None:
    few, many = select("rr_per_s,tinc", SYSTEMS), select("rr_per_s", SYSTEMS)
    assert 0 < estimate(few, QUICK) < estimate(many, QUICK) < estimate(many, FULL) < estimate(select("", SYSTEMS), FULL)


def test_rounds_and_congestion_controls_can_be_chosen() -> None:
    wished = adjusted(QUICK, {"ROUNDS": "3", "CC": "bbr, cubic"})
    assert (wished.rounds, wished.congestion_controls) == (3, ("bbr", "cubic"))
    assert adjusted(QUICK, {"ROUNDS": "", "CC": ""}) == QUICK
    assert adjusted(QUICK, {"WIRES": "wire"}).wires == (WIRE,)
    for wrong in ({"ROUNDS": "0"}, {"ROUNDS": "many"}, {"ROUNDS": "-1"}, {"WIRES": "air"}):
        with pytest.raises(UsageError, match="="):
            adjusted(QUICK, wrong)


def test_a_relay_is_measured_on_one_wire_for_the_systems_that_relay() -> None:
    assert relay_kinds(select("", SYSTEMS), FULL) == [Kind(RELAYED[0], SUPER, "cubic"), Kind(RELAYED[1], SUPER, None)]
    assert select("", SYSTEMS).systems_for(RELAYED[0]) == (FASTDP, FASTDP_DIRECT, VXLAN, ROUTED)
    assert relay_kinds(select("rtt_us", SYSTEMS), FULL) == []


def test_of_filled_tables_rates_are_measured_and_what_they_cost() -> None:
    measured = {metric for metric in plan.UNITS if is_measured(PEERS[10], metric)}
    assert measured == {"tcp1_gbps", "udp64_kpps", "cpu_s_per_gb", "cpu_us_per_pkt"}


def test_all_traffic_is_measured_on_the_way_that_it_needs() -> None:
    found = traffic(select("", SYSTEMS), FULL)
    assert {way: {kind.metric for kind in chosen} for way, chosen in found.items()} == {
        Way.CABLE: {"tcp1_gbps", "tcp4_gbps", "udp64_kpps", "udp1400_gbps", "rr_per_s", "rtt_us"},
        Way.LOSSY: {LOSSY},
        Way.RELAY: {*RELAYED},
    }
