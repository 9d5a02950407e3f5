"""`prime`, `rmpeer`, `ipam`: the range of addresses that the peers share."""

import json
import urllib.parse
from pathlib import Path
from typing import Any

import click

from plait.api.client import Client
from plait.cli.options import json_option, run_dir_option, state_dir_option
from plait.cli.verb import Verb
from plait.errors import PlaitError, StateError


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
        path = f"/peer/{urllib.parse.quote(peer, safe='', errors='surrogatepass')}{'?force=true' if force else ''}"
        try:
            click.echo(client.text(path, "DELETE"), nl=False)
        except PlaitError as error:
            click.echo(str(error), err=True)
            failures += 1
    if failures:
        raise PlaitError("")


@click.command(cls=Verb, short_help="Check the addresses of this host, or take over those of Weave.")
@click.argument("action", type=click.Choice(["check", "import"]))
@click.argument("file", required=False, type=click.Path(path_type=Path))
@json_option
@run_dir_option
@state_dir_option
def ipam(action: str, file: Path | None, as_json: bool, run_dir: Path, state_dir: Path) -> None:
    """Check the addresses of this host; or import FILE, Weave's weavedata.db, before the first launch."""
    if (action == "import") != (file is not None):
        raise click.UsageError("'import' takes a file, and 'check' takes none", click.get_current_context())
    if file is not None:
        _print_import(_imported(file, state_dir), as_json)
        return
    findings = Client(run_dir).call("ipam-check")["findings"]
    if as_json:
        click.echo(json.dumps({"findings": findings}))
    for finding in () if as_json else findings:
        click.echo(f"{finding['what']}; cure: {finding['cure']}")
    if findings:
        raise PlaitError("")


def _imported(file: Path, state_dir: Path) -> dict[str, Any]:
    """Take over what a Weave node kept. Raises PlaitError, and then nothing is changed."""
    from plait.ipam.weave_db import read_weave_db
    from plait.state import Store

    try:
        content = file.read_bytes()
    except OSError as error:
        raise StateError(
            f"{file} cannot be read ({error.strerror}); it is root's, and Weave must be stopped"
        ) from error
    found = read_weave_db(content, str(file))
    if found.snapshot is None:
        raise StateError(f"{file} has no addresses in it: that node never shared any; there is nothing to import")
    with Store(state_dir) as store:
        if store.peer_name not in (None, found.peer_name) or store.addresses is not None:
            raise StateError(
                f"the node of {state_dir} has been used already, as peer {store.peer_name}; 'plait reset' makes it "
                "a new one, which can take over what Weave kept"
            )
        store.set_addresses(found.snapshot)
        store.set_peer_name(found.peer_name)
        if not store.targets:
            store.set_targets(list(found.targets))
    holdings = found.snapshot.holdings
    return {
        "name": str(found.peer_name),
        "range": found.snapshot.ring.limits.as_cidr_text(),
        "holders": len(holdings),
        "addresses": sum(len(holding.cidrs) for holding in holdings.values()),
        "targets": list(found.targets),
    }


def _print_import(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(
        f"{found['addresses']} addresses of {found['holders']} holders are taken over, and the name {found['name']}; "
        f"launch with --ipalloc-range {found['range']}"
    )


VERBS = (prime, rmpeer, ipam)
