"""A lab as a pytest fixture; import it into a conftest.py or a test module."""

from collections.abc import Iterator

import pytest

from plait.testing.lab.features import missing_features
from plait.testing.lab.lab import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Give a new lab, gone after the test. Skips the test, with the reasons, where no lab can run."""
    missing = missing_features()
    if missing:
        pytest.skip("; ".join(missing))
    with Lab() as made:
        yield made
