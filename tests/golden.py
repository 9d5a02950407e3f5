"""Golden vectors: loads the files under tests/vectors once and counts which of their cases were really run.

The counts, the cases left out on purpose, and the decoders that property tests must enter are printed and checked by
conftest.py. Tests never read /vectors files behind this module's back if their cases shall count.
"""

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsIndex

VECTORS = Path(__file__).parent / "vectors"

CaseKey = tuple[str, str, int]
"""File, key inside the file, position."""


@dataclass(slots=True)
class Tally:
    """What is known of one run; conftest.py prints it."""

    loaded: Counter[tuple[str, str]] = field(default_factory=Counter)
    passed: set[CaseKey] = field(default_factory=set)
    failed: set[CaseKey] = field(default_factory=set)
    left_out: dict[tuple[str, str], str] = field(default_factory=dict)
    entered: Counter[str] = field(default_factory=Counter)
    expected: set[str] = field(default_factory=set)

    def merge(self, other: "Tally") -> None:
        """Take in what another process of the same run counted; every process loads the same files."""
        self.loaded |= other.loaded
        self.passed |= other.passed
        self.failed |= other.failed
        self.left_out |= other.left_out
        self.entered += other.entered
        self.expected |= other.expected


TALLY = Tally()
_documents: dict[str, Any] = {}
_cases: dict[tuple[str, str], "Cases"] = {}
_key_of_object: dict[int, CaseKey] = {}
_used_by_current_test: set[CaseKey] = set()


class Cases(list[Any]):
    """The cases of a file. What a running test takes from it by a loop or by index counts for that test."""

    def __init__(self, path: str, key: str, items: Iterable[Any]) -> None:
        super().__init__(items)
        self._where = (path, key)

    def __iter__(self) -> Iterator[Any]:
        for index, case in enumerate(super().__iter__()):
            _used_by_current_test.add((*self._where, index))
            yield case

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        for position in [range(len(self))[index]] if not isinstance(index, slice) else range(len(self))[index]:
            _used_by_current_test.add((*self._where, position))
        return super().__getitem__(index)


def document(path: str) -> Any:
    """Give the whole JSON of a vector file, `path` relative to tests/vectors; a large one is kept as `path`.gz."""
    if path not in _documents:
        packed = VECTORS / f"{path}.gz"
        raw = gzip.decompress(packed.read_bytes()) if packed.exists() else (VECTORS / path).read_bytes()
        _documents[path] = json.loads(raw)
    return _documents[path]


def cases(path: str, key: str = "cases") -> list[Any]:
    """Give the list of cases under `key` of a vector file; `a.0.b` digs deeper, and "" means the file is the list.

    A JSON object gives (name, value) pairs. Use the answer with `pytest.mark.parametrize` or loop over it in a test:
    a case counts as passed when no test that used it failed.
    """
    if (path, key) not in _cases:
        value = document(path)
        for step in key.split(".") if key else ():
            value = value[int(step) if isinstance(value, list) else step]
        found = Cases(path, key, value.items() if isinstance(value, dict) else value)
        for index, case in enumerate(list.__iter__(found)):
            if isinstance(case, dict | list | tuple):
                _key_of_object[id(case)] = (path, key, index)
        TALLY.loaded[path, key] = len(found)
        _cases[path, key] = found
    return _cases[path, key]


def case_id(case: Any) -> str:
    """Name a case in test ids."""
    return str(case.get("name", case.get("id", ""))) if isinstance(case, dict) else str(case)


def left_out(path: str, case: object, reason: str) -> None:
    """Tell that a case (or, by its name, a whole file) is not run, and why."""
    TALLY.left_out[path, case_id(case)] = reason


def expect_entered(name: str) -> None:
    """Call at import of a test module: the run fails if this decoder is never entered by a property test."""
    TALLY.expected.add(name)


def entered(name: str) -> None:
    """Call from a property test each time that the decoder was really run."""
    TALLY.expected.add(name)
    TALLY.entered[name] += 1


def start_test() -> None:
    """conftest.py: a test begins."""
    _used_by_current_test.clear()


def finish_test(parameters: Iterable[object], passed: bool) -> None:
    """conftest.py: a test ended; its parameters may be cases, or tuples with cases in them."""
    used = set(_used_by_current_test)
    for parameter in parameters:
        for value in (parameter, *parameter) if isinstance(parameter, tuple) else (parameter,):
            if id(value) in _key_of_object:
                used.add(_key_of_object[id(value)])
    (TALLY.passed if passed else TALLY.failed).update(used)
