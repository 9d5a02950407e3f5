"""Replays the golden histories of whole allocators: inputs go in, all that came out of Weave's must come out."""

import random
from collections.abc import Callable
from typing import Any

from plait.errors import PlaitError
from plait.ipam import codec
from plait.ipam.actions import (
    Action,
    Broadcast,
    Cancelled,
    Persist,
    Refuse,
    Reply,
    RequestId,
    SendUnicast,
)
from plait.ipam.address import Cidr, Range, parse_ip, text
from plait.ipam.allocator import Allocator
from plait.ipam.paxos import Voter
from plait.ipam.records import Holding, Snapshot
from plait.ipam.requests import Claim
from plait.ipam.settings import Settings
from plait.ipam.space import Space
from plait.mesh.name import PeerName
from unit.ipam.notation import knowledge_text, message_text, range_of, ring_text, state_text


class Mesh:
    """Who is there, by the history's own words."""

    def __init__(self) -> None:
        self.names: set[PeerName] = set()
        self.unreachable: set[PeerName] = set()
        self.failed: list[PeerName] = []
        self.quorums = 1

    def is_known(self, peer: PeerName) -> bool:
        return peer in self.names and peer not in self.unreachable

    def why_unreachable(self, peer: PeerName) -> str | None:
        if peer not in self.unreachable:
            return None
        self.failed.append(peer)
        return f"unknown relay destination: {peer}"

    def quorum(self) -> int:
        return self.quorums


class Disk:
    """What is durable; two nodes may use one, by mistake."""

    def __init__(self) -> None:
        self.content: Snapshot | None = None


class Node:
    """An allocator, its disk, and what the history says of its state."""

    def __init__(self) -> None:
        self.allocator: Allocator | None = None
        self.disk = Disk()
        self.expected: dict[str, Any] = {}


