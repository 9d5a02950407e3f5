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


@click.command(cls=Verb, short_help="Check addresses, take over those of peers that are gone, or those of Weave.")
@click.argument("action", type=click.Choice(["check", "reclaim", "import"]))
@click.argument("words", nargs=-1)
@click.option("--all", "is_everywhere", is_flag=True, help="check: on all nodes of the mesh.")
@click.option("--dry-run", "is_dry_run", is_flag=True, help="reclaim: only say what could be taken over, or why not.")
@click.option("--force", "is_forced", is_flag=True, help="reclaim: without asking others, as rmpeer does.")
@json_option
@run_dir_option
@state_dir_option
def ipam(
    action: str,
    words: tuple[str, ...],
    is_everywhere: bool,
    is_dry_run: bool,
    is_forced: bool,
    as_json: bool,
    run_dir: Path,
    state_dir: Path,
) -> None:
    """Check the addresses of this host (--all: of all); reclaim those of PEERS, or of all that are gone for long;

    or import FILE, Weave's weavedata.db, before the first launch.
    """
    context = click.get_current_context()
    if len(words) != {"check": 0, "import": 1}.get(action, len(words)):
        raise click.UsageError("'import' takes one file, 'check' nothing, and 'reclaim' peers", context)
    if (is_everywhere and action != "check") or ((is_dry_run or is_forced) and action != "reclaim"):
        raise click.UsageError("--all is for 'check', --dry-run and --force are for 'reclaim'", context)
    if action == "import":
        _print_import(_imported(Path(words[0]), state_dir), as_json)
    elif action == "reclaim":
        _reclaim(Client(run_dir), list(words), as_json, dry_run=is_dry_run, force=is_forced)
    else:
        _check(Client(run_dir), as_json, is_everywhere)


def _reclaim(client: Client, peers: list[str], as_json: bool, **how: bool) -> None:
    """Ends with 1 unless all that was named, or can be, is reclaimed."""
    results = client.call("ipam-reclaim", peers=peers, **how)["peers"]
    if as_json:
        click.echo(json.dumps({"peers": results}))
    for result in () if as_json else results:
        click.echo(f"{result['peer']}: {result['what']}")
    if not how["dry_run"] and any(result["reclaimed"] < result["addresses"] for result in results):
        raise PlaitError("")


def _check(client: Client, as_json: bool, is_everywhere: bool) -> None:
    """Ends with 1 if anything is wrong."""
    findings = client.call("ipam-check", everywhere=is_everywhere)["findings"]
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
