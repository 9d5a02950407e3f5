"""What connection tracking and NAT of this host do to packets, and two tools that place rules past each other."""

from collections.abc import Iterator
from ipaddress import IPv4Network, ip_network

from plait.doctor.check import Check
from plait.doctor.finding import Certainty, Finding, Severity
from plait.doctor.fix import Setting
from plait.doctor.machine import Kernel, Machine
from plait.doctor.rules.model import Chain, Packet, Rule, Verdict
from plait.host.firewall import OWN_COMMENT, OWN_PREFIX

_CONNTRACK = "/proc/sys/net/netfilter/nf_conntrack_"
# Where Linux ea64d8d6c675 is in the stable series before 5.7, by series.
_CHECKSUM_FIXED = {(5, 6): 13, (5, 4): 41, (4, 19): 123, (4, 14): 181}
_FULL, _NEARLY = 0.95, 0.8
_UDP_TIMEOUT_LEAST, _UDP_TIMEOUT_USUAL = 10, 30
"""Seconds: between two heartbeats of Weave, and what Linux begins with."""


def column(machine: Machine, path: str, name: str) -> int:
    """Give the sum of a column in a file under /proc/net/stat: a line of names, then one of hex numbers for each CPU.

    Zero if there is no such file or column.
    """
    lines = (machine.text(path) or "").splitlines()
    names = lines[0].split() if lines else []
    if name not in names:
        return 0
    cells = [row[names.index(name)] for line in lines[1:] if len(row := line.split()) == len(names)]
    try:
        return sum(int(cell, 16) for cell in cells)
    except ValueError:
        return 0


def counter(machine: Machine, path: str, group: str, name: str) -> int:
    """Give a counter of /proc/net/snmp or netstat: `Udp: NAME...`, below it `Udp: NUMBER...`. Zero if absent."""
    rows = [line.split() for line in (machine.text(path) or "").splitlines() if line.startswith(f"{group}:")]
    if len(rows) != 2 or name not in rows[0]:
        return 0
    try:
        return int(dict(zip(*rows, strict=False)).get(name, 0))
    except ValueError:
        return 0


def _insert_failed(machine: Machine) -> int:
    return column(machine, "/proc/net/stat/nf_conntrack", "insert_failed")


def _checksum(machine: Machine) -> Iterator[Finding]:
    kernel = machine.kernel
    if not kernel.version[0] or _has_checksum_fix(kernel):
        return
    errors = counter(machine, "/proc/net/snmp", "Udp", "InCsumErrors")
    for link in machine.links:
        if link.vxlan is None:
            continue
        for chain, rule in (*machine.rules.nat("MASQUERADE"), *machine.rules.nat("SNAT")):
            if _may_touch(machine, rule, link.vxlan.port):
                what = (
                    f"Linux {kernel.release} writes wrong checksums into VXLAN that NAT touches, and the rule "
                    f"'{rule.text}' in {chain.where} may touch that of {link.name} (UDP {link.vxlan.port}); UDP "
                    f"datagrams received with a bad checksum: {errors}"
                )
                cure = f"ethtool -K {link.name} tx-checksum-ip-generic off (or boot a kernel from 5.7 on)"
                certainty = Certainty.POSSIBLE if kernel.rhel_build else Certainty.LIKELY
                yield Finding(link.name, what, cure, "until the device is made anew", certainty=certainty)
                break


def _has_checksum_fix(kernel: Kernel) -> bool:
    if not kernel.is_before(5, 7):
        return True
    return kernel.version[2] >= _CHECKSUM_FIXED.get(kernel.version[:2], 1 << 16)


def _may_touch(machine: Machine, rule: Rule, port: int) -> bool:
    """Whether a rule may fit VXLAN that this host sends. Its addresses are those of the device's network."""
    ways = [
        Packet("udp", port, oif=link.name, source=network)
        for link in machine.underlays
        for network in _networks(machine, link.name)
    ]
    return any(rule.fits(packet) is not False for packet in ways)


def _networks(machine: Machine, device: str) -> list[IPv4Network]:
    on_link = [route.destination for route in machine.routes if route.device == device and route.gateway is None]
    return [network for each in on_link if isinstance(network := ip_network(each, strict=False), IPv4Network)]


