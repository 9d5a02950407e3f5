"""The golden histories of rings, and what the ring refuses."""

import random
from typing import Any

import pytest

import golden
from plait.ipam.address import Cidr, Range, parse_ip
from plait.ipam.entry import MAX_VERSION, Entry, RingError
from plait.ipam.ring import Ring, RingState
from plait.ipam.space import Space
from plait.mesh.name import PeerName
from unit.ipam.notation import (
    entries_text,
    range_of,
    ranges_of,
    ranges_text,
    ring_of,
    ring_text,
)

ONE, TWO, THREE = PeerName(0x110000000001), PeerName(0x220000000002), PeerName(0x330000000003)
LIMITS = Range(0, 256)


class Rings:
    """The rings of one history, with the addresses in use at each."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.limits = Cidr.parse(case["universe"]).range
        self.updates: list[dict[str, Any]] = []
        self.used: dict[str, set[int]] = {peer: set() for peer in case["peers"]}
        self.rings = {peer: self.fresh(peer) for peer in case["peers"]}

    def fresh(self, peer: str) -> Ring:
        def on_update(before: list[Range], after: list[Range], is_local: bool) -> None:
            update = {"prev": ranges_text(before), "curr": ranges_text(after), "local": is_local}
            self.updates.append(update)

        return Ring(self.limits, PeerName.parse(peer), on_update)

    def space(self, peer: str) -> Space:
        space = Space(free=self.rings[peer].owned())
        for address in self.used[peer]:
            if address in space.free:
                space.claim(address)
        return space

    def merge(self, step: dict[str, Any], received: RingState) -> dict[str, Any]:
        node = step["node"]
        try:
            updated = self.rings[node].merge(received, self.space(node).is_used)
        except RingError as error:
            return {"error": str(error), "updated": False}
        return {"error": None, "updated": updated}

    def replay(self, step: dict[str, Any]) -> dict[str, Any]:
        """Do a step; gives what the vectors tell of it beside the state."""
        node = step["node"]
        ring = self.rings[node]
        match step["op"]:
            case "claim_for_peers":
                ring.claim_for_peers([PeerName.parse(peer) for peer in step["peers"]])
            case "merge":
                return self.merge(step, self.rings[step["from"]].state())
            case "merge_ring":
                return self.merge(step, ring_of(step["ring"]))
            case "grant":
                ring.grant(parse_ip(step["start"]), parse_ip(step["end"]), PeerName.parse(step["to"]))
            case "donate":
                chunk = self.space(node).donate(range_of(step["asked"]))
                if chunk is None:
                    return {"ok": False}
                ring.grant(chunk.start, chunk.end, PeerName.parse(step["to"]))
                return {"ok": True, "chunk": ranges_text([chunk])[0]}
            case "allocated":
                self.used[node] |= {parse_ip(address) for address in step["addrs"]}
            case "freed":
                self.used[node] -= {parse_ip(address) for address in step["addrs"]}
            case "report_free":
                return {"updated": ring.report_free({parse_ip(k): v for k, v in step["free"].items()})}
            case "transfer":
                ranges = ring.transfer(PeerName.parse(step["from"]), PeerName.parse(step["to"]))
                return {"new_ranges": ranges_text(ranges)}
            case "forget":
                self.rings[node], self.used[node] = self.fresh(node), set()
            case "query":
                return query(ring, step)
            case op:
                raise AssertionError(f"unknown step {op}")
        return {}


def query(ring: Ring, step: dict[str, Any]) -> dict[str, Any]:
    wanted = range_of([step["ask_start"], step["ask_end"]])
    infos = [[*ranges_text([info.range])[0], str(info.peer), info.version] for info in ring.all_ranges()]
    return {
        "owner": str(ring.owner(parse_ip(step["addr"]))),
        "candidates_sorted": sorted(map(str, ring.candidates(wanted, random.Random(1)))),
        "owned_ranges": ranges_text(ring.owned()),
        "all_range_info": infos,
        "string": str(ring),
    }


@pytest.mark.parametrize("case", golden.cases("ipam/ring_scenarios.json"), ids=lambda case: str(case["seed"]))
def test_history(case: dict[str, Any]) -> None:
    rings = Rings(case)
    for step in case["steps"]:
        rings.updates.clear()
        told = rings.replay(step)
        ring = rings.rings[step["node"]]
        assert entries_text(ring.entries) == step["entries"], step
        assert [str(seed) for seed in ring.seeds] == step["seeds"], step
        assert rings.updates == step.get("on_update", []), step
        for key, value in told.items():
            assert value == ([] if isinstance(value, list) and step[key] is None else step[key]), (key, step)
        for address in step.get("allocations_lost", ()):
            rings.used[step["node"]].discard(parse_ip(address))


@pytest.mark.parametrize("case", golden.cases("ipam/ring_merge.json"), ids=golden.case_id)
def test_merge(case: dict[str, Any]) -> None:
    ring = ring_with(ring_of(case["mine"]))
    space = Space(free=ring.owned())
    for address in case["allocated"]:
        space.claim(parse_ip(address))
    if case["error"]:
        with pytest.raises(RingError) as caught:
            ring.merge(ring_of(case["received"]), space.is_used)
        assert str(caught.value) == case["error"]
    else:
        assert ring.merge(ring_of(case["received"]), space.is_used) == case["updated"]
    assert ring_text(ring.state()) == case["after"]


def test_first_division() -> None:
    for case in golden.cases("ipam/ring_claim_for_peers.json"):
        ring = Ring(Cidr.parse(case["universe"]).range, PeerName.parse(case["peers"][0]))
        ring.claim_for_peers([PeerName.parse(peer) for peer in case["peers"]])
        assert entries_text(ring.entries) == case["entries"]
        assert [str(seed) for seed in ring.seeds] == case["seeds"]


def ring_with(state: RingState) -> Ring:
    ring = Ring(state.limits, state.peer)
    ring.restore(state)
    return ring


def ring_with_entries(*entries: tuple[int, PeerName, int, int], us: PeerName = ONE) -> Ring:
    return ring_with(RingState(*LIMITS, us, tuple(Entry(*entry) for entry in entries), ()))


def test_version_stays_at_the_limit_of_the_wire() -> None:
    ring = ring_with_entries((0, ONE, MAX_VERSION, 256))
    assert ring.report_free({0: 255})
    assert ring.entries[0].version == MAX_VERSION
    ring.transfer(ONE, TWO)
    assert ring.entries[0].version == MAX_VERSION


def test_what_is_not_ours_cannot_be_granted() -> None:
    ring = ring_with_entries((0, ONE, 0, 128), (128, TWO, 0, 128))
    with pytest.raises(ValueError, match="our own"):
        ring.grant(100, 140, THREE)
    with pytest.raises(ValueError, match="inside the ring"):
        ring.grant(100, 257, THREE)
    assert entries_text(ring.entries) == entries_text([Entry(0, ONE, 0, 128), Entry(128, TWO, 0, 128)])


def test_a_stored_ring_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(RingError, match="Token appears twice"):
        ring_with_entries((0, ONE, 0, 1), (0, TWO, 0, 1))


def test_candidates_prefer_free_space() -> None:
    ring = ring_with_entries((0, ONE, 0, 0), (10, TWO, 0, 6), (16, THREE, 0, 240))
    firsts = [ring.candidates(LIMITS, random.Random(seed))[0] for seed in range(200)]
    assert firsts.count(THREE) > 150
    assert TWO in firsts


def test_heir_is_the_first_other_owner() -> None:
    ring = ring_with_entries((0, ONE, 0, 0), (10, TWO, 0, 6), (16, THREE, 0, 240))
    assert ring.heir(lambda peer: True) == TWO
    assert ring.heir(lambda peer: peer == THREE) == THREE
    assert ring.heir(lambda peer: False) is None
    assert ring.peers() == {ONE, TWO, THREE}


def test_ranges_of_a_vectors_step_may_be_null() -> None:
    assert ranges_of(None) == []
