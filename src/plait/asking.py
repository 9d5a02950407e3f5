"""Asks other nodes, and answers them: the questions of `mesh.questions` with time limits and somebody who answers."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

from plait.errors import NodeUnreachable, PlaitError
from plait.mesh.name import PeerName
from plait.mesh.questions import Questions

_log = logging.getLogger(__name__)

PATIENCE = 3.0
"""Seconds that an answer may take."""

Answerer = Callable[[bytes], Awaitable[bytes]]


class PeerSilent(NodeUnreachable):
    """A peer gave no answer: it is a Weave router, another version of plait, or ill."""


class Asking:
    """`send` hands a payload for a peer to the mesh, and says whether there is a way to it."""

    def __init__(self, send: Callable[[PeerName, bytes], bool]) -> None:
        self.channel = Questions(self._on_question, self._on_answer)
        self._send = send
        self._answerers: dict[str, Answerer] = {}
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def answers(self, topic: str, answerer: Answerer) -> None:
        """Have the questions of a topic answered."""
        self._answerers[topic] = answerer

    async def ask(self, peer: PeerName, topic: str, body: bytes = b"", patience: float = PATIENCE) -> bytes:
        """Give a peer's answer. Raises PeerSilent, or NodeUnreachable if there is no way to it."""
        number = secrets.randbits(63)
        payload = self.channel.ask(number, peer, topic, body)
        if payload is None:
            raise PlaitError(f"too many questions to peers wait for an answer: ask {peer} again in a moment")
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        try:
            if not self._send(peer, payload):
                raise NodeUnreachable(f"there is no way to {peer} through the mesh now: see 'plait status connections'")
            async with asyncio.timeout(patience):
                return await waiting
        except TimeoutError:
            raise PeerSilent(
                f"{peer} has not answered for {patience:g} s: it is a Weave router, an older plait, or its node is ill"
            ) from None
        finally:
            del self._waiting[number]
            self.channel.give_up(number)

    def _on_answer(self, number: int, body: bytes) -> None:
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(body)

    def _on_question(self, source: PeerName, number: int, topic: str, body: bytes) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(source, number, topic, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, source: PeerName, number: int, topic: str, body: bytes) -> None:
        answerer = self._answerers.get(topic)
        if answerer is None:
            self.channel.refuse(source)
            return
        try:
            answer = await answerer(body)
        except PlaitError as error:
            _log.info("a question of %s about %s has no answer: %s", source, topic, error)
            self.channel.refuse(source)
        except Exception:
            _log.exception("a question of %s about %s met a defect; please report it with this", source, topic)
            self.channel.refuse(source)
        else:
            self._send(source, self.channel.answer(source, number, topic, answer))
