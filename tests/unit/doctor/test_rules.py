"""Reading the rules of real firewalls, and following packets through them."""

import json
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.doctor.rules import nft_json, save_text
from plait.doctor.rules.model import Chain, Match, Packet, Rule, Ruleset, Verdict
from plait.doctor.rules.walk import judge

RULESETS = Path(__file__).parent / "rulesets"
TEXTS = sorted(path.name for path in RULESETS.glob("*.txt"))
ANSWERS = {"tcp 6783": ("tcp", 6783), "udp 6783": ("udp", 6783), "udp 6784": ("udp", 6784), "tcp 22": ("tcp", 22)}


def of(name: str) -> Ruleset:
    text = (RULESETS / name).read_text()
    if name.endswith(".json"):
        return Ruleset(nft_json.parse(json.loads(text)))
    return Ruleset(save_text.parse(text, "nft" if "iptables-nft" in name else "legacy"))


def arriving(protocol: str, port: int | None = None, device: str = "eth0", source: str | None = None) -> Packet:
    network = IPv4Network(source) if source else None
    return Packet(protocol, port, iif=device, source=network, is_local=True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("centos.iptables-legacy.txt", (True, True, True, True)),
        ("docker-legacy.iptables-legacy.txt", (True, True, True, True)),
        ("docker-nft.nft.json", (True, True, True, True)),
        ("firewalld.nft.json", (False, False, False, True)),
        ("mixed.iptables-nft.txt", (True, True, True, True)),
        ("mixed.nft.json", (None, None, None, True)),
        ("nft.nft.json", (None, None, True, True)),
        ("ufw-legacy.iptables-legacy.txt", (False, False, False, True)),
        ("ufw-nft.iptables-nft.txt", (False, False, False, True)),
        ("ufw-nft.nft.json", (None, None, None, None)),
    ],
)
def test_what_gets_in(name: str, expected: tuple[bool | None, ...]) -> None:
    judged = tuple(judge(of(name), "input", arriving(*packet)).passes for packet in ANSWERS.values())
    assert judged == expected


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("docker-legacy.iptables-legacy.txt", "chain FORWARD of iptables-legacy's table filter (policy drop)"),
        ("docker-nft.nft.json", "chain FORWARD of nftables' table ip filter (policy drop)"),
        (
            "firewalld.nft.json",
            "chain filter_FWD_public of nftables' table inet firewalld (rule with handle 101: reject)",
        ),
    ],
)
def test_what_drops_a_forwarded_frame_is_named(name: str, where: str) -> None:
    judgement = judge(of(name), "forward", Packet("tcp", iif="weave", oif="weave"))
    assert judgement.passes is False
    assert str(judgement.by) == where


def test_sources_sets_maps_and_fragments_of_nft() -> None:
    rules = of("nft.nft.json")
    assert judge(rules, "input", arriving("tcp", 6783, source="192.168.1.7/32")).passes
    assert judge(rules, "input", arriving("tcp", 6783, source="10.0.0.7/32")).passes
    assert judge(rules, "input", arriving("tcp", 6783, source="10.1.0.7/32")).passes
    assert judge(rules, "input", arriving("tcp", 6783, source="10.2.0.7/32")).passes is False
    assert judge(rules, "input", arriving("tcp", 85)).passes
    assert judge(rules, "input", arriving("tcp", 91)).passes is False
    assert judge(rules, "input", arriving("udp", 53, source="10.2.0.7/32")).passes
    assert judge(rules, "input", arriving("udp", 53, source="11.2.0.7/32")).passes is False
    assert judge(rules, "input", arriving("udp", 53, "docker0", "11.2.0.7/32")).passes
    assert judge(rules, "input", arriving("esp")).passes
    assert judge(rules, "input", Packet("tcp", 1, iif="eth0", state="established", is_local=True)).passes
    dropped = judge(rules, "input", Packet("udp", iif="eth0", is_fragment=True, is_local=True))
    assert dropped.passes is False
    assert dropped.by is not None
    assert dropped.by.rule is not None
    assert dropped.by.rule.text == "rule with handle 7: drop"


def test_rules_of_nat() -> None:
    rules = of("nft.nft.json")
    assert [rule.is_random for _, rule in rules.nat("MASQUERADE")] == [False, True]
    assert [rule.to_port for _, rule in rules.nat("DNAT")] == [53]
    assert len(rules.nat("SNAT")) == 1
    assert [rule.to_port for _, rule in of("kube.iptables-legacy.txt").nat("DNAT")] == [53, 53]
    assert [rule.is_random for _, rule in of("docker-nft.nft.json").nat("MASQUERADE")] == [None]


