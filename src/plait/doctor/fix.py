"""Cures that can be applied and taken back: what would be changed, and the commands that would do the same."""

import shlex
from dataclasses import dataclass

from plait.host.accepts import Accept

_SYSCTLS = "/proc/sys/"
# ethtool's own words for offloads, which older versions of it want.
_WORDS = {"tx-udp-fragmentation": "ufo", "rx-lro": "lro", "rx-gro": "gro"}


@dataclass(frozen=True, slots=True)
class Offload:
    """Turn an offload of a device on or off; `feature` is the kernel's name of it."""

    device: str
    feature: str
    on: bool

    @property
    def key(self) -> str:
        """What is changed."""
        return f"offload {self.device} {self.feature}"

    @property
    def command(self) -> str:
        """The same as a command."""
        return f"ethtool -K {self.device} {_WORDS.get(self.feature, self.feature)} {'on' if self.on else 'off'}"

    @property
    def lasting(self) -> str:
        """What keeps it over a reboot."""
        return (
            "until the next boot; to keep it, put the command into a udev rule, e.g. "
            f'/etc/udev/rules.d/90-plait.rules: ACTION=="add", SUBSYSTEM=="net", NAME=="{self.device}", '
            f'RUN+="/sbin/{self.command}"'
        )


@dataclass(frozen=True, slots=True)
class Setting:
    """Write a value into a file under /proc/sys or /sys."""

    path: str
    value: str

    @property
    def key(self) -> str:
        """What is changed."""
        return f"setting {self.path}"

    @property
    def command(self) -> str:
        """The same as a command."""
        if self.path.startswith(_SYSCTLS):
            return f"sysctl -w {shlex.quote(f'{self._sysctl}={self.value}')}"
        return f"echo {self.value} > {self.path}"

    @property
    def lasting(self) -> str:
        """What keeps it over a reboot."""
        if self.path.startswith(_SYSCTLS):
            line = f"{self._sysctl} = {self.value}"
            return f"until the next boot; to keep it: echo '{line}' >> /etc/sysctl.d/90-plait.conf"
        return "as long as the interface is there; what made it so may do it again"

    @property
    def _sysctl(self) -> str:
        # An interface's name may have dots, so sysctl(8)'s other notation is used then.
        rest = self.path.removeprefix(_SYSCTLS)
        return rest if "." in rest else rest.replace("/", ".")


@dataclass(frozen=True, slots=True)
class Accepting:
    """Accept something at the top of a chain of the host's firewall. `program`: the name of iptables-legacy here."""

    rule: Accept
    program: str = "iptables-legacy"

    @property
    def key(self) -> str:
        """What is changed."""
        rule = self.rule
        return f"accept {rule.backend} {rule.family} {rule.table} {rule.chain} {rule.match}"

    @property
    def command(self) -> str:
        """The same as a command."""
        rule = self.rule
        if rule.backend == "legacy":
            return f"{self.program} -t {rule.table} -I {rule.chain} {rule.match} -j ACCEPT"
        return f"nft 'insert rule {rule.family} {rule.table} {rule.chain} {rule.match} counter accept'"

    @property
    def lasting(self) -> str:
        """What keeps it over a reboot."""
        if self.rule.backend == "legacy":
            keep = f"{self.program}-save > /etc/iptables/rules.v4 (Debian: package iptables-persistent; RHEL: "
            return (
                f"until the rules are loaded anew, so until the next boot; to keep it: {keep}/etc/sysconfig/iptables)"
            )
        return (
            "until the rules are loaded anew, so until the next boot; to keep it, put the rule where they are loaded "
            "from (/etc/nftables.conf, or what iptables-nft-save wrote)"
        )


Fix = Offload | Setting | Accepting