class Replay:
    """All nodes of one history."""

    def __init__(self, steps: list[dict[str, Any]]) -> None:
        self.steps = steps
        self.mesh = Mesh()
        self.mesh.names = {PeerName.parse(step["node"]) for step in steps if "node" in step}
        self.nodes: dict[str, Node] = {}
        self.messages: dict[int, bytes] = {}
        self.allocates: set[RequestId] = set()

    def run(self) -> None:
        """Do all steps, up to one at which Weave's process died: ours must live."""
        for step in self.steps:
            if step["op"] in ("unreachable", "reachable"):
                change = self.mesh.unreachable.add if step["op"] == "unreachable" else self.mesh.unreachable.discard
                change(PeerName.parse(step["peer"]))
                continue
            if step["op"] == "client_disconnected":
                for node in self.nodes.values():
                    if node.allocator is not None:
                        node.allocator.cancel(step["request"])
                continue
            node = self.nodes.setdefault(step["node"], Node())
            self.mesh.failed.clear()
            actions = self.act(node, step)
            check_order(actions)
            self.persist(node, actions)
            if "panic" in step:
                return
            self.check(node, step, actions)

    def persist(self, node: Node, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Persist):
                node.disk.content = action.snapshot

    def act(self, node: Node, step: dict[str, Any]) -> list[Action]:
        """Give the step's input to the node."""
        if step["op"] == "start":
            return self.start(node, step)
        allocator, now = node.allocator, float(step["t"])
        assert allocator is not None
        restrict_choice(allocator, step)
        request = step.get("request", -1)
        match step["op"]:
            case "tick":
                return allocator.tick(now)
            case "prime":
                return allocator.prime(now, request)
            case "allocate":
                self.allocates.add(request)
                subnet = Cidr.parse(step["subnet"])
                return allocator.allocate(now, request, step["ident"], subnet, step["is_container"])
            case "claim":
                return allocator.claim(
                    now,
                    request,
                    step["ident"],
                    Cidr.parse(step["cidr"]),
                    step["is_container"],
                    step["no_error_on_unknown"],
                )
            case "free":
                return allocator.free(now, -1, step["ident"], parse_ip(step["addr"]))
            case "delete":
                return allocator.delete(now, -1, step["ident"])
            case "lookup":
                found = allocator.lookup(step["ident"], Cidr.parse(step["subnet"]))
                assert [str(cidr) for cidr in found] == (step["result"] or []), step
                return []
            case "takeover":
                return allocator.takeover(now, -1, step["peer"], force=True)
            case "shutdown":
                return allocator.shutdown(now)
            case "container_died":
                return allocator.container_died(now, step["ident"])
            case "container_started":
                return allocator.container_started(now, step["ident"])
            case "container_destroyed":
                return allocator.container_destroyed(now, step["ident"])
            case "prune_owned":
                return allocator.prune(now, step["running"])
            case "peer_gone":
                return allocator.peer_gone(now, PeerName.parse(step["peer"]))
        return self.receive(allocator, step, now)

    def receive(self, allocator: Allocator, step: dict[str, Any], now: float) -> list[Action]:
        source = PeerName.parse(step["from"])
        payload = self.messages[step["msg"]] if "msg" in step else bytes.fromhex(step["hex"])
        match step["op"]:
            case "recv_gossip":
                return allocator.receive_gossip(now, payload)
            case "recv_broadcast" | "recv_broadcast_raw":
                return allocator.receive_broadcast(now, source, payload)
            case "recv_unicast" | "recv_unicast_raw":
                return allocator.receive_unicast(now, source, payload)
            case op:
                raise AssertionError(f"unknown step {op}")

    def start(self, node: Node, step: dict[str, Any]) -> list[Action]:
        self.mesh.quorums = step.get("quorum", 1)
        note = step.get("note", "")
        if note == "uses the other peer's file":
            node.disk = next(other.disk for other in self.nodes.values() if other is not node)
        if "no persisted data" in note:
            node.disk.content = None
        found = [
            # Weave records what it found at the start as no container, whatever it is.
            Claim(None, claim["ident"], Cidr.parse(claim["cidr"]), is_container=False)
            for claim in step.get("pre_claims", ())
        ]
        settings = Settings(
            Voter(PeerName.parse(step["node"]), step["uid"]),
            step["nickname"],
            Cidr.parse(step["universe"]),
            tuple(PeerName.parse(name) for name in step["seed"]),
            step["observer"],
            tuple(found),
        )
        node.allocator = Allocator(settings, QuorumOf(self.mesh, step.get("quorum", 1)), random.Random(1))
        return node.allocator.start(float(step["t"]), node.disk.content)

    def check(self, node: Node, step: dict[str, Any], actions: list[Action]) -> None:
        """Compare what came out, and the state afterwards."""
        assert self.replies(actions) == step.get("replies", []), step
        check_result(step, actions)
        refusals = [str(action.error) for action in actions if isinstance(action, Refuse)]
        if step["op"].startswith("recv_"):
            assert len(refusals) == (step["error"] is not None), (refusals, step["error"])
            if not step["op"].endswith("_raw"):
                assert refusals == ([step["error"]] if step["error"] else []), step
        else:
            assert refusals == []
        self.check_sent(step, actions)
        node.expected |= step.get("state", {})
        assert node.allocator is not None
        assert state_of(node.allocator) == in_order(node.expected), step

    def replies(self, actions: list[Action]) -> list[dict[str, Any]]:
        told = []
        for action in actions:
            if not isinstance(action, Reply) or action.request < 0:
                continue
            told.append(self.reply_text(action))
        return sorted(told, key=lambda reply: reply["request"])

    def reply_text(self, reply: Reply) -> dict[str, Any]:
        is_allocate = reply.request in self.allocates
        if isinstance(reply.result, PlaitError):
            failed = {
                "cancelled": isinstance(reply.result, Cancelled),
                "error": str(reply.result),
                "request": reply.request,
            }
            return failed if is_allocate else failed | {"ok": False}
        if is_allocate:
            assert isinstance(reply.result, int)
            return {"addr": text(reply.result), "request": reply.request}
        return {"ok": True, "request": reply.request}

    def check_sent(self, step: dict[str, Any], actions: list[Action]) -> None:
        sent = step.get("sent", [])
        assert list(map(str, self.mesh.failed)) == [m["unicast_failed_to"] for m in sent if "unicast_failed_to" in m]
        outgoing = [action for action in actions if isinstance(action, SendUnicast | Broadcast)]
        expected = [message for message in sent if "to" in message]
        assert len(outgoing) == len(expected), (outgoing, step)
        for action, message in zip(outgoing, expected, strict=True):
            self.messages[message["msg"]] = action.payload
            if isinstance(action, Broadcast):
                assert message["to"] == "*", step
                assert state_text(codec.decode_state(action.payload)) == sorted_values(message["decoded"]), step
            else:
                assert message["to"] == str(action.peer), step
                assert message_text(action.payload) == message["decoded"], step


