"""Running nft commands through libnftables, in the network namespace of the calling thread; no program is started.

It knows no rules: `firewall` does.
"""

import ctypes
import functools
import json
import os
import threading
from typing import Any

from plait.errors import KernelLacks, KernelRefused, PermissionNeeded, PlaitError
from plait.host.release import release

_LIBRARY = "libnftables.so.1"
_NFT_CTX_OUTPUT_JSON = 1 << 4  # nftables/libnftables.h
# libnftables is not documented as safe for threads: its scanner and tables of names are static.
_one_at_a_time = threading.Lock()
# A child process, which has this thread only, must find nobody in the library.
os.register_at_fork(
    before=_one_at_a_time.acquire,
    after_in_parent=_one_at_a_time.release,
    after_in_child=_one_at_a_time.release,
)


def run(commands: str) -> None:
    """Do all commands (the language of nft(8)), or none: one transaction. Raise KernelRefused or PermissionNeeded.

    KernelLacks: the library is missing.
    """
    _run(commands)


def query(command: str) -> list[dict[str, Any]]:
    """The objects that a `list` command gives (libnftables-json(5)), without the leading `metainfo`."""
    answer = json.loads(_run(command) or '{"nftables": []}')
    return [entry for entry in answer["nftables"] if "metainfo" not in entry]


def quoted(text: str) -> str:
    """A string in the nft language, for interface names and comments. Raise ValueError for what it cannot hold."""
    if '"' in text or "\n" in text or not text.isprintable():
        raise ValueError(f"{text!r} cannot be written in an nft rule")
    return f'"{text}"'


@functools.cache
def missing() -> str | None:
    """Why nft commands cannot be run here, as a sentence; None if they can."""
    try:
        _library()
    except KernelLacks as error:
        return str(error)
    return None


def _run(commands: str) -> str:
    library = _library()
    with _one_at_a_time:
        context = library.nft_ctx_new(0)
    if not context:
        raise PermissionNeeded("cannot open a netlink socket for nftables; run it as root (capability NET_ADMIN)")
    try:
        with _one_at_a_time:
            library.nft_ctx_buffer_output(context)
            library.nft_ctx_buffer_error(context)
            library.nft_ctx_output_set_flags(context, _NFT_CTX_OUTPUT_JSON)
            status = library.nft_run_cmd_from_buffer(context, commands.encode())
            output, error = library.nft_ctx_get_output_buffer(context), library.nft_ctx_get_error_buffer(context)
    finally:
        release(functools.partial(_free, library, context))
    if status != 0:
        raise _refusal((error or b"").decode(errors="replace"))
    return (output or b"").decode()


def _free(library: ctypes.CDLL, context: int) -> None:
    with _one_at_a_time:
        library.nft_ctx_free(context)


def _refusal(message: str) -> PlaitError:
    first = message.strip().partition("\n")[0].removeprefix("Error: ") or "no reason given"
    if os.strerror(1) in message:
        return PermissionNeeded(f"the kernel refused nftables rules: {first}; run it as root (capability NET_ADMIN)")
    return KernelRefused(f"the kernel refused nftables rules: {' '.join(message.split()) or first}")


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise KernelLacks(
            f"{_LIBRARY} is missing: firewall rules cannot be placed; install it (Debian and Ubuntu: libnftables1, "
            "Fedora: nftables-libs, Alpine: nftables)"
        ) from error
    handle, number, text = ctypes.c_void_p, ctypes.c_uint, ctypes.c_char_p
    for name, result, arguments in (
        ("nft_ctx_new", handle, [number]),
        ("nft_ctx_free", None, [handle]),
        ("nft_ctx_buffer_output", ctypes.c_int, [handle]),
        ("nft_ctx_buffer_error", ctypes.c_int, [handle]),
        ("nft_ctx_output_set_flags", None, [handle, number]),
        ("nft_run_cmd_from_buffer", ctypes.c_int, [handle, text]),
        ("nft_ctx_get_output_buffer", text, [handle]),
        ("nft_ctx_get_error_buffer", text, [handle]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
