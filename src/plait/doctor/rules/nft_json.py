"""Reads what `nft -j list ruleset` lists (libnftables-json(5)).

Conditions that iptables-nft left as extensions (`xt`) have a name there and no contents: they are not to be known.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from typing import Any

from plait.doctor.rules.model import UNKNOWN, Chain, Key, Match, Rule, Value, Verdict

_Object = Mapping[str, Any]
_Sets = Mapping[tuple[str, str, str], Any]
_VERDICTS = {
    "accept": Verdict.ACCEPT,
    "drop": Verdict.DROP,
    "reject": Verdict.DROP,
    "return": Verdict.RETURN,
    "jump": Verdict.JUMP,
    "goto": Verdict.GOTO,
    "queue": Verdict.UNSURE,
}
_NAT = {"masquerade": "MASQUERADE", "snat": "SNAT", "dnat": "DNAT", "redirect": "REDIRECT"}
_XT_VERDICTS = {"REJECT": Verdict.DROP, "NFQUEUE": Verdict.UNSURE}
# Statements that neither ask for anything nor end the way of a packet.
_HARMLESS = frozenset(("counter", "log", "mangle", "notrack", "ct helper", "ct timeout", "flow"))
_META: dict[str, Key] = {
    "iifname": "iif",
    "iif": "iif",
    "oifname": "oif",
    "oif": "oif",
    "l4proto": "protocol",
    "nfproto": "family",
    "protocol": "family",
}
_FRAGMENT_OFFSET = 0x1FFF


def has_extensions(entries: Iterable[_Object]) -> bool:
    """Whether there are conditions or targets of iptables-nft that are not shown."""
    return any("xt" in statement for rule in _of(entries, "rule") for statement in _list(rule.get("expr")))


def parse(entries: Iterable[_Object]) -> list[Chain]:
    """Give all chains. What is strange becomes a condition that nobody knows, never an error."""
    entries = list(entries)
    sets = {_place(each, "name"): each.get("elem") for each in _of(entries, "set")}
    rules: dict[tuple[str, str, str], list[Rule]] = {}
    for entry in _of(entries, "rule"):
        rules.setdefault(_place(entry, "chain"), []).extend(_Reader(entry, sets).rules())
    return [
        Chain(
            backend="nft",
            family=str(entry.get("family")),
            table=str(entry.get("table")),
            name=str(entry.get("name")),
            rules=tuple(rules.get(_place(entry, "name"), ())),
            hook=str(entry.get("hook") or ""),
            kind=str(entry.get("type") or "filter"),
            policy=Verdict.DROP if entry.get("policy") == "drop" else Verdict.ACCEPT,
        )
        for entry in _of(entries, "chain")
    ]


def _of(entries: Iterable[_Object], kind: str) -> Iterator[_Object]:
    for entry in entries:
        if isinstance(entry, Mapping) and isinstance(found := entry.get(kind), Mapping):
            yield found


def _place(entry: _Object, name: str) -> tuple[str, str, str]:
    return str(entry.get("family")), str(entry.get("table")), str(entry.get(name))


def _list(value: Any) -> list[Any]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


class _Reader:
    """One rule; a verdict map makes several of it."""

    def __init__(self, entry: _Object, sets: _Sets) -> None:
        self._entry, self._sets = entry, sets
        self._matches: list[Match] = []

    def rules(self) -> Iterator[Rule]:
        comment = str(self._entry.get("comment") or "")
        handle = self._entry.get("handle")
        plain = Rule((), Verdict.NONE, text=f"rule with handle {handle}", comment=comment)
        for statement in _list(self._entry.get("expr")):
            for name, body in statement.items():
                if name == "match":
                    self._matches += self._match(body)
                elif name == "vmap":
                    yield from self._mapped(plain, body)
                elif name == "xt":
                    yield from self._extension(plain, body)
                elif name in _VERDICTS or name in _NAT:
                    yield self._ending(plain, name, body)
                elif name not in _HARMLESS:
                    self._matches.append(UNKNOWN)

    def _ending(self, plain: Rule, name: str, body: Any) -> Rule:
        body = body if isinstance(body, Mapping) else {}
        port = body.get("port")
        return replace(
            plain,
            matches=tuple(self._matches),
            verdict=_VERDICTS.get(name, Verdict.NONE),
            target=_NAT.get(name) or str(body.get("target") or ""),
            text=f"{plain.text}: {name}",
            is_random="fully-random" in str(body.get("flags")),
            to_port=port if isinstance(port, int) else None,
        )

    def _extension(self, plain: Rule, body: Any) -> Iterator[Rule]:
        name = str(body.get("name")) if isinstance(body, Mapping) else ""
        if isinstance(body, Mapping) and body.get("type") == "target":
            verdict = _XT_VERDICTS.get(name, Verdict.NONE)
            text = f"{plain.text}: {name}"
            yield replace(plain, matches=tuple(self._matches), verdict=verdict, target=name, text=text, is_random=None)
        elif name not in ("comment", "tcp", "udp"):
            self._matches.append(UNKNOWN)

    def _mapped(self, plain: Rule, body: Any) -> Iterator[Rule]:
        data = body.get("data") if isinstance(body, Mapping) else None
        pairs = self._elements(data)
        if pairs is None or not isinstance(body, Mapping):
            yield replace(plain, matches=tuple(self._matches), verdict=Verdict.UNSURE)
            return
        before = list(self._matches)
        for pair in pairs:
            if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], Mapping):
                for name, inner in pair[1].items():
                    self._matches = [*before, *self._match({"op": "==", "left": body.get("key"), "right": pair[0]})]
                    if name in _VERDICTS:
                        yield self._ending(plain, name, inner)
        self._matches = before

    def _match(self, body: Any) -> list[Match]:
        if not isinstance(body, Mapping) or body.get("op") not in ("==", "!=", "in"):
            return [UNKNOWN]
        is_negated = body["op"] == "!="
        left = _left(body.get("left"))
        if left is None:
            return [UNKNOWN]
        values = self._values(left, body.get("right"))
        if left.is_fragment_offset:  # `frag-off & 0x1fff != 0` is a fragment
            return [Match("fragment", is_negated=not is_negated)] if values == ((0, 0),) else [UNKNOWN]
        if values is None:
            return [*left.implied, UNKNOWN]
        return [*left.implied, Match(left.key, values, is_negated)]

    def _values(self, left: "_Left", right: Any) -> tuple[Value, ...] | None:
        elements = self._elements(right)
        try:
            return None if elements is None else tuple(_value(left.key, element) for element in elements)
        except (ValueError, TypeError, KeyError, IndexError):
            return None

    def _elements(self, right: Any) -> list[Any] | None:
        """Give what is in an anonymous set, a named one, a list, or the one value itself; None if it is not shown."""
        if isinstance(right, str) and right.startswith("@"):
            right = {"set": self._sets.get((*_place(self._entry, "table")[:2], right[1:]))}
        if isinstance(right, Mapping) and "set" in right:
            right = right["set"]
            if not isinstance(right, list):
                return None if right is None or isinstance(right, str) else [right]
        return right if isinstance(right, list) else [right]


@dataclass(frozen=True, slots=True)
class _Left:
    key: Key
    implied: tuple[Match, ...] = ()
    is_fragment_offset: bool = False


def _left(left: Any) -> _Left | None:
    """What is looked at, and what that implies: a port of UDP is one of UDP only. None if it is not understood."""
    match left:
        case {"payload": {"protocol": ("tcp" | "udp") as protocol, "field": "dport"}}:
            return _Left("dport", (Match("protocol", (protocol,)),))
        case {"payload": {"protocol": "th", "field": "dport"}}:
            return _Left("dport")
        case {"payload": {"protocol": "ip", "field": ("saddr" | "daddr" | "protocol") as field}}:
            return _Left(field)
        case {"payload": {"protocol": "ip6" | "icmpv6"}}:
            return _Left("", (Match("family", ("ipv6",)),))
        case {"payload": {"protocol": ("tcp" | "udp" | "icmp") as protocol}}:
            return _Left("", (Match("protocol", (protocol,)),))
        case {"meta": {"key": str(key)}} if key in _META:
            return _Left(_META[key])
        case {"ct": {"key": "state"}}:
            return _Left("state")
        case {"ct": {"key": "status"}}:
            return _Left("state")  # a packet of ours was neither translated nor expected: no word of it fits
        case {"&": [{"payload": {"protocol": "ip", "field": "frag-off"}}, mask]} if mask == _FRAGMENT_OFFSET:
            return _Left("fragment", is_fragment_offset=True)
        case {"fib": {"result": "type", "flags": flags}} if "daddr" in str(flags):
            return _Left("destination")
    return None


def _value(key: Key, element: Any) -> Value:
    """Read one value. Raise ValueError, TypeError, KeyError or IndexError for what is not of the key's kind."""
    if isinstance(element, Mapping) and "elem" in element:
        element = element["elem"]["val"]
    if key in ("saddr", "daddr"):
        return _network(element)
    if key in ("dport", "fragment"):
        if isinstance(element, Mapping):
            return int(element["range"][0]), int(element["range"][1])
        return int(element), int(element)
    if not isinstance(element, str | int):
        raise TypeError(element)
    text = str(element)
    if key == "family":
        return {"ip": "ipv4", "ip6": "ipv6"}.get(text, text)
    return text if key in ("iif", "oif") else text.lower()


def _network(element: Any) -> IPv4Network:
    if isinstance(element, Mapping):
        prefix = element["prefix"]
        return IPv4Network((str(prefix["addr"]), int(prefix["len"])), strict=False)
    return IPv4Network(str(element))
