"""The lab as a fixture."""

from plait.testing.lab.fixtures import lab

__all__ = ["lab"]
