"""No secret is told: not in the log at its most talkative, not by any route, not on a command line."""

import base64
import sys
from pathlib import Path

from lab.node_lab import client, log, pid, report, wait_for_neighbours
from plait.api.routes import Routes
from plait.testing.lab import Host, Lab, wait_until
from unit.api.nodes import MemoryNode

PASSWORD = "correct-horse-battery"

# A node that writes down what it must not tell: the keys of its sessions.
SPY = """
import sys
from pathlib import Path
from plait.mesh.transport import Transport
real = Transport._overlay_key
def spied(self, result, remote_ip):
    with Path(sys.argv[1]).open("a") as file:
        file.write(f"{result.session_key.hex()}\\n")
    return real(self, result, remote_ip)
Transport._overlay_key = spied
from plait.cli.main import run
sys.exit(run(sys.argv[2:]))
"""


def spellings(secret: bytes) -> list[str]:
    """How a secret could be written."""
    return [secret.hex(), secret.hex(":"), base64.b64encode(secret).decode(), str(secret)[2:-1], str(list(secret))]


def told(host: Host) -> dict[str, str]:
    """All that a node tells anybody, by where."""
    found = {"log": log(host) if Path(f"{host.directory}/state/plait.log").exists() else ""}
    for route in Routes(MemoryNode()).control():
        if route.method == "GET" and "{" not in route.path:
            for accepted in ("application/json", "text/plain"):
                answer = client(host).request("GET", route.path, headers={"Accept": accepted})
                found[f"{route.path} {accepted}"] = f"{answer.headers} {answer.body}"
    for words in (["status", "--json"], ["report"], ["events", "--json"], ["status", "connections"], ["ps", "--json"]):
        found[" ".join(words)] = host.plait(*words).stdout
    for process in (pid(host), report(host)["Plait"]["Pump"]["pid"]):
        found[f"cmdline of {process}"] = Path(f"/proc/{process}/cmdline").read_text()
    return found


def test_no_secret_is_told_at_any_log_level(lab: Lab) -> None:
    one, other = lab.host("h1"), lab.host("h2")
    other.launch(password=PASSWORD, extra=("--log-level", "debug", "--log-format", "json"))
    keys = Path(one.directory) / "keys"
    words = ["--nickname=h1", "--ipalloc-range=", "--log-level=debug", f"--password={PASSWORD}"]
    where = [f"--run-dir={one.directory}/run", f"--state-dir={one.directory}/state"]
    node = one.spawn([sys.executable, "-c", SPY, str(keys), "daemon", *where, *words, other.ip])
    wait_until(lambda: Path(f"{one.directory}/run/plait.pid").exists(), "the node runs", 20.0)
    wait_for_neighbours(other, "h1")
    wait_for_neighbours(one, "h2")
    secrets = [PASSWORD, *(s for key in keys.read_text().split() for s in spellings(bytes.fromhex(key)))]
    assert len(secrets) > 5
    for host in (one, other):
        for place, text in {**told(host), "output": node.output}.items():
            assert not [secret for secret in secrets if secret in text], f"{place} of {host.name} tells a secret"
    assert "DEBUG" in node.output
