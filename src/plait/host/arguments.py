"""The words this process was started with, as other users see them."""

from pathlib import Path

# Places of arg_start and arg_end in /proc/PID/stat (proc(5): 48 and 49), counted from the word after the name.
_ARG_START, _ARG_END = 45, 46


def hide(secret: bytes) -> None:
    """Overwrite a secret that is an argument, alone or behind a `=`: every user can read /proc/PID/cmdline.

    Raises OSError if the kernel does not allow it.
    """
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
    with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
        memory.seek(start)
        words = memory.read(end - start).split(b"\0")
        hidden = [
            word[: -len(secret)] + b"*" * len(secret) if word == secret or word.endswith(b"=" + secret) else word
            for word in words
        ]
        memory.seek(start)
        memory.write(b"\0".join(hidden))
