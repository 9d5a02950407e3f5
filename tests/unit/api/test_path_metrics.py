"""Metrics of connections, of the kernel's datapath and of the pump."""

from msgspec.structs import replace

from plait.api.figures import Figures
from plait.api.model import Datapath
from plait.overlay.sleeve.pump.counters import LOSSES
from unit.api.full_report import COUNTED, DATAPATH, FIGURES, PEER, detail, exposition, plait_report, report_with

OF = f'{{peer="{PEER}"}}'


def test_what_a_connection_uses_and_what_its_path_is_like() -> None:
    found = exposition(report_with(plait_report([detail(0.001, 0.25)])))
    assert found[f'plait_connection_overlay{{overlay="fastdp",peer="{PEER}",reason="first_choice"}}'] == 1
    assert found[f'plait_connection_path_mtu_source{{peer="{PEER}",source="acknowledged"}}'] == 1
    values = {
        "established": 1,
        "established_timestamp_seconds": 1_700_000_000,
        "encrypted": 0,
        "mtu_bytes": 1450,
        "path_mtu_bytes": 1500,
        "rtt_seconds": 0.001,
        "jitter_seconds": 0.0005,
        "loss_ratio": 0.25,
        "black_holes_total": 2,
        "rejected_total": 9,
    }
    assert {name: found[f"plait_connection_{name}{OF}"] for name in values} == values
    assert found["plait_connection_falls_total"] == 5


def test_what_is_not_known_is_left_out() -> None:
    figures = replace(FIGURES, paths=[replace(FIGURES.paths[0], jitter=None, user_overlay=None)])
    silent = replace(detail(None, None), established_since=None, counters={})
    found = exposition(report_with(plait_report([silent], figures=figures)))
    assert found[f"plait_connection_established{OF}"] == 0
    words = ("rtt", "jitter", "loss", "timestamp", "rejected", "pump_drops", "plait1")
    assert not [name for name in found if name.startswith("plait_c") and any(word in name for word in words)]


def test_a_node_alone_has_no_metrics_of_paths() -> None:
    found = exposition(report_with(plait_report(datapath=Datapath(), figures=Figures())))
    assert (found["plait_datapath_up"], found["plait_pump_up"], found["plait_connection_falls_total"]) == (0, 1, 0)
    assert not [name for name in found if "peer=" in name and "peer_info" not in name]
    assert not [name for name in found if "datapath_" in name and name != "plait_datapath_up"]


def test_what_kernel_and_pump_carried() -> None:
    found = exposition(report_with(plait_report([detail()])))
    carried = {
        ("fastdp", "sent"): (1, 2),
        ("fastdp", "received"): (3, 4),
        ("plait1", "sent"): (5, 6),
        ("plait1", "received"): (7, 8),
    }
    for (overlay, direction), (frames, size) in carried.items():
        labels = f'{{direction="{direction}",overlay="{overlay}",peer="{PEER}"}}'
        assert found[f"plait_peer_frames_total{labels}"] == frames
        assert found[f"plait_peer_bytes_total{labels}"] == size


def test_what_the_kernel_dropped_and_how_full_it_is() -> None:
    found = exposition(report_with(plait_report(datapath=DATAPATH)))
    assert found["plait_datapath_up"] == 1
    assert found['plait_datapath_drops_total{reason="foreign"}'] == 7
    assert found['plait_datapath_map_entries{map="learned"}'] == 3
    assert found['plait_datapath_map_max_entries{map="learned"}'] == 4096
    assert not [name for name in found if 'map="events"' in name]


def test_what_the_pump_did_and_lost() -> None:
    found = exposition(report_with(plait_report(), COUNTED))
    assert (found["plait_pump_up"], found["plait_pump_restarts_total"]) == (1, 2)
    assert found["plait_pump_captured_frames_total"] == COUNTED["captured"]
    lost = {name: value for name, value in found.items() if name.startswith("plait_pump_drops_total")}
    assert lost == {f'plait_pump_drops_total{{reason="{reason}"}}': COUNTED[reason] for reason in LOSSES}


def test_a_pump_that_does_not_answer() -> None:
    plait = replace(plait_report(), pump={"pid": None, "restarts": 0, "answers": "no"})
    found = exposition(report_with(plait, None))
    assert found["plait_pump_up"] == 0
    assert {name for name in found if name.startswith("plait_pump_")} == {"plait_pump_up", "plait_pump_restarts_total"}
