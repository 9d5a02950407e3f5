"""Prometheus' own judge of expositions and rules, where it is installed."""

import shutil
import subprocess
import sys
from pathlib import Path

_LINTED = 3
"""Exit status of `promtool check metrics` that could read everything and complains of names."""


def promtool() -> str | None:
    """Give the program: that of `scripts/setup test`, or of the machine; None if there is none."""
    beside = Path(sys.executable).parent / "promtool"
    return str(beside) if beside.exists() else shutil.which("promtool")


def lint(exposition: bytes) -> list[str] | None:
    """Give what promtool complains of, a line each; None without promtool. Raise ValueError if it cannot be read."""
    found = promtool()
    if found is None:
        return None
    done = subprocess.run([found, "check", "metrics"], input=exposition, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode()
    if done.returncode not in (0, _LINTED):
        raise ValueError(said)
    return said.splitlines()