class QuorumOf:
    """The mesh with the quorum that one node was started with."""

    def __init__(self, mesh: Mesh, quorum: int) -> None:
        self.is_known = mesh.is_known
        self.why_unreachable = mesh.why_unreachable
        self.quorum: Callable[[], int] = lambda: quorum


def check_order(actions: list[Action]) -> None:
    """What is sent and answered must be durable before."""
    kinds = [type(action) for action in actions]
    assert Persist not in kinds[1:], "first of all, and once"


def check_result(step: dict[str, Any], actions: list[Action]) -> None:
    results = [action.result for action in actions if isinstance(action, Reply) and action.request == -1]
    if step["op"] in ("free", "delete"):
        assert [result and str(result) for result in results] == [step["error"]], step
    elif step["op"] == "takeover":
        assert results == [step["transferred"]], step


def restrict_choice(allocator: Allocator, step: dict[str, Any]) -> None:
    """Among several donors Weave's choice was random: let ours ask those that it asked, if they are candidates."""
    ring = allocator.ring
    wishes: dict[Range, list[tuple[str, bool]]] = {}
    for message in step.get("sent", ()):
        if message["decoded"].get("kind") == "space_request":
            wanted = range_of([message["decoded"]["start"], message["decoded"]["end"]])
            is_failed = "unicast_failed_to" in message
            peer = message["unicast_failed_to"] if is_failed else message["to"]
            wishes.setdefault(wanted, []).append((peer, is_failed))

    def candidates(wanted: Range, rng: random.Random) -> list[PeerName]:
        found = type(ring).candidates(ring, wanted, rng)
        asked: list[PeerName] = []
        while wishes.get(wanted):
            peer, is_failed = wishes[wanted].pop(0)
            asked.append(PeerName.parse(peer))
            if not is_failed:
                break
        assert set(asked) <= set(found), "Weave asked whom we would not ask"
        return asked + [peer for peer in found if peer not in asked]

    ring.candidates = candidates  # type: ignore[method-assign]


def space_text(space: Space) -> str:
    """Write a space as Weave's log does, without its doubled and trailing blanks."""
    sets = {"owned": list(space.ours), "free": list(space.free)}
    words = [
        word
        for name, pieces in sets.items()
        if pieces
        for word in (f"{name}:", *(f"{text(piece.start)}+{piece.size}" for piece in pieces))
    ]
    return " ".join(words) or "No address ranges owned"


def holding_text(holding: Holding) -> dict[str, Any]:
    return {"cidrs": [str(cidr) for cidr in holding.cidrs], "is_container": holding.is_container}


def state_of(allocator: Allocator) -> dict[str, Any]:
    """Write an allocator's state."""
    knowledge = allocator.knowledge
    return {
        "awaiting_consensus": allocator.is_awaiting_consensus,
        "dead_containers": sorted(allocator.dead),
        "nicknames": {str(peer): nickname for peer, nickname in allocator.nicknames.copy().items()},
        "owned": {ident: holding_text(holding) for ident, holding in allocator.records},
        "paxos": knowledge_text(knowledge or {}) if allocator.ring.is_empty else None,
        "pending": {
            "allocates": list(map(str, allocator.waiting.allocates)),
            "claims": [f"{claim} tries={claim.tries}" for claim in allocator.waiting.claims],
            "primes": len(allocator.waiting.primes),
        },
        "ring": ring_text(allocator.ring.state()),
        "space": space_text(allocator.space),
    }


def sorted_values(decoded: dict[str, Any]) -> dict[str, Any]:
    """Sort the agreed names, whose order is arbitrary."""
    if not decoded.get("paxos"):
        return decoded
    paxos = {voter: claims | {"value": sorted(claims["value"])} for voter, claims in decoded["paxos"].items()}
    return decoded | {"paxos": paxos}


def in_order(state: dict[str, Any]) -> dict[str, Any]:
    """Sort what has no order in a state."""
    unordered = {"dead_containers": sorted(state["dead_containers"]), "space": " ".join(state["space"].split())}
    return sorted_values(state) | unordered
