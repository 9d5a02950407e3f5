"""The peers that the operator named: resolved for the mesh, kept in the store, looked up again while they are unknown.

Which of them are dialled, and when, is the mesh's business.
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv6Address, ip_address

from plait.api import remarks
from plait.errors import PlaitError, StateError
from plait.host.udp import has_route
from plait.mesh.addresses import parse_target
from plait.mesh.maker import Target
from plait.mesh.router import Router
from plait.state import Store
from plait.troubles import Troubles

# At start names are waited for so long, seconds; then the node is ready without them. A name server that answers does
# so within one second, and `launch` must not look as if it hung.
START_PATIENCE = 5.0
# Between attempts at names that could not be resolved at start, seconds.
RETRY_INTERVAL = 10.0
_log = logging.getLogger("plait")


class Targets:
    """What the operator named. Call `Transport.flush` after each method."""

    def __init__(self, store: Store, router: Router, port: int, local_ips: frozenset[str], troubles: Troubles) -> None:
        """`port` is this node's, and that of targets without one."""
        self._store = store
        self._router = router
        self._port = port
        self._local_ips = local_ips
        self._troubles = troubles
        self._unresolved: dict[str, None] = {}
        self._is_saved = True

    @property
    def texts(self) -> list[str]:
        """All targets as they were given, those without an address last."""
        return [*self._router.maker.direct_targets(), *self._unresolved]

    @property
    def unresolved_count(self) -> int:
        """How many targets have no address yet."""
        return len(self._unresolved)

    async def restore(self, texts: Iterable[str]) -> None:
        """At start: have exactly these. A name without an address stays: name servers may start after us."""
        texts = list(dict.fromkeys(texts))
        lookups = {text: asyncio.create_task(_resolve(text), name=f"resolve {text}") for text in texts}
        if lookups:
            await asyncio.wait(lookups.values(), timeout=START_PATIENCE)
        found = []
        for text, lookup in lookups.items():
            try:
                found.append(_answer(text, lookup))
            except PlaitError as error:
                self._unresolved[text] = None
                self._report_unresolved(text, error)
        self._router.connect(found, True, _now())
        self._tell_of_ourself(found)
        self._try_to_save()

    async def connect(self, texts: Iterable[str], replace: bool) -> list[str]:
        """Resolve and add (or replace all by) these; the answer has one line for each that cannot be resolved.

        Raise StateError, with these lines, if the new list cannot be kept: it holds until a restart.
        """
        found, refusals = [], []
        for text in texts:
            try:
                found.append(await _resolve(text))
            except PlaitError as error:
                refusals.append(str(error))
        if replace:
            self._drop_unresolved(list(self._unresolved))
        self._drop_unresolved([target.text for target in found])
        self._router.connect(found, replace, _now())
        self._tell_of_ourself(found)
        for refusal in refusals:
            _log.warning("%s", refusal)
        self._save(refusals)
        return refusals

    def forget(self, texts: Iterable[str]) -> None:
        """Drop targets, named as they were given. Raise StateError if that cannot be kept."""
        texts = list(texts)
        self._drop_unresolved(texts)
        for text in texts:
            self._troubles.clear(_key(text))
        self._router.forget(texts, _now())
        self._save([])

    async def retry_unresolved(self) -> None:
        """Look up names that had no address at start, one after the other."""
        for text in list(self._unresolved):
            try:
                target = await _resolve(text)
            except PlaitError as error:
                if text in self._unresolved:
                    self._report_unresolved(text, error)
                continue
            if text in self._unresolved:  # it was not forgotten meanwhile
                self._drop_unresolved([text])
                self._router.connect([target], False, _now())
                self._tell_of_ourself([target])

    def save_again(self) -> None:
        """Keep the list, if it could not be kept before."""
        if not self._is_saved or "state" in self._troubles:
            self._try_to_save()

    def _drop_unresolved(self, texts: list[str]) -> None:
        for text in texts:
            if text in self._unresolved:
                del self._unresolved[text]
                self._troubles.clear(_key(text))

    def _report_unresolved(self, text: str, error: PlaitError) -> None:
        self._troubles.report(
            _key(text), str(error), f"correct it with 'plait forget {text}' and 'plait connect'; it is looked up again"
        )

    def _tell_of_ourself(self, targets: list[Target]) -> None:
        """Scripts name all hosts at each of them, so it is no failure; but who meant another one should know."""
        for target in targets:
            if target.ip in self._local_ips and target.port in (None, self._port):
                what = f"the target {target.text} is this node's own address, so it is not called"
                remarks.say(what)
                self._troubles.report(_key(target.text), what, f"'plait forget {target.text}'")

    def _save(self, refusals: list[str]) -> None:
        self._is_saved = False
        try:
            self._store.set_targets(self.texts)
        except StateError as error:
            sentence = f"the list of peers to call is not kept over a restart of the node: {error}"
            self._troubles.report("state", sentence, "free the disk; it is then kept without further ado")
            raise StateError("\n".join([*refusals, sentence])) from error
        self._is_saved = True
        self._troubles.clear("state")

    def _try_to_save(self) -> None:
        try:
            self._save([])
        except StateError:
            pass  # it is among the troubles, and tried again


def _key(text: str) -> str:
    return f"target {text}"


def _answer(text: str, lookup: "asyncio.Task[Target]") -> Target:
    if not lookup.done():
        lookup.cancel()
        raise PlaitError(f"lookup {text}: no answer of a name server yet")
    return lookup.result()


async def _resolve(text: str) -> Target:
    """Resolve a target as the operator wrote it; raise PlaitError with the sentence for it."""
    host, port = parse_target(text)
    try:
        literal = ip_address(host)
    except ValueError:
        return Target(text, await _look_up(text, host), port)
    if isinstance(literal, IPv6Address):
        if literal.is_link_local:
            raise PlaitError(
                f"lookup {text}: a link-local address means another host on each link, so peers cannot tell each other "
                "of it; give a unique local or a global address"
            )
        literal = literal.ipv4_mapped or literal
    return Target(text, str(literal), port)


async def _look_up(text: str, host: str) -> str:
    """Ask the system's resolver, in a thread that keeps neither other work nor the end of the process waiting."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str | PlaitError] = loop.create_future()

    def give(result: str | PlaitError) -> None:
        if not answer.done():
            answer.set_result(result)

    def ask() -> None:
        result = _ask_resolver(text, host)
        try:
            loop.call_soon_threadsafe(give, result)
        except RuntimeError:
            return  # the loop has ended meanwhile: nobody waits

    threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
    result = await answer
    if isinstance(result, PlaitError):
        raise result
    return result


def _ask_resolver(text: str, host: str) -> str | PlaitError:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError:
        return PlaitError(f"lookup {text}: {host!r} cannot be the name of a host")
    except OSError as error:
        return PlaitError(f"lookup {text}: {error.strerror or error}")
    return choose([str(address[0]) for *_, address in found])


def choose(addresses: Sequence[str], is_reachable: Callable[[str], bool] = has_route) -> str:
    """Give the address at which a host of several is called: one that there is a route to; of those one of IPv4.

    IPv4 is preferred because Weave peers carry frames by it alone.
    """
    return min(addresses, key=lambda ip: (not is_reachable(ip), ":" in ip))


def _now() -> float:
    return asyncio.get_running_loop().time()
