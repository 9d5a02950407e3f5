from typing import Any

import pytest

import golden
from plait.mesh.name import PeerName
from unit.ipam.notation import ring_text
from unit.ipam.replay import Replay, holding_text


@pytest.mark.parametrize("case", golden.cases("ipam/allocator_curated.json", "scenarios"), ids=golden.case_id)
def test_curated(case: dict[str, Any]) -> None:
    replay = Replay(case["steps"])
    replay.run()
    if any("panic" in step for step in case["steps"]):
        return
    for node, stored in case["final_db"].items():
        disk = replay.nodes[node].disk.content
        assert disk is not None
        assert PeerName.parse(stored["peername"]["decoded"]) == disk.ring.peer
        assert ring_text(disk.ring) == stored["ring"]["decoded"]
        holdings = {ident: holding_text(holding) for ident, holding in disk.holdings.items()}
        assert holdings == stored["ownedAddresses"]["decoded"]


@pytest.mark.parametrize("case", golden.cases("ipam/allocator_random.json"), ids=lambda case: str(case["seed"]))
def test_random(case: dict[str, Any]) -> None:
    Replay(case["steps"]).run()
