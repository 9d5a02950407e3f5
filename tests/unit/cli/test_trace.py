"""`trace`: what it prints, and how it ends."""

import json
from typing import Any

from plait.cli.trace import lines
from unit.api.nodes import MemoryNode
from unit.cli.test_verbs import Plait, node, plait, run_dir

__all__ = ["node", "plait", "run_dir"]


def hop(**known: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(
        ("overlay", "device", "source", "destination", "vni", "mtu", "sent", "received", "lost"), None
    )
    return {"kind": "link", "place": "a -> b", "text": "our connection", "computed": False, **nothing, **known}


def found(*hops: dict[str, Any], **changes: Any) -> dict[str, Any]:
    whole = {"source": "web", "destination": "10.2.1.9", "mac": "02:00:00:00:00:aa", "delivered": True}
    rest = {"verdict": "delivered: 3 of 3", "asked": 3, "answered": 3, "counted": [], "drops": {}}
    return {**whole, **rest, "hops": list(hops), **changes}


def test_a_frame_that_arrives_ends_with_0(plait: Plait, node: MemoryNode) -> None:
    plait("attach", "10.2.1.1/24", "web")
    ended = plait("trace", "web", "10.2.1.1")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "from web to 10.2.1.1 (MAC address not known)",
        " 1  web: sends by ethwe",
        "      device ethwe mtu 1376",
        "delivered: 3 of 3 questions were answered",
    ]


def test_a_lost_frame_has_a_code_of_its_own_and_a_reason(plait: Plait, node: MemoryNode) -> None:
    plait("attach", "10.2.1.1/24", "web")
    ended = plait("trace", "web", "10.2.1.9")
    assert (ended.code, ended.err) == (12, "lost: nobody answered for 10.2.1.9\n")
    assert "      LOST: nobody answered for 10.2.1.9\n" in ended.out
    as_json = plait("trace", "--json", "web", "10.2.1.9")
    assert (as_json.code, as_json.err) == (12, "")
    assert json.loads(as_json.out)["verdict"] == "nobody answered for 10.2.1.9"


def test_a_container_that_is_not_there_is_not_a_lost_frame(plait: Plait, node: MemoryNode) -> None:
    ended = plait("trace", "web", "10.2.1.9")
    assert ended.code == 4
    assert "web has no interface" in ended.err


def test_a_hop_shows_what_is_known_of_it_and_nothing_else() -> None:
    tunnel = hop(
        overlay="fastdp", device="eth0", source="192.0.2.1:*", destination="192.0.2.2:6784", vni=5, mtu=1450, sent=3
    )
    relay = hop(place="b -> c", text="relays", computed=True, source="192.0.2.2")
    assert list(lines(found(tunnel | {"received": 2}, relay)))[1:] == [
        " 1  a -> b: our connection",
        "      fastdp device eth0 192.0.2.1:* -> 192.0.2.2:6784 vni 5 mtu 1450",
        "      counted meanwhile: 3 sent, 2 received",
        " 2  b -> c: relays (computed from the topology)",
        "delivered: 3 of 3",
    ]


def test_what_was_counted_and_dropped_without_a_connection_of_the_hops_is_told() -> None:
    counted = [{"peer": "b", "sent": 3, "received": 0}]
    text = list(lines(found(hop(kind="decision"), counted=counted, drops={"frames for peers without a route": 2})))
    assert "counted meanwhile with b: 3 sent, 0 received" in text
    assert "dropped here meanwhile: 2 frames for peers without a route" in text
