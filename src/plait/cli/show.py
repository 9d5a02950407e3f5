"""`status`, `ps`, `report`, `version`: what there is to see."""

import json
import urllib.parse
from pathlib import Path
from typing import Any

import click

from plait import __version__
from plait.api.client import Client, NotRunning
from plait.cli.options import json_option, run_dir_option
from plait.cli.verb import Verb
from plait.errors import NodeUnreachable, PlaitError, UsageError

_SUBS = ("targets", "connections", "peers", "datapath", "dns", "ipam")
# The program's own version is worth more than a long wait for the node's, seconds.
_VERSION_PATIENCE = 3.0


@click.command(cls=Verb, short_help="Show the node, its connections and what is wrong.")
@click.argument("sub", required=False)
@json_option
@run_dir_option
def status(sub: str | None, as_json: bool, run_dir: Path) -> None:
    """Show the node; SUB is targets, connections, peers, datapath, dns or ipam."""
    if sub is not None and sub not in _SUBS:
        usage = f"Usage: plait status [--json] [{'|'.join(_SUBS)}]"
        raise UsageError(f"Invalid 'weave status' sub-command: {sub}\n{usage}")
    client = Client(run_dir)
    try:
        if as_json:
            click.echo(json.dumps(_part(client.report(), sub), indent=4))
        elif sub is None:
            click.echo(f"\n{client.text('/status')}")
        else:
            click.echo(client.text(f"/status/{sub}"), nl=False)
    except NodeUnreachable as error:
        error.exit_code = 1  # which scripts for Weave look for here
        raise


def _part(report: dict[str, Any], sub: str | None) -> Any:
    parts = {"targets": "Targets", "connections": "Connections", "peers": "Peers"}
    if sub == "connections":
        return {"Connections": report["Router"]["Connections"], "Details": report["Plait"]["Connections"]}
    if sub == "datapath":
        return report["Plait"]["Datapath"]
    if sub in ("dns", "ipam"):
        return report.get(sub.upper())
    return report if sub is None else report["Router"][parts[sub]]


@click.command(cls=Verb, short_help="List interfaces on the network.")
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
        click.echo(" ".join([_short(interface["ident"]), interface["mac"], *interface["cidrs"]]))
    if not found:
        click.echo()


def _short(ident: str) -> str:
    """Weave cut identifiers to 12 characters; it had none of the form `netns:NAME`, which would look all alike."""
    return ident if ident.startswith("netns:") else ident[:12]


@click.command(cls=Verb, short_help="Print everything the node knows.")
@click.option("-f", "--format", "template", help="A Go template, evaluated over the report.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON (the default).")
@run_dir_option
def report(template: str | None, as_json: bool, run_dir: Path) -> None:
    """Print everything the node knows."""
    if as_json and template is not None:
        raise click.UsageError("--json and --format are both given: leave one out", click.get_current_context())
    client = Client(run_dir)
    if template is None:
        click.echo(client.report_text())
    else:
        click.echo(client.text("/report?" + urllib.parse.urlencode({"format": template})), nl=False)


@click.command(cls=Verb, short_help="Print versions.")
@json_option
@run_dir_option
def version(as_json: bool, run_dir: Path) -> None:
    """Print the version of this program and of the node that runs."""
    running, obstacle = None, ""
    try:
        running = str(Client(run_dir, _VERSION_PATIENCE).report()["Version"])
    except NotRunning:
        obstacle = "not running"
    except PlaitError as error:
        obstacle = str(error)
    if as_json:
        click.echo(json.dumps({"plait": __version__, "node": running}))
        return
    click.echo(f"plait {__version__}")
    click.echo(f"node {running}" if running else f"node: {obstacle}")


VERBS = (status, ps, report, version)
