"""Warnings reach who asked, through tasks and threads, and nobody else."""

import asyncio

from hypothesis import example, given
from hypothesis import strategies as st

from plait.api import remarks


def test_nobody_has_to_listen() -> None:
    remarks.say("hello")


def test_what_is_said_meanwhile_is_heard_once() -> None:
    with remarks.heard() as said:
        remarks.say("first")
        remarks.say("second")
        remarks.say("first")
    remarks.say("late")
    assert said == ["first", "second"]


def test_threads_and_tasks_of_a_request_are_heard_and_others_not() -> None:
    async def work(name: str) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(lambda: loop.call_soon_threadsafe(remarks.say, f"{name} from a thread"))
        await asyncio.sleep(0)
        remarks.say(f"{name} itself")

    async def request(name: str) -> list[str]:
        with remarks.heard() as said:
            await asyncio.create_task(work(name))
        return said

    async def both() -> tuple[list[str], list[str]]:
        return await asyncio.gather(request("a"), request("b"))

    assert list(asyncio.run(both())) == [[f"{name} from a thread", f"{name} itself"] for name in "ab"]


def test_a_task_that_outlives_its_request_talks_to_nobody() -> None:
    async def scene() -> list[str]:
        over = asyncio.Event()

        async def late() -> None:
            await over.wait()
            remarks.say("late")

        with remarks.heard() as said:
            task = asyncio.create_task(late())
        over.set()
        await task
        return said

    assert asyncio.run(scene()) == []


def test_remarks_are_bounded() -> None:
    with remarks.heard() as said:
        for number in range(remarks.MAX_REMARKS + 5):
            remarks.say(f"{number} " + "x" * 10_000)
    assert len(said) == remarks.MAX_REMARKS
    assert len(remarks.encode(said)) < 8000


@given(st.lists(st.text(max_size=100), max_size=5))
@example(["\x7f\r\n"])
def test_the_header_is_one_line_of_ascii_and_reads_back(said: list[str]) -> None:
    value = remarks.encode(said)
    assert value.isascii()
    assert value.isprintable()
    assert remarks.decode(value) == said


@given(st.text(max_size=100))
def test_any_header_can_be_read(value: str) -> None:
    assert isinstance(remarks.decode(value), list)


def test_what_is_no_list_of_texts_is_none() -> None:
    assert remarks.decode('{"a": 1}') == remarks.decode("[1]") == remarks.decode("no json") == remarks.decode("") == []
