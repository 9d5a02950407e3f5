"""Machines made up in a test, with the firewall of a file in rulesets/."""

import json
from pathlib import Path
from typing import Any

from unit.doctor.made import Made

RULESETS = Path(__file__).parent / "rulesets"
UPLINK = {"name": "eth0", "index": 2, "mtu": 1500}
DEFAULT = [
    {"destination": "0.0.0.0/0", "device": "eth0", "gateway": "192.168.5.1"},
    {"destination": "192.168.5.0/24", "device": "eth0"},
]
BRIDGE = {"name": "weave", "index": 3, "kind": "bridge", "mtu": 1376}


def host(*firewalls: str, files: dict[str, str] | None = None, release: str = "6.1.0", **answers: Any) -> Made:
    """A host with an interface eth0. `firewalls`: names of files."""
    for name in firewalls:
        text = (RULESETS / name).read_text()
        if name.endswith(".nft.json"):
            answers["nft"] = json.loads(text)
        else:
            answers[name.split(".")[1].replace("-", "_")] = text
    answers = {"links": [UPLINK, *answers.pop("more_links", [])], "routes": DEFAULT, **answers}
    return Made({"/proc/sys/kernel/osrelease": release, **(files or {})}, **answers)


def node(*peers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A node's answer. A peer has a name and the address 192.168.5.3:6783, if it does not say otherwise."""
    full = [{"name": "b2", "nickname": "h2", "remote": "192.168.5.3:6783", **peer} for peer in peers]
    return {"name": "a1", "version": "1", "mtu": 1376, "overlays": ["fastdp", "sleeve"], "peers": full, **more}
