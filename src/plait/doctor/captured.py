"""Machines in directories: read one, or write down what checks read of another.

DIR/files has the files that were read, under their paths, and symbolic links with the last part of their target;
DIR/answers has one JSON file for each question. What nobody read is not there.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plait.doctor.probe import Probe
from plait.errors import PlaitError

_EMPTY = ".empty"
"""Stands in a directory of which only the name was read: git keeps no empty ones."""


class Captured:
    """The machine in a directory."""

    def __init__(self, directory: Path) -> None:
        """Raise PlaitError if there is no captured machine."""
        self._files, self._answers = directory / "files", directory / "answers"
        if not self._files.is_dir():
            raise PlaitError(
                f"{directory} is no captured machine (no `files` in it): 'plait doctor --capture' makes one"
            )

    def text(self, path: str) -> str | None:
        """See Probe."""
        try:
            return (self._files / path.lstrip("/")).read_text(errors="replace")
        except OSError:
            return None

    def names(self, path: str) -> Sequence[str]:
        """See Probe."""
        directory = self._files / path.lstrip("/")
        return sorted(entry.name for entry in directory.iterdir() if entry.name != _EMPTY) if directory.is_dir() else ()

    def target(self, path: str) -> str | None:
        """See Probe."""
        try:
            return (self._files / path.lstrip("/")).readlink().name
        except OSError:
            return None

    def answer(self, question: str) -> Any:
        """See Probe. Raise PlaitError for a file that is no JSON."""
        path = self._answers / f"{question}.json"
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise PlaitError(f"{path} cannot be read ({error}): capture the machine again") from error


class Recorder:
    """A probe that remembers what was read by it, and writes that down."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._texts: dict[str, str] = {}
        self._names: dict[str, Sequence[str]] = {}
        self._targets: dict[str, str] = {}
        self._answers: dict[str, Any] = {}

    def text(self, path: str) -> str | None:
        """See Probe."""
        found = self._probe.text(path)
        if found is not None:
            self._texts[path] = found
        return found

    def names(self, path: str) -> Sequence[str]:
        """See Probe."""
        self._names[path] = found = self._probe.names(path)
        return found

    def target(self, path: str) -> str | None:
        """See Probe."""
        found = self._probe.target(path)
        if found is not None:
            self._targets[path] = found
        return found

    def answer(self, question: str) -> Any:
        """See Probe."""
        found = self._probe.answer(question)
        if found is not None:
            self._answers[question] = found
        return found

    def write(self, directory: Path) -> None:
        """Write all of it into a new directory. Raise PlaitError if it is not empty or cannot be written."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if any(directory.iterdir()):
                raise PlaitError(f"{directory} is not empty: name a new directory")
            self._write(directory / "files", directory / "answers")
        except OSError as error:
            raise PlaitError(f"{directory} cannot be written ({error.strerror}): name another directory") from error

    def _write(self, files: Path, answers: Path) -> None:
        files.mkdir()
        for path, text in self._texts.items():
            _made(files / path.lstrip("/")).write_text(text)
        for path, target in self._targets.items():
            _made(files / path.lstrip("/")).symlink_to(target)
        for path, names in self._names.items():
            for name in names:
                entry = files / path.lstrip("/") / name
                if not (entry.exists() or entry.is_symlink()):
                    _made(entry / _EMPTY).touch()
        for question, answer in self._answers.items():
            _made(answers / f"{question}.json").write_text(json.dumps(answer, indent=1, sort_keys=True) + "\n")


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
