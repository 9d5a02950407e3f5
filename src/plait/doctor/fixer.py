"""Applies cures to this machine, remembers what was there before, and brings that back."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from plait.doctor.check import Result
from plait.doctor.fix import Accepting, Fix, Offload, Setting
from plait.errors import KernelLacks, NotFound, StateError
from plait.host import accepts, ethtool
from plait.host.accepts import Accept
from plait.host.kernel_errors import kernel_error

FILE_NAME = "doctor-fixes.json"
_PLACED = "placed"


class Fixer:
    """Keeps what it changed in a file in the state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE_NAME

    def apply(self, name: str, results: Iterable[Result]) -> list[str]:
        """Apply the cures of a check's findings; gives a sentence for each change. Raise PlaitError.

        The old values are on disk before anything is changed, and the oldest one of each setting is kept.
        """
        fixes = [result.finding.fix for result in results if result.finding.fix is not None]
        if not fixes:
            raise NotFound(f"{name} finds nothing here that plait can put right by itself; see 'plait doctor {name}'")
        kept = self._read()
        done = []
        for fix in fixes:
            old = _read(fix)
            kept.setdefault(name, {}).setdefault(fix.key, old)
            self._write(kept)
            _write(fix, _value(fix))
            done.append(f"{fix.command} (was: {old})")
        return done

    def undo(self, name: str) -> list[str]:
        """Bring back what was there before `apply`; gives a sentence for each change. Raise PlaitError."""
        kept = self._read()
        if name not in kept:
            known = ", ".join(sorted(kept)) or "none"
            raise NotFound(f"no cure named {name} was applied here, so there is nothing to take back; applied: {known}")
        done = []
        for key, old in list(kept[name].items()):
            fix = _fix(key)
            _write(fix, old)
            done.append(f"{key}: {old} again")
            del kept[name][key]
            if not kept[name]:
                del kept[name]
            self._write(kept)
        return done

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            kept = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise StateError(f"{self._path} cannot be read ({error}): move it away") from error
        return {str(name): {str(key): str(old) for key, old in each.items()} for name, each in kept.items()}

    def _write(self, kept: dict[str, dict[str, str]]) -> None:
        new = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(kept, indent=1) + "\n")
            new.replace(self._path)
        except OSError as error:
            raise StateError(f"cannot write {self._path} ({error.strerror}): free the disk") from error


def _value(fix: Fix) -> str:
    match fix:
        case Offload():
            return "on" if fix.on else "off"
        case Accepting():
            return _PLACED
    return fix.value


def _fix(key: str) -> Fix:
    kind, *words = key.split()
    if kind == "accept":
        backend: Literal["nft", "legacy"] = "nft" if words[0] == "nft" else "legacy"
        return Accepting(Accept(backend, words[1], words[2], words[3], " ".join(words[4:])))
    return Offload(words[0], words[1], on=True) if kind == "offload" else Setting(words[0], "")


def _read(fix: Fix) -> str:
    if isinstance(fix, Accepting):
        return _PLACED if accepts.is_placed(fix.rule) else "absent"
    if isinstance(fix, Setting):
        try:
            return Path(fix.path).read_text().strip()
        except OSError as error:
            raise kernel_error(error.errno or 0, f"read {fix.path}") from error
    features = ethtool.features(fix.device)
    if fix.feature not in features:
        raise KernelLacks(f"{fix.device} has no offload {fix.feature}: nothing to change")
    return "on" if features[fix.feature] else "off"


def _write(fix: Fix, value: str) -> None:
    if isinstance(fix, Accepting):
        (accepts.place if value == _PLACED else accepts.remove)(fix.rule)
        return
    if isinstance(fix, Offload):
        ethtool.set_features(fix.device, {fix.feature: value == "on"})
        return
    try:
        Path(fix.path).write_text(value)
    except OSError as error:
        raise kernel_error(error.errno or 0, f"write {value} to {fix.path}") from error
