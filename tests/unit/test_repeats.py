"""What is said again and again is counted, and the count is said once."""

import json
import logging
import os

import pytest

from plait import logs
from plait.repeats import BURST, MAX_SENTENCES, WINDOW, Repeats

SENTENCE = ("plait", logging.WARNING, "no route")


def test_a_burst_passes_and_the_rest_is_counted() -> None:
    repeats = Repeats()
    assert [repeats.passes(SENTENCE, 0.0) for _ in range(10)] == [True] * BURST + [False] * (10 - BURST)
    assert repeats.due(WINDOW / 2) == []
    assert repeats.due(WINDOW) == [(SENTENCE, 10 - BURST)]
    assert repeats.passes(SENTENCE, WINDOW)


def test_what_came_seldom_is_not_counted() -> None:
    repeats = Repeats()
    repeats.passes(SENTENCE, 0.0)
    assert repeats.due(WINDOW) == []


def test_memory_is_bounded() -> None:
    repeats = Repeats()
    for number in range(3 * MAX_SENTENCES):
        assert repeats.passes(("plait", 30, str(number)), 0.0)
    assert len(repeats._seen) == MAX_SENTENCES


@pytest.fixture
def log_lines(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]  # a function that gives lines
    """Log as JSON to a pipe; calling gives what was written."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    monkeypatch.setattr(logs, "_STANDARD_ERROR", writer)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    logs.set_up("debug", "json")
    yield lambda: [json.loads(line) for line in os.read(reader, 1 << 16).splitlines()]
    root.handlers[:] = before
    root.setLevel(level)
    os.close(reader)
    os.close(writer)


def test_a_line_is_an_object(log_lines) -> None:  # type: ignore[no-untyped-def]
    extra = {"event": "peer_left", "peer": "02:00", "cure": "none"}
    logging.getLogger("plait").warning("peer %s\nleft", "evil", extra=extra)
    try:
        raise ValueError("planted")
    except ValueError:
        logging.getLogger("plait").exception("a defect")
    first, second = log_lines()
    assert first.pop("ts").endswith("Z")
    assert first == {"level": "WARNING", "logger": "plait", "message": "peer evil\nleft", **extra}
    assert "ValueError: planted" in second["traceback"]


def test_repeats_are_said_with_the_first_line_after_the_window(log_lines, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    for _ in range(BURST + 4):
        logging.getLogger("plait").warning("again")
    now[0] = WINDOW
    logging.getLogger("plait").warning("other")
    assert [line["message"] for line in log_lines()] == ["again"] * BURST + ["repeated 4 times: again", "other"]
