"""`trace`: the way of a frame, hop by hop."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from plait.api.client import Client
from plait.cli.options import json_option, run_dir_option
from plait.cli.verb import Verb
from plait.errors import FrameLost
from plait.printable import printable


@click.command(cls=Verb, short_help="Show where a container's frames go, and whether they arrive.")
@click.argument("source")
@click.argument("destination")
@json_option
@run_dir_option
def trace(source: str, destination: str, as_json: bool, run_dir: Path) -> None:
    """Show the way of a frame from SOURCE (a container, or its address) to DESTINATION (an IP or MAC address)."""
    found = Client(run_dir).call("trace", source=source, destination=destination)
    if as_json:
        click.echo(json.dumps(found, indent=4))
    else:
        for line in lines(found):
            click.echo(printable(line))
    if not found["delivered"]:
        raise FrameLost("" if as_json else f"lost: {found['verdict']}")


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Give the text of a trace: hops with what is known of them, what else was dropped, the verdict of a good one."""
    mac = "MAC address not known" if found["mac"] is None else found["mac"]
    yield f"from {found['source']} to {found['destination']} ({mac})"
    for number, hop in enumerate(found["hops"], start=1):
        computed = " (computed from the topology)" if hop["computed"] else ""
        yield f"{number:>2}  {hop['place']}: {hop['text']}{computed}"
        if details := " ".join(_details(hop)):
            yield f"      {details}"
        if hop["sent"] is not None:
            yield f"      counted meanwhile: {hop['sent']} sent, {hop['received']} received"
        if hop["lost"] is not None:
            yield f"      LOST: {hop['lost']}"
    if all(hop["sent"] is None for hop in found["hops"]):
        for each in found["counted"]:
            yield f"counted meanwhile with {each['peer']}: {each['sent']} sent, {each['received']} received"
    for words, count in found["drops"].items():
        yield f"dropped here meanwhile: {count} {words}"
    if found["delivered"]:
        yield found["verdict"]


def _details(hop: dict[str, Any]) -> Iterator[str]:
    if hop["overlay"] is not None:
        yield hop["overlay"]
    if hop["device"] is not None:
        yield f"device {hop['device']}"
    if hop["source"] is not None and hop["destination"] is not None:
        yield f"{hop['source']} -> {hop['destination']}"
    if hop["vni"] is not None:
        yield f"vni {hop['vni']}"
    if hop["mtu"] is not None:
        yield f"mtu {hop['mtu']}"


VERBS = (trace,)
