"""`prime`, `rmpeer`: the range of addresses that the peers share."""

import urllib.parse
from pathlib import Path

import click

from plait.api.client import Client
from plait.cli.options import run_dir_option
from plait.cli.verb import Verb
from plait.errors import PlaitError


@click.command(cls=Verb, short_help="Wait until the peers have agreed on who gives out which addresses.")
@run_dir_option
def prime(run_dir: Path) -> None:
    """Wait until the peers have agreed on who gives out which addresses."""
    Client(run_dir, None).act("GET", "/ring")


@click.command(cls=Verb, short_help="Take over the addresses of peers that are gone for good.")
@click.option("--force", is_flag=True, help="Also of a peer in the network, which then loses what is not in use there.")
@click.argument("peers", nargs=-1, required=True)
@run_dir_option
def rmpeer(peers: tuple[str, ...], force: bool, run_dir: Path) -> None:
    """Take over the addresses of PEERS (names or nicknames) that are gone for good, so that they can be given out."""
    client, failures = Client(run_dir), 0
    for peer in peers:
        path = f"/peer/{urllib.parse.quote(peer, safe='')}{'?force=true' if force else ''}"
        try:
            click.echo(client.text(path, "DELETE"), nl=False)
        except PlaitError as error:
            click.echo(str(error), err=True)
            failures += 1
    if failures:
        raise PlaitError("")


VERBS = (prime, rmpeer)
