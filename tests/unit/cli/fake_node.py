"""Stands in for `python -P -m plait daemon ...`: the API of a node in memory. FAKE_NODE says how it misbehaves."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

from plait.api.server import serve
from plait.config import Config
from unit.api.nodes import MemoryNode

TIME = "2026-01-01 00:00:00,000"


async def live(run_dir: Path, mode: str) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    node = MemoryNode()

    async def stop(reset: bool) -> None:
        if mode != "deaf":
            stopping.set()

    node.stop = stop  # type: ignore[method-assign]  # the only behaviour that differs
    config = Config(run_dir=run_dir, http_addr="", status_addr="")
    server = await serve(node, config)
    await stopping.wait()
    await server.close()


def main() -> int:
    words = sys.argv[1:]
    mode = os.environ.get("FAKE_NODE", "")
    run_dir = Path(next(word for word in words if word.startswith("--run-dir=")).partition("=")[2])
    if mode == "die":
        print(f"{TIME} INFO plait: about to fail", file=sys.stderr)
        print(f"{TIME} ERROR plait: port 6783 is taken: stop the other one", file=sys.stderr)
        print(f"{TIME} INFO plait: bye", file=sys.stderr)
        return 6
    if mode == "refuse":
        print(f"{TIME} ERROR plait: 192.0.2.1 is no address of this host", file=sys.stderr)
        return 125
    if mode == "defect":
        print(f"{TIME} CRITICAL plait: the node ends because of a defect", file=sys.stderr)
        print("Traceback (most recent call last):\nValueError: x", file=sys.stderr)
        return 1
    if mode == "silent":
        os.kill(os.getpid(), signal.SIGKILL)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "plait.pid").write_text(f"{os.getpid()}\n")
    (run_dir / "environ").write_bytes(Path("/proc/self/environ").read_bytes())
    if mode == "hang":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(run_dir / "plait.sock"))
            listener.listen()
            signal.pause()
    asyncio.run(live(run_dir, mode))
    if mode == "trouble":
        print(f"{TIME} WARNING plait: x could not be removed: remove it yourself", file=sys.stderr)
    (run_dir / "plait.pid").unlink()
    return 0


sys.exit(main())
