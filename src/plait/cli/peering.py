"""`connect` and `forget`: which peers this node calls."""

from pathlib import Path

import click

from plait.api.client import Client
from plait.cli.options import run_dir_option
from plait.cli.verb import Verb


@click.command(cls=Verb, short_help="Call these peers as well (or instead).")
@click.option("--replace", is_flag=True, help="Forget all other targets.")
@click.argument("peers", nargs=-1, required=True)
@run_dir_option
def connect(replace: bool, peers: tuple[str, ...], run_dir: Path) -> None:
    """Call these peers (HOST or HOST:PORT), now and whenever the connection is lost."""
    fields = [("peer", peer) for peer in peers] + ([("replace", "true")] if replace else [])
    Client(run_dir).form("/connect", fields)


@click.command(cls=Verb, short_help="Call these peers no longer.")
@click.argument("peers", nargs=-1, required=True)
@run_dir_option
def forget(peers: tuple[str, ...], run_dir: Path) -> None:
    """Call these peers no longer; connections stay until they break."""
    Client(run_dir).form("/forget", [("peer", peer) for peer in peers])


VERBS = (connect, forget)
