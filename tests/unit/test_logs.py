"""The log: one event, one line; nothing is lost while the disk is full, and nothing breaks."""

import fcntl
import logging
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from plait import logs
from plait.logs import MAX_WAITING_LINES, PatientHandler


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """A pipe whose writing end refuses when it is full, as a disk does."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def record(text: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("plait", logging.WARNING, "file", 1, text, arguments, None)


def test_lines_that_a_full_disk_refuses_wait_for_the_next(ends: tuple[int, int]) -> None:
    reader, writer = ends
    handler = PatientHandler(writer)
    handler.emit(record("a" * 3000))
    handler.emit(record("b" * 3000))  # a part of it fits
    handler.emit(record("c"))
    text = os.read(reader, 10000)
    handler.emit(record("d"))
    text += os.read(reader, 10000)
    assert text == b"a" * 3000 + b"\n" + b"b" * 3000 + b"\nc\nd\n"


def test_what_waits_is_bounded_and_the_oldest_go(ends: tuple[int, int]) -> None:
    reader, writer = ends
    handler = PatientHandler(writer)
    os.write(writer, b"x" * 4096)
    for number in range(MAX_WAITING_LINES + 7):
        handler.emit(record(f"line {number:04}"))
    os.read(reader, 4096)
    handler.emit(record("now"))
    text = b""
    for _ in range(20):
        text += os.read(reader, 4096)
        handler.emit(record("more"))
    lines = text.decode().splitlines()
    assert lines[0] == "line 0008"
    assert lines.count("now") == 1


def test_a_lost_reader_breaks_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    PatientHandler(writer).emit(record("hello"))
    os.close(writer)


def test_one_event_is_one_line(ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = ends
    monkeypatch.setattr(logs, "_STANDARD_ERROR", writer)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.set_up("info")
        logging.getLogger("plait").info("peer %s", "evil\n2026-01-01 ERROR plait: \x1b[2J\udcff")
        logging.getLogger("plait").debug("not this")
        logging.getLogger("aiohttp.access").info("nor this")
        try:
            raise ValueError("planted")
        except ValueError:
            logging.getLogger("plait").exception("a defect")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    first, second, *trace = os.read(reader, 10000).decode().splitlines()
    assert first.endswith(r" INFO plait: peer evil?2026-01-01 ERROR plait: ?[2J\udcff")
    assert second.endswith(" ERROR plait: a defect")
    assert trace[-1] == "ValueError: planted"


def test_threads_log_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """More sentences than are remembered, from several threads that change often."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    interval = sys.getswitchinterval()
    with Path(os.devnull).open("wb") as nowhere, ThreadPoolExecutor(8) as threads:
        monkeypatch.setattr(logs, "_STANDARD_ERROR", nowhere.fileno())
        sys.setswitchinterval(1e-6)
        try:
            logs.set_up("info")

            def log(thread: int) -> None:
                for number in range(1000):
                    logging.getLogger("plait").info("thread %d says %d", thread, number)

            for each in [threads.submit(log, thread) for thread in range(8)]:
                each.result()
        finally:
            sys.setswitchinterval(interval)
            root.handlers[:] = before
            root.setLevel(level)
