from typing import Any

import pytest

import golden
from plait.ipam.paxos import MAX_ROUND, AcceptedValue, Claims, Election, Proposal, Voter
from plait.mesh.name import PeerName
from unit.ipam.notation import knowledge_of, knowledge_text, proposal_text, voter_of

ONE, TWO = Voter(PeerName(1), 10), Voter(PeerName(2), 20)


class Run:
    def __init__(self, case: dict[str, Any]) -> None:
        self.quorum = case["quorum"]
        self.elections: dict[str, Election] = {node: Election(voter_of(node), case["quorum"]) for node in case["nodes"]}

    def replay(self, step: dict[str, Any]) -> None:
        node = step["node"]
        match step["op"]:
            case "init":
                self.elections[node] = Election(voter_of(node), self.quorum)
            case "propose":
                self.election(node).propose()
            case "gossip":
                self.learn(step, knowledge_text(self.election(step["from"]).knows))
            case "stale_gossip":
                self.learn(step, step["received"])
            case op:
                raise AssertionError(f"unknown step {op}")

    def election(self, node: str) -> Election:
        return self.elections.setdefault(node, Election(voter_of(node), self.quorum))

    def learn(self, step: dict[str, Any], knowledge: dict[str, Any]) -> None:
        election = self.election(step["node"])
        assert election.update(knowledge_of(knowledge)) == step["update_changed"], step
        if step["update_changed"]:
            assert election.think() == step["think_changed"], step


def agreed(value: AcceptedValue | None) -> dict[str, Any] | None:
    if value is None:
        return None
    return {"origin": proposal_text(value.origin), "value_sorted": sorted(map(str, value.value))}


@pytest.mark.parametrize("case", golden.cases("ipam/paxos_scenarios.json"), ids=lambda case: str(case["seed"]))
def test_run(case: dict[str, Any]) -> None:
    run = Run(case)
    for step in case["steps"]:
        run.replay(step)
        election = run.election(step["node"])
        assert knowledge_text(election.knows) == knowledge_text(knowledge_of(step["knows"])), step
        assert agreed(election.consensus()) in step.get("consensus_any_of", [step["consensus"]]), step


def test_without_a_quorum_nothing_is_concluded() -> None:
    decided = Election(ONE, quorum=1)
    decided.propose()
    onlooker = Election(TWO)
    assert onlooker.update(decided.knows)
    assert onlooker.think()
    assert onlooker.knows[TWO].accepted == decided.knows[ONE].accepted
    assert onlooker.consensus() is None


def test_knowledge_about_a_former_self_counts_as_another_voter() -> None:
    election = Election(ONE, quorum=2)
    election.propose()
    election.update({Voter(ONE.name, 11): Claims(promise=Proposal(1, ONE))})
    assert election.think()
    value = election.consensus()
    assert value is None, "two promises, one acceptance"
    assert election.knows[ONE].accepted_value.value == (ONE.name, ONE.name)


def test_the_last_round_has_no_successor() -> None:
    election = Election(ONE, quorum=2)
    election.update({TWO: Claims(promise=Proposal(MAX_ROUND, TWO))})
    election.propose()
    assert election.knows[ONE].promise == Proposal(MAX_ROUND, ONE)
