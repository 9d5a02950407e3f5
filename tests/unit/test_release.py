import threading

import pytest

from plait.host.release import release

PATIENCE = 10.0


def test_the_caller_does_not_wait_for_a_slow_close() -> None:
    may_end, has_ended = threading.Event(), threading.Event()

    def close() -> None:
        may_end.wait(PATIENCE)
        has_ended.set()

    release(close)
    assert not has_ended.is_set()
    may_end.set()
    assert has_ended.wait(PATIENCE)


def test_without_a_thread_it_is_closed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    closed: list[str] = []
    release(lambda: closed.append("closed"))
    assert closed == ["closed"]
