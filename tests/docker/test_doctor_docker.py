"""What `plait doctor` asks a real Docker engine."""

import pytest

from plait.docker.facts import docker_facts
from plait.doctor.checks import CHECKS
from plait.doctor.examine import examine
from plait.doctor.live import Live
from plait.testing.docker import docker_engine, why_not

_MISSING = why_not()
pytestmark = pytest.mark.skipif(_MISSING is not None, reason=_MISSING or "")
PATIENCE = 30.0  # for a loaded machine


def test_what_weave_left_in_a_real_engine() -> None:
    checks = [check for check in CHECKS if check.name in ("docker", "weave-data")]
    with docker_engine() as engine:

        def found() -> list[tuple[str, str]]:
            probe = Live(lambda: None, lambda: docker_facts(engine.address, PATIENCE))
            return [(result.check.name, result.finding.subject) for result in examine(probe, checks)]

        known = docker_facts(engine.address, PATIENCE)
        assert known is not None
        assert (known.error, known.weave, known.version[0].isdigit()) == ("", [], True)
        assert found() == []
        engine.run("my-weave")
        engine.run("weavedb")
        engine.docker("kill", "weavedb")  # it never runs where Weave made it
        assert found() == [("weave-data", "container weavedb")]
    assert docker_facts(engine.address, PATIENCE) is None
