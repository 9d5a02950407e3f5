"""Rules of the legacy iptables interface, which nftables does not know, and what nft does not show of iptables-nft's.

Read only, `accepts` places single rules.
"""

import shutil
import subprocess
from pathlib import Path

_TABLES = {4: Path("/proc/net/ip_tables_names"), 6: Path("/proc/net/ip6_tables_names")}
_SAVE = {4: "iptables-legacy-save", 6: "ip6tables-legacy-save"}
_PATIENCE = 2.0


def legacy_rules(version: int) -> str | None:
    """Give what iptables-legacy-save prints for IPv4 or IPv6, in the network namespace of the calling thread.

    None if there are no such tables (asking would load the module), or no such program.
    """
    try:
        if not _TABLES[version].read_text().strip():
            return None
    except OSError:
        return None
    program = shutil.which(_SAVE[version]) or shutil.which(_SAVE[version].replace("-legacy", ""))
    return _printed(program)


def nft_rules() -> str | None:
    """Give what iptables-nft-save prints for IPv4; None without that program. Ask only if nft has such tables."""
    return _printed(shutil.which("iptables-nft-save"))


def _printed(program: str | None) -> str | None:
    if program is None:
        return None
    try:
        ended = subprocess.run([program], capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout if ended.returncode == 0 else None
