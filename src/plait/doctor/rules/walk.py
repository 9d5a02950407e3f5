"""Follows a packet through a host's chains. Where a rule cannot be judged, both ways are followed."""

from dataclasses import dataclass

from plait.doctor.rules.model import Chain, Packet, Rule, Ruleset, Verdict

_FINAL = (Verdict.ACCEPT, Verdict.DROP, Verdict.RETURN)


@dataclass(frozen=True, slots=True)
class End:
    """Where a packet may end: the chain, and the rule there; without one it is the chain's policy or end."""

    chain: Chain
    rule: Rule | None = None

    def __str__(self) -> str:
        return f"{self.chain.where} ({self.rule.text if self.rule else 'policy drop'})"


Ends = dict[Verdict, End]


@dataclass(frozen=True, slots=True)
class Judgement:
    """`passes`: None if that cannot be known. `by`: what drops it, or may; `base`: the base chain that led there."""

    passes: bool | None
    by: End | None = None
    base: Chain | None = None


def judge(rules: Ruleset, hook: str, packet: Packet) -> Judgement:
    """Say what the filters at a hook (`input`, `forward`, ...) do with a packet: a drop in any of them is final."""
    doubt = Judgement(passes=True)
    for base in rules.base(hook):
        ends = Walk(rules, packet).through(base)
        drop = ends.get(Verdict.DROP)
        if drop is None:
            continue
        if Verdict.ACCEPT not in ends:
            return Judgement(passes=False, by=drop, base=base)
        if doubt.passes:
            doubt = Judgement(passes=None, by=drop, base=base)
    return doubt


class Walk:
    """One packet's way; each chain is judged once, so that many jumps cost no more than there are rules."""

    def __init__(self, rules: Ruleset, packet: Packet) -> None:
        self._rules, self._packet = rules, packet
        self._known: dict[int, Ends] = {}

    def through(self, base: Chain) -> Ends:
        """Give the ends that are possible in a base chain: ACCEPT, DROP or both."""
        ends = dict(self._ends(base))
        left = ends.pop(Verdict.RETURN, None)
        if left is not None:
            ends.setdefault(base.policy, End(base))
        return ends

    def _ends(self, chain: Chain) -> Ends:
        if id(chain) not in self._known:
            self._known[id(chain)] = {Verdict.RETURN: End(chain)}  # of a loop, which the kernel would not take
            self._known[id(chain)] = self._follow(chain)
        return self._known[id(chain)]

    def _follow(self, chain: Chain) -> Ends:
        ends: Ends = {}
        for rule in chain.rules:
            fits = rule.fits(self._packet)
            if fits is False or rule.verdict is Verdict.NONE:
                continue
            found = self._of(chain, rule)
            is_over = rule.verdict is Verdict.GOTO or Verdict.RETURN not in found or rule.verdict is Verdict.RETURN
            for verdict, end in found.items():
                if verdict is not Verdict.RETURN or is_over:
                    ends.setdefault(verdict, end)
            if fits and is_over:
                return ends
        ends.setdefault(Verdict.RETURN, End(chain))
        return ends

    def _of(self, chain: Chain, rule: Rule) -> Ends:
        here = End(chain, rule)
        if rule.verdict in _FINAL:
            return {rule.verdict: here}
        target = self._rules.target(chain, rule.target)
        if rule.verdict is Verdict.UNSURE or target is None:
            return {Verdict.ACCEPT: here, Verdict.DROP: here, Verdict.RETURN: here}
        return self._ends(target)
