from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.plan import NEBULA, SLEEVE, SLEEVE_ENC, SYSTEMS, VXLAN, WEAVE, WEAVE_ENC
from bench.report import Reading, summarize, to_json
from bench.table import Conditions, conditions_of, read, to_markdown
from plait.errors import UsageError

CUBIC = Conditions("super", "cubic")


def results(*readings: Reading) -> list[dict[str, Any]]:
    return read(to_json(summarize(readings, SYSTEMS), "a machine"), "a file")


def tcp1(system: str, value: float | None, *, wire: str = "super", cc: str = "cubic", foreign: float = 0.0) -> Reading:
    return Reading("tcp1_gbps", system, wire, cc, value, None, foreign)


def cells(markdown: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]


def test_systems_are_down_and_what_was_measured_is_across() -> None:
    rows = results(
        tcp1(NEBULA, 0.5),
        tcp1(SLEEVE, 2.0),
        Reading("udp64_kpps", SLEEVE, "super", None, 100.0),
        Reading("rtt_us", NEBULA, "super", None, 300.0),
        Reading("attach_ms", SLEEVE, None, None, 9.0),
    )
    head, _, *body = cells(to_markdown(rows, CUBIC))
    assert head == ["system", "TCP 1, Gbit/s", "UDP 64 B, kpackets/s", "round trip, us"]
    assert body == [["plait-sleeve", "2.00", "100", ""], ["nebula", "0.500", "", "300"]]


def test_ratios_are_to_the_weave_that_encrypts_alike_and_to_kernel_vxlan() -> None:
    rows = results(tcp1(SLEEVE, 2.0), tcp1(SLEEVE_ENC, 1.0), tcp1(WEAVE, 1.0), tcp1(WEAVE_ENC, 0.25), tcp1(VXLAN, 8.0))
    head, _, *body = cells(to_markdown(rows, CUBIC))
    assert head[2:] == ["TCP 1 : weave-sleeve", "TCP 1 : vxlan-bridge"]
    assert {line[0]: line[2:] for line in body} == {
        SLEEVE: ["2.00", "0.250"],
        SLEEVE_ENC: ["4.00", "0.125"],
        WEAVE: ["", "0.125"],
        WEAVE_ENC: ["", "0.0312"],
        VXLAN: ["8.00", ""],
    }


def test_noisy_values_and_failures_are_marked() -> None:
    rows = results(tcp1(SLEEVE, 2.0, foreign=1.0), tcp1(WEAVE, None))
    assert [line[:2] for line in cells(to_markdown(rows, CUBIC))[2:]] == [[SLEEVE, "2.00!"], [WEAVE, "-"]]


def test_other_wires_and_congestion_controls_are_tables_of_their_own() -> None:
    rows = results(tcp1(SLEEVE, 2.0), tcp1(SLEEVE, 1.5, cc="bbr"), tcp1(SLEEVE, 1.0, wire="wire"))
    assert conditions_of(rows) == [CUBIC, Conditions("super", "bbr"), Conditions("wire", "cubic")]
    assert [cells(to_markdown(rows, each))[2][1] for each in conditions_of(rows)] == ["2.00", "1.50", "1.00"]


def test_systems_of_other_versions_come_last() -> None:
    rows = [row | {"system": "other"} for row in results(tcp1(SLEEVE, 2.0))] + results(tcp1(VXLAN, 2.0))
    assert [line[0] for line in cells(to_markdown(rows, CUBIC))[2:]] == [VXLAN, "other"]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"metric": "tcp1_gbps"}]'])
def test_a_file_without_results_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match=r"results\.json .* name a file that `python -m bench` wrote"):
        read(text, "results.json")


def test_the_command_prints_a_table_for_each_condition(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results.json"
    file.write_text(to_json(summarize([tcp1(SLEEVE, 2.0), tcp1(SLEEVE, 1.5, wire="wire")], SYSTEMS), "a machine"))
    assert main(["table", str(file)]) == 0
    assert capsys.readouterr().out.count("| plait-sleeve |") == 2
    assert main(["table", str(file), "--wire", "wire"]) == 0
    printed = capsys.readouterr().out
    assert "every packet travels alone" in printed
    assert printed.count("| plait-sleeve |") == 1


@pytest.mark.parametrize("options", [[], ["--cc", "reno"]])
def test_the_command_says_what_it_cannot_show(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.json"
    if options:
        file.write_text(to_json(summarize([tcp1(SLEEVE, 2.0)], SYSTEMS), "a machine"))
    assert main(["table", str(file), *options]) != 0
    assert str(file) in capsys.readouterr().err
