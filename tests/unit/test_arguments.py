"""A secret among the arguments of a process, as other users see them."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from plait.host.arguments import hide
hide(sys.argv[1].encode())
sys.stdout.buffer.write(open("/proc/self/cmdline", "rb").read())
"""


@pytest.mark.parametrize("words", [["--password", "s3cret"], ["--password=s3cret"]])
def test_a_secret_argument_is_overwritten_and_the_others_stay(words: list[str]) -> None:
    argv = [sys.executable, "-c", SCRIPT, "s3cret", *words, "host-of-s3cret"]
    seen = subprocess.run(argv, capture_output=True, check=True).stdout.split(b"\0")
    assert [word.decode() for word in seen[4:-1]] == [*(word.replace("s3cret", "******") for word in words), argv[-1]]
    assert seen[3] == b"******"
