"""Parts of a package can be imported without running the package, which loses nothing by it."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from plait.host._pyroute2 import package_not_run


@pytest.fixture(name="package")
def fixture_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = "plait_test_package"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("from plait_test_package import rest\nWHOLE = True\n")
    (tmp_path / name / "rest.py").write_text("")
    (tmp_path / name / "part.py").write_text("VALUE = 5\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


def test_only_the_part_is_imported(package: str) -> None:
    with package_not_run(package):
        part = importlib.import_module(f"{package}.part")
    assert part.VALUE == 5
    assert [module for module in sys.modules if module.startswith(package)] == [f"{package}.part"]


def test_the_package_can_be_imported_afterwards_and_has_the_same_part(package: str) -> None:
    with package_not_run(package):
        part = importlib.import_module(f"{package}.part")
    whole = importlib.import_module(package)
    assert whole.WHOLE
    assert importlib.import_module(f"{package}.part") is part


def test_a_package_that_is_there_already_stays(package: str) -> None:
    whole = importlib.import_module(package)
    with package_not_run(package):
        assert importlib.import_module(package) is whole
    assert sys.modules[package] is whole


def test_what_cannot_be_found_is_for_the_import_to_tell() -> None:
    with package_not_run("plait_no_such_package"), pytest.raises(ModuleNotFoundError):
        importlib.import_module("plait_no_such_package.part")
