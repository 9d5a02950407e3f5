"""The ring of events and those who follow it."""

import asyncio

import pytest

from plait.chronicle import Chronicle
from plait.history import Happening, History, Kind


def test_events_are_numbered_and_a_reader_goes_on_where_it_was() -> None:
    history = History(limit=10)
    for number in range(3):
        history.add(Kind.PEER_JOINED, f"peer {number}", at=float(number), peer=f"p{number}", cure="none")
    page = history.after(1)
    assert [(each.number, each.what) for each in page.events] == [(2, "peer 1"), (3, "peer 2")]
    assert (page.missed, page.last) == (0, 3)
    assert not history.after(page.last).events


def test_who_is_slow_is_told_how_many_events_are_gone() -> None:
    history = History(limit=3)
    for number in range(10):
        history.add(Kind.MTU_CHANGED, str(number), at=0.0)
    page = history.after(2)
    assert page.missed == 5
    assert [each.number for each in page.events] == [8, 9, 10]
    assert history.after(0).missed == 0, "who asks for all there is has missed nothing"


def test_a_reader_of_an_earlier_life_starts_over() -> None:
    history = History()
    history.add(Kind.NODE_STARTED, "ready", at=0.0)
    assert [each.number for each in history.after(500).events] == [1]


def test_a_follower_is_woken_by_what_it_wants() -> None:
    async def follow() -> None:
        chronicle = Chronicle()
        chronicle.note(Kind.NODE_STARTED, "ready")

        def is_of_b(event: Happening) -> bool:
            return event.peer == "b"

        waiting = asyncio.create_task(chronicle.after(1, 60.0, is_of_b))
        await asyncio.sleep(0)
        chronicle.note(Kind.PEER_JOINED, "a is there", peer="a")
        await asyncio.sleep(0)
        chronicle.note(Kind.PEER_JOINED, "b is there", peer="b")
        page = await waiting
        assert [each.what for each in page.events] == ["b is there"]
        assert page.last == 3
        assert not (await chronicle.after(3, 0.01, is_of_b)).events

    asyncio.run(follow())


def test_an_event_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    Chronicle().note(Kind.TASK_DIED, "it died", cure="report it", level=40)
    (record,) = caplog.records
    assert (record.message, record.__dict__["event"], record.__dict__["cure"]) == ("it died", "task_died", "report it")
