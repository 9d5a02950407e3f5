"""The alert rules and the dashboard that ship: promtool accepts them, and they name metrics that exist."""

import json
import re
import subprocess
from itertools import chain
from typing import Any

import pytest
import yaml

from plait.api import metrics
from plait.testing.promtool import lint, promtool
from unit.api.full_report import REQUESTS, full_report
from unit.test_packaging import UNIT

PACKAGING = UNIT.parent
RULES = PACKAGING / "prometheus" / "plait.rules.yml"
RULES_TEST = PACKAGING / "prometheus" / "plait.rules.test.yml"
DASHBOARD: dict[str, Any] = json.loads((PACKAGING / "grafana" / "plait.json").read_text())
# Of Prometheus itself.
BUILT_IN = {"up", "ALERTS"}
PROCESSES = {f"{prefix}{name}" for prefix in ("", f"{metrics.PUMP_NAMESPACE}_") for name in metrics.PROCESS_METRICS}
EXIST = {each.name for each in chain.from_iterable(metrics.GROUPS.values())} | PROCESSES | BUILT_IN
LABELS = {label for each in chain.from_iterable(metrics.GROUPS.values()) for label in each.labels} | {"job", "instance"}
# What is left of an expression without its label matchers, durations and variables.
NOISE = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|group_left|without|ignoring) \([^)]*\)")
FUNCTIONS = {"sum", "max", "min", "count", "rate", "increase", "changes", "time", "vector"}
WORDS = {"by", "on", "or", "and", "unless", "group_left"}


def names_in(expression: str) -> set[str]:
    words = set(re.findall(r"[a-zA-Z_][a-zA-Z0-9_]*", NOISE.sub(" ", expression)))
    return words - FUNCTIONS - WORDS


def labels_in(expression: str) -> set[str]:
    matched = re.findall(r"(\w+) *(?:=~|!~|!=|=) *\"", expression)
    grouped = re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", expression)
    return {*matched, *(word.strip() for each in grouped for word in each.split(","))}


def promtool_says(*arguments: str) -> str:
    found = promtool()
    if found is None:
        pytest.skip("promtool is missing: 'scripts/setup test' brings it")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False, cwd=RULES.parent)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def test_promtool_accepts_the_rules() -> None:
    assert f"{len(alerts())} rules found" in promtool_says("check", "rules", RULES.name)


def test_alerts_fire_when_they_should_and_not_before() -> None:
    assert "SUCCESS" in promtool_says("test", "rules", RULES_TEST.name)


def test_every_alert_is_tested() -> None:
    tested = set(re.findall(r'alertname="(\w+)"', RULES_TEST.read_text()))
    assert tested == {each["alert"] for each in alerts()}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_run(alert: dict[str, Any]) -> None:
    assert set(alert) == {"alert", "expr", "for", "labels", "annotations"}
    assert alert["alert"].startswith("Plait")
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert set(alert["annotations"]) == {"summary", "description"}
    assert re.search(r"`(plait|journalctl|systemctl) ", alert["annotations"]["description"])


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_names_metrics_that_exist(alert: dict[str, Any]) -> None:
    assert names_in(alert["expr"])
    assert names_in(alert["expr"]) <= EXIST
    assert labels_in(alert["expr"]) <= LABELS


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: str(panel["title"]))
def test_a_panel_names_metrics_that_exist(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        assert names_in(target["expr"]) & EXIST
        assert names_in(target["expr"]) <= EXIST
        assert labels_in(target["expr"]) <= LABELS
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= LABELS


def test_the_dashboard_can_be_imported_anywhere() -> None:
    kinds = {each["name"]: each["type"] for each in DASHBOARD["templating"]["list"]}
    assert kinds == {"datasource": "datasource", "job": "query", "instance": "query"}
    assert all(
        each["datasource"]["uid"] == "${datasource}" for panel in panels() for each in (panel, *panel["targets"])
    )
    assert "id" not in DASHBOARD
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identities)) == len(identities)


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_promtool_reads_the_expressions_of_the_dashboard(tmp_path: Any) -> None:
    rules = [
        {"record": f"panel:{panel['id']}", "expr": target["expr"].replace("$__rate_interval", "5m")}
        for panel in panels()
        for target in panel["targets"]
    ]
    path = tmp_path / "dashboard.json"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool_says("check", "rules", "--lint=none", str(path))


def test_promtool_finds_nothing_in_the_exposition_but_weaves_names() -> None:
    complaints = lint(metrics.render(full_report(), REQUESTS))
    if complaints is None:
        pytest.skip("promtool is missing: 'scripts/setup test' brings it")
    # Whose names are what they are.
    assert [line for line in complaints if not line.startswith("weave_")] == []
