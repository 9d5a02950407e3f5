"""A node as a process: from a Config to an exit code. Signals end it; other ends are one sentence in the log."""

import asyncio
import logging
import signal
from collections.abc import Iterator

from plait import logs
from plait.config import Config
from plait.errors import PlaitError
from plait.host import arguments
from plait.node import Node
from plait.startup import Host, open_host, pid_file, reset_host
from plait.state import Store

_log = logging.getLogger("plait")


def run(config: Config) -> int:
    """Be a node until SIGTERM, SIGINT or `plait stop`; gives the exit code. Errors end as one sentence in the log."""
    logs.set_up(config.log_level, config.log_format)
    _hide(config.password)
    try:
        with Store(config.state_dir) as store, open_host(config, store) as host, pid_file(config.run_dir):
            is_reset = asyncio.run(_live(config, store, host))
        if is_reset:
            for trouble in reset_host(config):
                _log.warning("%s", trouble)
    except PlaitError as error:
        _log.error("%s", error)
        return error.exit_code
    except BaseExceptionGroup as errors:
        return _explain(errors)
    return 0


def _hide(password: bytes | None) -> None:
    """Take the password from where other users see it, if it is there."""
    if password is None:
        return
    try:
        arguments.hide(password)
    except OSError as error:
        _log.warning("a password among the node's arguments can be seen by other users (%s): use WEAVE_PASSWORD", error)


async def _live(config: Config, store: Store, host: Host) -> bool:
    """Run a node; True if it was asked to reset the host."""
    node = Node(config, store, host)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, node.request_stop)
    await node.run()
    return node.is_reset


def _explain(errors: BaseExceptionGroup[BaseException]) -> int:
    """Log why the node's tasks ended; a defect comes with its traceback, for the report to the developers."""
    explained, defects = errors.split(PlaitError)
    for error in _leaves(explained):
        _log.error("%s", error)
    if defects is not None:
        _log.critical("the node ends because of a defect; please report it with this", exc_info=defects)
        return 1
    return max((error.exit_code for error in _leaves(explained) if isinstance(error, PlaitError)), default=1)


def _leaves(group: BaseExceptionGroup[BaseException] | None) -> Iterator[BaseException]:
    for error in group.exceptions if group else ():
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