def test_a_negated_condition_and_one_that_is_not_understood() -> None:
    text = """*filter
:INPUT DROP [1:2]
[3:4] -A INPUT ! -i eth1 -p udp -m udp ! --dport 7000:8000 -j ACCEPT
-A INPUT -p tcp -m recent --rcheck --name x -j ACCEPT
-A INPUT -g nowhere
COMMIT
"""
    rules = Ruleset(save_text.parse(text))
    assert judge(rules, "input", arriving("udp", 6783)).passes
    assert judge(rules, "input", arriving("udp", 6783, "eth1")).passes is None
    assert judge(rules, "input", arriving("udp", 7500)).passes is None
    no_jump = Ruleset(save_text.parse(text.replace("-A INPUT -g nowhere\n", "")))
    assert judge(no_jump, "input", arriving("udp", 7500)).passes is False
    assert judge(no_jump, "input", arriving("tcp", 6783)).passes is None


def test_the_first_packet_of_a_connection_has_syn() -> None:
    text = "*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -m tcp --dport 6783 --tcp-flags {} -j ACCEPT\nCOMMIT\n"
    for flags, passes in (("FIN,SYN,RST,ACK SYN", True), ("ALL ACK", None)):
        assert judge(Ruleset(save_text.parse(text.format(flags))), "input", arriving("tcp", 6783)).passes is passes


def test_a_drop_in_any_base_chain_is_final() -> None:
    accept = Rule((Match("protocol", ("udp",)),), Verdict.ACCEPT)
    open_one = Chain("nft", "inet", "a", "input", (accept,), "input")
    closed = Chain("legacy", "ip", "filter", "INPUT", (), "input", policy=Verdict.DROP)
    other_family = Chain("nft", "ip6", "a", "input", (), "input", policy=Verdict.DROP)
    assert judge(Ruleset([open_one, other_family]), "input", arriving("udp")).passes
    judgement = judge(Ruleset([open_one, closed]), "input", arriving("udp"))
    assert judgement.passes is False
    assert judgement.base is closed


def test_a_loop_of_chains_ends() -> None:
    jump = Rule((), Verdict.JUMP, target="b")
    back = Rule((), Verdict.JUMP, target="a")
    rules = Ruleset(
        [Chain("nft", "ip", "t", "a", (jump,), "input", policy=Verdict.DROP), Chain("nft", "ip", "t", "b", (back,))]
    )
    assert judge(rules, "input", arriving("udp")).passes is False


def test_many_jumps_are_followed_once_each() -> None:
    """Each of 40 chains jumps twice to the next: a walk that forgets would take 2^40 steps."""
    chains = [
        Chain("nft", "ip", "t", str(n), (Rule((), Verdict.JUMP, target=str(n + 1)),) * 2, "input" if n == 0 else "")
        for n in range(40)
    ]
    assert judge(Ruleset([*chains, Chain("nft", "ip", "t", "40")]), "input", arriving("udp")).passes


SOME = r"""-A INPUT FORWARD -p udp tcp --dport 53 6783:6784 x -s 10.0.0.0/8 10.0.0.0/99 ! -i eth0 -m -j -g ACCEPT DROP
' \" COMMIT *filter :INPUT --to-destination :53 -f --ctstate NEW [0:0]"""
WORDS = st.sampled_from(SOME.split())


@given(st.lists(st.lists(WORDS | st.text(max_size=6), max_size=12).map(" ".join), max_size=12).map("\n".join))
def test_damaged_text_is_no_error(text: str) -> None:
    rules = Ruleset(save_text.parse(text))
    assert judge(rules, "input", arriving("udp", 6783)).passes in (True, False, None)


@pytest.mark.parametrize("name", TEXTS)
@given(data=st.data())
def test_cut_text_is_no_error(name: str, data: st.DataObject) -> None:
    text = (RULESETS / name).read_text()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    judge(Ruleset(save_text.parse(text[start:end])), "input", arriving("udp", 6783))


def leaves() -> st.SearchStrategy[Any]:
    words = "accept drop jump target match op == != left right payload protocol udp dport set range prefix addr vmap xt"
    return st.none() | st.booleans() | st.integers() | st.sampled_from(words.split()) | st.text(max_size=4)


JSON = st.recursive(
    leaves(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(leaves().map(str), inner, max_size=3)
)


@given(JSON, st.data())
def test_strange_json_is_no_error(strange: Any, data: st.DataObject) -> None:
    """Something strange in the place of any part of a real ruleset."""
    entries = json.loads((RULESETS / data.draw(st.sampled_from(["nft.nft.json", "ufw-nft.nft.json"]))).read_text())
    place: Any = entries
    while isinstance(place, list | dict) and place:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], list | dict) or not place[key] or data.draw(st.integers(0, 4)) == 0:
            place[key] = strange
            break
        place = place[key]
    assert isinstance(nft_json.has_extensions(entries), bool)
    judge(Ruleset(nft_json.parse(entries)), "input", arriving("udp", 6783))
