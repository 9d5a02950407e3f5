"""A pump that hangs is replaced, and what was connected works again."""

import os
import signal

from lab.node_lab import report
from lab.path_lab import USER_SPACE
from plait.testing.lab import Lab, wait_until


def test_a_pump_that_hangs_is_killed_and_replaced(lab: Lab) -> None:
    one, other = lab.host("h1"), lab.host("h2")
    one.launch(extra=USER_SPACE)
    other.launch(one, extra=USER_SPACE)
    here, there = one.container("c1"), other.container("c1")
    one.attach(here, "10.32.0.1/12")
    other.attach(there, "10.32.0.2/12")
    wait_until(lambda: here.ping("10.32.0.2", count=1).ok, "the first ping")
    hung = report(one)["Plait"]["Pump"]["pid"]
    os.kill(hung, signal.SIGSTOP)
    wait_until(lambda: report(one)["Plait"]["Pump"]["pid"] not in (hung, None), "another pump", timeout=60)
    wait_until(lambda: here.ping("10.32.0.2", count=1).ok, "a ping by the new pump")
    pump = report(one)["Plait"]["Pump"]
    assert (pump["restarts"], pump["answers"]) == (1, "yes")
    assert any("pump" in problem["What"] for problem in report(one)["Plait"]["Problems"])
