"""Counts which golden vectors were run and which decoders the property tests entered; prints it after the run."""

import os
import pickle
from collections import Counter
from collections.abc import Generator
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings

import golden
from golden import TALLY

# How long an example takes says something of the machine, not of the code.
settings.register_profile("plait", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("plait")

# Kinds of tests that CI may leave out, by the beginning of the reason: they need what no package brings.
MAY_BE_SKIPPED = ("PLAIT_WEAVER",)


class _Skips:
    """Tests that did not run, with the reason."""

    reasons: ClassVar[dict[str, str]] = {}

    @classmethod
    def unexcused(cls) -> dict[str, str]:
        """Those that CI must not leave out: this machine was to have what they need."""
        if os.environ.get("CI") != "true":
            return {}
        return {test: reason for test, reason in cls.reasons.items() if not reason.startswith(MAY_BE_SKIPPED)}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        _Skips.reasons[report.nodeid] = str(report.longrepr[2]).removeprefix("Skipped: ")


class _Selection:
    """Whether only a part of the collected tests was chosen: then untouched decoders prove nothing."""

    is_partial = False


def pytest_deselected(items: list[pytest.Item]) -> None:
    _Selection.is_partial = _Selection.is_partial or bool(items)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    if tally := getattr(node, "workeroutput", {}).get("tally"):
        TALLY.merge(pickle.loads(tally))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    golden.start_test()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.outcome != "skipped":
        callspec = getattr(item, "callspec", None)
        golden.finish_test(callspec.params.values() if callspec else (), report.passed)
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    told: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if told is not None:  # one of several processes (pytest-xdist): the one that started it judges
        told["tally"] = pickle.dumps(TALLY)
    elif exitstatus == pytest.ExitCode.OK and (_never_entered(session.config) or _Skips.unexcused()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    write = terminalreporter.write_line
    for line in _case_lines():
        write(line)
    for line in _left_out_lines():
        write(line)
    for name, count in sorted(TALLY.entered.items()):
        write(f"decoder {name}: entered {count} times by property tests")
    for test, reason in _Skips.unexcused().items():
        write(f"SKIPPED IN CI, which must not be: {test}: {reason}", red=True)
    for name in _never_entered(config):
        write(f"decoder {name}: NEVER ENTERED by a property test, so these tests prove nothing", red=True)


def _case_lines() -> list[str]:
    passed = Counter(key[0] for key in TALLY.passed - TALLY.failed)
    failed = Counter(key[0] for key in TALLY.failed)
    loaded: Counter[str] = Counter()
    for (path, _), count in TALLY.loaded.items():
        loaded[path] += count
    lines = []
    for path in sorted(loaded):
        line = f"vectors {path}: {passed[path]} cases passed"
        if failed[path]:
            line += f", {failed[path]} FAILED"
        skipped = sum(name != "" for where, name in TALLY.left_out if where == path)
        if (missing := loaded[path] - passed[path] - failed[path] - skipped) > 0:
            line += f", {missing} not run"
        lines.append(line)
    return lines


def _left_out_lines() -> list[str]:
    together: dict[tuple[str, str], list[str]] = {}
    for (path, case), reason in sorted(TALLY.left_out.items()):
        together.setdefault((path, reason), []).append(case or "the whole file")
    return [f"vectors {path}: left out {', '.join(names)}: {why}" for (path, why), names in together.items()]


def _never_entered(config: pytest.Config) -> list[str]:
    is_partial = _Selection.is_partial or config.option.collectonly or any("::" in arg for arg in config.args)
    return [] if is_partial else sorted(TALLY.expected - set(TALLY.entered))
