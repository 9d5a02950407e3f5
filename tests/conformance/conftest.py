"""A mesh of plait and real weavers as a fixture. Without a weaver all tests here are skipped, with the reason."""

import os
from collections.abc import Iterator

import pytest

from conformance.mesh import Mesh
from conformance.weaver import VARIABLE
from plait.testing.lab import Lab
from plait.testing.lab.fixtures import lab

__all__ = ["lab"]


@pytest.fixture(scope="session", autouse=True)
def binary() -> str:
    """The weaver to run. Skips without one; one that is not there is an error."""
    path = os.environ.get(VARIABLE)
    if not path:
        pytest.skip(f"{VARIABLE} does not name a weaver binary (docs/conformance.md)")
    assert os.access(path, os.X_OK), f"{VARIABLE}={path} is no program"
    return path


@pytest.fixture
def mesh(lab: Lab) -> Iterator[Mesh]:
    """An empty mesh; at the end every weaver in it must live and must not have panicked."""
    made = Mesh(lab)
    yield made
    made.show_logs()
    made.check()
