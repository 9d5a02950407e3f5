"""`status`, `ps`, `report`, `version`: what there is to see."""

import json
import urllib.parse
from pathlib import Path
from typing import Any

import click

from plait import __version__
from plait.api.client import Client
from plait.cli.options import json_option, run_dir_option
from plait.errors import NodeUnreachable, PlaitError

_SUBS = ("targets", "connections", "peers")
_NOT_HERE = {"dns": "DNS", "ipam": "automatic addresses"}


@click.command()
@click.argument("sub", required=False)
@json_option
@run_dir_option
def status(sub: str | None, as_json: bool, run_dir: Path) -> None:
    """Show the node; SUB is targets, connections or peers."""
    if sub in _NOT_HERE:
        raise PlaitError(f"'status {sub}' needs {_NOT_HERE[sub]}, which this version of plait does not have")
    if sub is not None and sub not in _SUBS:
        raise PlaitError(f"Invalid 'weave status' sub-command: {sub}\nusage: plait status [{'|'.join(_SUBS)}]")
    client = Client(run_dir)
    try:
        if as_json:
            click.echo(json.dumps(_part(client.report(), sub), indent=4))
        elif sub is None:
            click.echo(f"\n{client.text('/status')}")
        else:
            click.echo(client.text(f"/status/{sub}"), nl=False)
    except NodeUnreachable as error:
        # Scripts for Weave look for its first sentence and for exit code 1 here.
        raise PlaitError(f"weave container is not present. Have you launched it?\n{error}") from error


def _part(report: dict[str, Any], sub: str | None) -> Any:
    parts = {"targets": "Targets", "connections": "Connections", "peers": "Peers"}
    if sub == "connections":
        return {"Connections": report["Router"]["Connections"], "Details": report["Plait"]["Connections"]}
    return report if sub is None else report["Router"][parts[sub]]


@click.command()
@click.argument("idents", nargs=-1)
@json_option
@run_dir_option
def ps(idents: tuple[str, ...], as_json: bool, run_dir: Path) -> None:
    """List interfaces on the network: of containers, of weave:expose (this host), of weave:allids."""
    wanted = list(idents) or ["weave:expose", "weave:allids"]
    found = Client(run_dir).call("interfaces", idents=wanted)["interfaces"]
    if as_json:
        click.echo(json.dumps(found))
        return
    for interface in found:
        click.echo(" ".join([interface["ident"][:12], interface["mac"], *interface["cidrs"]]))
    if not found:
        click.echo()


@click.command()
@click.option("-f", "--format", "template", help="A Go template, evaluated over the report.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON (the default).")
@run_dir_option
def report(template: str | None, as_json: bool, run_dir: Path) -> None:
    """Print everything the node knows."""
    client = Client(run_dir)
    if template is None:
        click.echo(json.dumps(client.report(), indent=4))
    else:
        click.echo(client.text("/report?" + urllib.parse.urlencode({"format": template})), nl=False)


@click.command()
@json_option
@run_dir_option
def version(as_json: bool, run_dir: Path) -> None:
    """Print the version of this program and of the node that runs."""
    try:
        running: str | None = str(Client(run_dir).report()["Version"])
    except PlaitError:
        running = None
    if as_json:
        click.echo(json.dumps({"plait": __version__, "node": running}))
        return
    click.echo(f"plait {__version__}")
    click.echo(f"node {running}" if running else "node: not running")


VERBS = (status, ps, report, version)