def _nat_race(machine: Machine) -> Iterator[Finding]:
    failed = _insert_failed(machine)
    rules = [(chain, rule) for chain, rule in machine.rules.nat("MASQUERADE") if not rule.is_random]
    if not failed or not rules:
        return
    chain, rule = rules[0]
    more = f" (and {len(rules) - 1} more)" if len(rules) > 1 else ""
    hidden = "; nft does not show whether it chooses ports at random" if rule.is_random is None else ""
    what = (
        f"{failed} new connections were lost since boot because two got the same source port (insert_failed of "
        f"conntrack); '{rule.text}' in {chain.where}{more} chooses ports one after the other{hidden}"
    )
    known = Certainty.LIKELY if rule.is_random is False else Certainty.POSSIBLE
    yield Finding("nf_conntrack", what, _random_fully(chain, rule), _RULE_LASTS, certainty=known)


_RULE_LASTS = "until what placed the rule places it again: change it there"


def _random_fully(chain: Chain, rule: Rule) -> str:
    if rule.text.startswith("-A "):
        program = "iptables-legacy" if chain.backend == "legacy" else "iptables-nft"
        return f"{program} -t {chain.table} -I {rule.text.removeprefix('-A ')} --random-fully"
    return f"write 'masquerade fully-random' in the place of '{rule.text}' in {chain.where}"


def _dns_race(machine: Machine) -> Iterator[Finding]:
    rules = [(chain, rule) for chain, rule in machine.rules.nat("DNAT") if _is_dns(rule)]
    failed = _insert_failed(machine)
    if not rules or not (machine.kernel.is_before(5, 0) or (failed and len(rules) > 1)):
        return
    chain, rule = rules[0]
    what = (
        f"names are asked through DNAT ({len(rules)} rules for UDP 53, such as '{rule.text}' in {chain.where}), Linux "
        f"{machine.kernel.release}; connections lost for the same reason since boot: {failed}"
    )
    is_old = machine.kernel.is_before(5, 0)
    certainty = Certainty.LIKELY if is_old and failed else Certainty.POSSIBLE
    yield Finding("nf_conntrack", what, severity=None if is_old else Severity.NOTE, certainty=certainty)


def _is_dns(rule: Rule) -> bool:
    """Whether it sends questions for names elsewhere: by the port that it asks for, or the one that it sends to."""
    question = Packet("udp", 53)
    if rule.fits(question) is False:
        return False
    asks = any(match.key == "dport" and match.fits(question) for match in rule.matches)
    is_udp = any(match.key == "protocol" for match in rule.matches)
    return asks or (is_udp and rule.to_port == 53)


def _conntrack_full(machine: Machine) -> Iterator[Finding]:
    count, most = machine.number(f"{_CONNTRACK}count"), machine.number(f"{_CONNTRACK}max")
    if count is None or not most or count < _NEARLY * most:
        return
    is_full = count >= _FULL * most
    stat = "/proc/net/stat/nf_conntrack"
    dropped = column(machine, stat, "drop") + column(machine, stat, "early_drop")
    state = "full" if is_full else "nearly full"
    what = f"the table of connections is {state}: {count} of {most} entries; dropped since boot: {dropped}"
    yield Finding(
        "nf_conntrack",
        what,
        fix=Setting(f"{_CONNTRACK}max", str(2 * most)),
        severity=Severity.BREAKS if is_full else Severity.RISK,
    )


def _udp_timeout(machine: Machine) -> Iterator[Finding]:
    seconds = machine.number(f"{_CONNTRACK}udp_timeout")
    if seconds is not None and seconds <= _UDP_TIMEOUT_LEAST:
        what = f"this host forgets a UDP flow after {seconds} s of silence (nf_conntrack_udp_timeout)"
        yield Finding("nf_conntrack", what, fix=Setting(f"{_CONNTRACK}udp_timeout", str(_UDP_TIMEOUT_USUAL)))


def _mixed(machine: Machine) -> Iterator[Finding]:
    legacy = [chain for chain in machine.rules.chains if chain.backend == "legacy" and _says_something(chain)]
    nft = [chain for chain in machine.rules.chains if chain.backend == "nft" and _says_something(chain)]
    if legacy and nft:
        tables = ", ".join(dict.fromkeys(f"{chain.family} {chain.table}" for chain in nft))
        names = ", ".join(dict.fromkeys(chain.table for chain in legacy))
        what = f"this host has rules of iptables-legacy (tables {names}) and of nftables (tables {tables}) side by side"
        yield Finding("netfilter", what)


def _says_something(chain: Chain) -> bool:
    if chain.table.startswith(OWN_PREFIX):
        return False
    foreign = [rule for rule in chain.rules if not rule.comment.startswith(OWN_COMMENT.rstrip(": "))]
    return bool(foreign) or (bool(chain.hook) and chain.policy is Verdict.DROP)


