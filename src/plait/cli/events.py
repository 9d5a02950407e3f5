"""`events`: what happened to the node."""

import json
import re
import time
import urllib.parse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from plait.api.client import Client
from plait.cli.options import json_option, run_dir_option
from plait.cli.verb import Verb
from plait.errors import UsageError
from plait.printable import printable

# How long the node holds a request back when nothing happens, seconds; below the client's own patience.
_WAIT = 30
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.command(cls=Verb, short_help="Show what happened: connections, overlays, MTUs, problems.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens from now on, until Ctrl-C.")
@click.option("--since", help="Only the last 30s, 10m, 2h or 1d.")
@click.option("--peer", default="", help="Only what is about this peer (name or nickname).")
@json_option
@run_dir_option
def events(follow: bool, since: str | None, peer: str, as_json: bool, run_dir: Path) -> None:
    """Show what happened to the node, oldest first; it keeps the last 1000 events of its life."""
    client = Client(run_dir)
    query = {"since": time.time() - parse_ago(since) if since is not None else 0, "peer": peer}
    page = _get(client, query)
    if not as_json or follow:
        _print(page, as_json)
    else:
        click.echo(json.dumps(page["Events"]))
    while follow:
        page = _get(client, {**query, "after": page["Last"], "wait": _WAIT})
        _print(page, as_json)


def parse_ago(text: str) -> float:
    """Read a duration like 90, 30s, 10m, 2h or 1d; gives seconds. Raises UsageError."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    if match is None:
        raise UsageError(f"--since {text!r} is no duration like 30s, 10m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2] or "s"]


def _get(client: Client, query: dict[str, Any]) -> dict[str, Any]:
    page: dict[str, Any] = json.loads(client.text("/plait/events?" + urllib.parse.urlencode(query)))
    return page


def _print(page: dict[str, Any], as_json: bool) -> None:
    """Print each event on a line of its own."""
    if page["Missed"]:
        click.echo(f"{page['Missed']} events were missed: they came faster than they were read", err=True)
    for event in page["Events"]:
        click.echo(json.dumps(event) if as_json else _line(event))


def _line(event: dict[str, Any]) -> str:
    stamp = datetime.fromtimestamp(event["At"], UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    cure = f"; cure: {event['Cure']}" if event["Cure"] else ""
    text = " ".join(f"{event['What']}{cure}".split())
    return printable(f"{stamp}Z {event['Kind']:<18} {text}")


VERBS = (events,)
