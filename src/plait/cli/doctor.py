"""`doctor`: what is wrong with this machine, one that was captured, or the one of a peer, and the cures.

It looks by itself rather than through the node: it must work where no node can run.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from plait.api.client import Client
from plait.cli.options import json_option, run_dir_option, state_dir_option
from plait.cli.verb import Verb
from plait.errors import NodeUnreachable, PermissionNeeded, UsageError

if TYPE_CHECKING:
    from plait.doctor import facts
    from plait.doctor.check import Check
    from plait.doctor.probe import Probe
    from plait.doctor.show import Examined

# Of the worst that was found (docs/cli.md).
_EXIT_CODES = {"note": 0, "risk": 20, "breaks": 21}
# The node may be what is ill: its answers must not hold up the others, seconds.
_PATIENCE = 2.0


@click.command(cls=Verb, short_help="Find what is wrong with this machine, and cure it.")
@click.argument("names", nargs=-1, metavar="[CHECK ...]")
@click.option("--peer", help="Ask a peer of the mesh (name or nickname) what is wrong with its machine.")
@click.option("--machine", type=click.Path(path_type=Path), help="Look at a captured machine.")
@click.option("--capture", type=click.Path(path_type=Path), help="Write down what was read of this machine.")
@click.option("--fix", help="Apply the cures of this check, and remember what was there.")
@click.option("--undo", help="Bring back what was there before --fix of this check.")
@json_option
@state_dir_option
@run_dir_option
def doctor(
    names: tuple[str, ...],
    peer: str | None,
    machine: Path | None,
    capture: Path | None,
    fix: str | None,
    undo: str | None,
    as_json: bool,
    state_dir: Path,
    run_dir: Path,
) -> int:
    """Find what is wrong with this machine; of the named checks only, if any are named."""
    given = [flag for flag in (peer, machine, capture, fix, undo) if flag is not None]
    if len(given) > 1:
        raise UsageError("--peer, --machine, --capture, --fix and --undo exclude each other: give one of them")
    if peer is not None:
        return _of_peer(Client(run_dir), peer, names, as_json)
    if names and (fix is not None or undo is not None):
        raise UsageError("--fix and --undo name the check themselves: leave out the others")
    checks = _chosen(tuple(name for name in (fix, undo) if name is not None) or names)
    if undo is not None:
        return _undo(undo, state_dir)
    return _look(checks, machine, capture, fix, as_json, state_dir, run_dir)


def _look(
    checks: "list[Check]",
    machine: Path | None,
    capture: Path | None,
    fix: str | None,
    as_json: bool,
    state_dir: Path,
    run_dir: Path,
) -> int:
    from plait.doctor.captured import Captured, Recorder
    from plait.doctor.examine import examine
    from plait.doctor.show import examined

    probe: Probe = _this_machine(run_dir) if machine is None else Captured(machine)
    recorder = Recorder(probe)
    results = examine(recorder, checks)
    if capture is not None:
        recorder.write(capture)
        click.echo(f"wrote what was read to {capture}: look through it before you give it away", err=True)
    if fix is not None:
        return _fix(fix, results, state_dir)
    return _show(examined(results, checks), as_json)


def _of_peer(client: Client, peer: str, names: tuple[str, ...], as_json: bool) -> int:
    import msgspec

    from plait.doctor.show import Examined

    found = msgspec.convert(client.call("doctor", peer=peer), Examined)
    return _show(found.only(names) if names else found, as_json)


def _fix(name: str, results: "list[Any]", state_dir: Path) -> int:
    from plait.doctor.fixer import Fixer

    for result in results:
        if result.finding.fix is not None:
            click.echo(f"{result.finding.what}\n  -> {result.cure}", err=True)
    for done in Fixer(state_dir).apply(name, results):
        click.echo(done)
    return 0


def _undo(name: str, state_dir: Path) -> int:
    from plait.doctor.fixer import Fixer

    for done in Fixer(state_dir).undo(name):
        click.echo(done)
    return 0


def _show(found: "Examined", as_json: bool) -> int:
    import msgspec

    from plait.doctor.show import as_text

    click.echo(json.dumps(msgspec.to_builtins(found.findings), indent=4) if as_json else as_text(found))
    return max((_EXIT_CODES[finding.severity] for finding in found.findings), default=0)


def _chosen(names: tuple[str, ...]) -> "list[Check]":
    from plait.doctor.checks import CHECKS

    unknown = sorted(set(names) - {check.name for check in CHECKS})
    if unknown:
        known = ", ".join(sorted(check.name for check in CHECKS))
        raise UsageError(f"there is no check named {', '.join(unknown)}; there are: {known}")
    return [check for check in CHECKS if not names or check.name in names]


def _this_machine(run_dir: Path) -> "Probe":
    from plait.docker.facts import docker_facts
    from plait.doctor.live import Live
    from plait.doctor.node_facts import node_of

    def node() -> "facts.Node | None":
        try:
            return node_of(Client(run_dir, _PATIENCE).report())
        except (NodeUnreachable, PermissionNeeded):
            return None

    return Live(node, docker_facts)


VERBS = (doctor,)
