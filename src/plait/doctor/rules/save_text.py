"""Reads what iptables-save prints (iptables-save(8)), of either backend."""

import re
from collections.abc import Iterator
from ipaddress import IPv4Network
from itertools import pairwise

from plait.doctor.rules.model import UNKNOWN, Backend, Chain, Key, Match, Rule, Value, Verdict

_HOOKS = {
    "PREROUTING": "prerouting",
    "INPUT": "input",
    "FORWARD": "forward",
    "OUTPUT": "output",
    "POSTROUTING": "postrouting",
}
_VERDICTS = {
    "ACCEPT": Verdict.ACCEPT,
    "DROP": Verdict.DROP,
    "REJECT": Verdict.DROP,
    "RETURN": Verdict.RETURN,
    "QUEUE": Verdict.UNSURE,
    "NFQUEUE": Verdict.UNSURE,
}
# Conditions that are understood, under their names in the output of iptables-save.
_KEYS: dict[str, Key] = {
    "-p": "protocol",
    "-i": "iif",
    "-o": "oif",
    "-s": "saddr",
    "-d": "daddr",
    "--dport": "dport",
    "--dports": "dport",
    "--ctstate": "state",
    "--state": "state",
    "--dst-type": "destination",
}
# iptables-save quotes what has spaces in it. shlex reads the same, and takes a second for 20,000 rules.
_WORDS = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_SYN = ("FIN,SYN,RST,ACK", "SYN")  # what iptables-save makes of --syn
# Modules whose options are conditions of their own; any other is one that is not understood.
_MODULES = frozenset(("tcp", "udp", "multiport", "conntrack", "state", "comment", "addrtype"))

# Targets that change or note something and let the packet go on, or are of NAT. Any other is a chain of the user, and
# one that does not exist is what `walk` takes for a doubt.
_HARMLESS = frozenset(
    (
        "AUDIT",
        "CHECKSUM",
        "CLASSIFY",
        "CONNMARK",
        "CONNSECMARK",
        "CT",
        "DNAT",
        "DSCP",
        "ECN",
        "HL",
        "HMARK",
        "IDLETIMER",
        "LED",
        "LOG",
        "MARK",
        "MASQUERADE",
        "NETMAP",
        "NFLOG",
        "NOTRACK",
        "RATEEST",
        "REDIRECT",
        "SECMARK",
        "SET",
        "SNAT",
        "TCPMSS",
        "TCPOPTSTRIP",
        "TEE",
        "TOS",
        "TRACE",
        "TTL",
        "ULOG",
    )
)


def parse(text: str, backend: Backend = "legacy") -> list[Chain]:
    """Give all chains. What is damaged or strange becomes a condition that nobody knows, never an error."""
    found: list[Chain] = []
    table, policies, rules = "", dict[str, str](), dict[str, list[Rule]]()
    for line in (*text.splitlines(), "COMMIT"):
        if line.startswith("*"):
            table, policies, rules = line[1:].strip(), {}, {}
        elif line.startswith(":"):
            name, policy = ([*line[1:].split(), "", ""])[:2]
            policies[name] = policy
        elif line.startswith(("-A", "[")):
            chain, rule = _rule(line)
            rules.setdefault(chain, []).append(rule)
        elif line.startswith("COMMIT") and table:
            found += [_chain(backend, table, name, policies[name], rules.get(name, [])) for name in policies]
            table = ""
    return found


def _chain(backend: Backend, table: str, name: str, policy: str, rules: list[Rule]) -> Chain:
    hook = _HOOKS.get(name, "") if policy != "-" else ""
    return Chain(
        backend=backend,
        family="ip",
        table=table,
        name=name,
        rules=tuple(rules),
        hook=hook,
        kind="nat" if table == "nat" else "filter",
        policy=_VERDICTS.get(policy, Verdict.ACCEPT),
    )


def _rule(line: str) -> tuple[str, Rule]:
    """Read `-A CHAIN CONDITION... -j TARGET OPTION...`, which may have counters in front."""
    text = line[line.find("-A") :].strip()
    words = [quoted or plain for quoted, plain in _WORDS.findall(text)]
    chain = words[1] if len(words) > 1 else ""
    conditions, target = _halves(words[2:])
    matches, comment = _matches(conditions)
    name = target[1] if len(target) > 1 else ""
    verdict = _VERDICTS.get(name) or _other(target)
    return chain, Rule(
        matches=tuple(matches),
        verdict=verdict,
        target=name,
        text=text,
        comment=comment,
        is_random="--random-fully" in target,
        to_port=_port(target),
    )


def _halves(words: list[str]) -> tuple[list[str], list[str]]:
    for index, word in enumerate(words):
        if word in ("-j", "-g", "--jump", "--goto"):
            return words[:index], words[index:]
    return words, []


def _other(target: list[str]) -> Verdict:
    if len(target) < 2 or target[1] in _HARMLESS:
        return Verdict.NONE
    return Verdict.GOTO if target[0] in ("-g", "--goto") else Verdict.JUMP


def _port(target: list[str]) -> int | None:
    for option, value in pairwise(target):
        port = value.rpartition(":")[2]
        if option in ("--to-destination", "--to-ports") and port.isdecimal() and port.isascii():
            return int(port)
    return None


def _matches(words: list[str]) -> tuple[list[Match], str]:
    found, comment, is_negated = list[Match](), "", False
    rest = iter(words)
    for word in rest:
        if word == "!":
            is_negated = True
            continue
        if word == "-m":
            found += [] if next(rest, "") in _MODULES else [UNKNOWN]
        elif word == "--comment":
            comment = next(rest, "")
        elif word == "-f":
            found.append(Match("fragment", is_negated=is_negated))
        elif word == "--tcp-flags" and (next(rest, ""), next(rest, "")) == _SYN and not is_negated:
            pass  # as the first packet of a connection has them
        elif word in _KEYS:
            found.append(_match(_KEYS[word], next(rest, ""), is_negated))
        elif word.startswith("-"):
            found.append(UNKNOWN)
        is_negated = False
    return found, comment


def _match(key: Key, text: str, is_negated: bool) -> Match:
    if key == "protocol" and text in ("all", "0"):
        return Match("family", ("ipv4",), is_negated)
    try:
        return Match(key, tuple(_values(key, text)), is_negated)
    except ValueError:
        return UNKNOWN


def _values(key: Key, text: str) -> Iterator[Value]:
    """Read what is after a condition's name. Raise ValueError."""
    for word in text.split(","):
        if key in ("saddr", "daddr"):
            yield IPv4Network(word, strict=False)
        elif key == "dport":
            first, _, last = word.partition(":")
            yield int(first or 0), int(last or (first if ":" not in word else 65535))
        elif key in ("state", "destination", "protocol"):
            yield word.lower()
        else:
            yield word