_FIREWALLD_CHAINS = ("INPUT_ZONES", "IN_public", "INPUT_direct")


def manager(machine: Machine) -> str:
    """Give which program owns the firewall, as its tables and chains tell: firewalld, ufw or none ("")."""
    for chain in machine.rules.chains:
        if chain.table == "firewalld" or (chain.backend == "legacy" and chain.name in _FIREWALLD_CHAINS):
            return "firewalld"
        if chain.name == "ufw-user-input":
            return "ufw"
    return ""


def _reload(machine: Machine) -> Iterator[Finding]:
    program = manager(machine)
    if program:
        what = (
            f"{program} keeps this host's firewall: when it loads its rules anew, those of others among them are gone"
        )
        yield Finding(program, what)


CHECKS = (
    Check(
        name="vxlan-checksum",
        rows=(1,),
        condition="NAT rules touch VXLAN on a kernel that then writes checksums where there was none",
        symptom="the first packet to a service takes 1, 3 or 63 seconds; 'UDP: bad checksum' in the receiver's log",
        consequence="VXLAN of this host is dropped by the receiver until NAT leaves the flow alone",
        cure="boot a kernel from 5.7 on (or 5.6.13, 5.4.41, 4.19.123, 4.14.181), or exclude VXLAN from NAT",
        reference="Linux ea64d8d6c675 (5.7)",
        examine=_checksum,
    ),
    Check(
        name="nat-race",
        rows=(6,),
        condition="two connections get the same source port from NAT",
        symptom="new connections through NAT take 1 or 3 seconds now and then",
        consequence="the first packet of a new connection is lost now and then",
        cure="have ports chosen at random (--random-fully of MASQUERADE)",
        reference="weaveworks/weave issue 3287; iptables-extensions(8), MASQUERADE",
        examine=_nat_race,
    ),
    Check(
        name="dns-race",
        rows=(7,),
        condition="questions for A and AAAA from one socket race through DNAT",
        symptom="looking up a name takes 5 seconds now and then",
        consequence="one of the two questions is lost, and asked again after 5 seconds",
        cure="boot a kernel from 5.0 on, or put 'options single-request-reopen' into the containers' resolv.conf, or "
        "let containers ask plait's name server, which needs no DNAT",
        reference="weaveworks/weave issue 3287; resolv.conf(5)",
        examine=_dns_race,
    ),
    Check(
        name="firewall-reload",
        rows=(18,),
        condition="firewalld or ufw loads its rules anew",
        symptom="exposed networks stop working after a change of the firewall, and work again by themselves",
        consequence="plait's accept rules in its chains are gone for up to a minute, until plait places them again",
        cure="nothing is to be done: plait looks each minute. Rules that --fix placed are not watched: give them to "
        "the firewall's own configuration",
        reference="firewall-cmd(1), --reload; ufw(8), reload",
        severity=Severity.NOTE,
        examine=_reload,
    ),
    Check(
        name="mixed-backends",
        rows=(19,),
        condition="iptables-legacy and nftables (iptables-nft) have rules at the same time",
        symptom="a rule is there and does not work",
        consequence="a drop in either is final: an accept in the one does not undo a drop in the other",
        cure="use one of them: update-alternatives --set iptables /usr/sbin/iptables-nft (or -legacy), restart what "
        "places rules (Docker), then flush the other's tables, e.g. iptables-legacy -F",
        reference="iptables-nft(8), xtables-legacy(8)",
        examine=_mixed,
    ),
    Check(
        name="conntrack-full",
        rows=(20,),
        condition="the table of connections is full or nearly so",
        symptom="'nf_conntrack: table full, dropping packet' in the log; packets are lost at random",
        consequence="new connections are dropped, also those of the overlay",
        cure="raise net.netfilter.nf_conntrack_max",
        reference="Linux Documentation/networking/nf_conntrack-sysctl.rst",
        examine=_conntrack_full,
    ),
    Check(
        name="udp-timeout",
        rows=(29,),
        condition="this host forgets UDP flows sooner than Weave's heartbeats come",
        symptom="connections flap when there is no traffic",
        consequence="the flow's entry goes between two heartbeats, and what the peer sends then is taken for a new one",
        cure="set net.netfilter.nf_conntrack_udp_timeout to 30",
        reference="Linux Documentation/networking/nf_conntrack-sysctl.rst",
        examine=_udp_timeout,
    ),
)
