"""`dns-add`, `dns-remove`, `dns-lookup`, `dns-args`: who has which name."""

import json
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import click

from plait.api.client import Client
from plait.cli.options import json_option, run_dir_option
from plait.cli.verb import Verb
from plait.errors import NotFound, PlaitError, UsageError

_IP = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}\Z")
# Weave's label for addresses of something that is no container of this host.
EXTERN = "weave:extern"
_OFF = "this node has no names: it was launched with --no-dns; launch it again without"


@click.command("dns-add", cls=Verb, short_help="Give a container, or any address, a name.")
@click.argument("words", nargs=-1, required=True, metavar="[ADDR ...] [CONTAINER]")
@click.option("-h", "name", help="The name; without a dot one in the node's domain. Default: the container's own.")
@run_dir_option
def dns_add(words: tuple[str, ...], name: str | None, run_dir: Path) -> None:
    """Give a container's addresses (all, if none is given) a name; without a container, any addresses."""
    client = Client(run_dir)
    if name is None:
        _add_own_name(client, words)
        return
    fqdn = in_domain(client, name)
    for container, address in _subjects(client, words):
        add_name(client, container, address, fqdn)


@click.command("dns-remove", cls=Verb, short_help="Take a name from a container, or any address.")
@click.argument("words", nargs=-1, required=True, metavar="[ADDR ...] [CONTAINER]")
@click.option("-h", "name", help="The name, as it was given. Default: all names.")
@run_dir_option
def dns_remove(words: tuple[str, ...], name: str | None, run_dir: Path) -> None:
    """Take names from a container's addresses (all, if none is given); without a container, from any addresses."""
    client = Client(run_dir)
    query = "" if name is None else "?" + urllib.parse.urlencode({"fqdn": in_domain(client, name)})
    for container, address in _subjects(client, words):
        send(client, "DELETE", f"/name/{quoted(container)}/{address}{query}")


@click.command("dns-lookup", cls=Verb, short_help="Look a name or an address up.")
@click.argument("name")
@json_option
@run_dir_option
def dns_lookup(name: str, as_json: bool, run_dir: Path) -> None:
    """Print the addresses of a name, or the name of an address; nothing if there is none."""
    found = Client(run_dir).call("dns-lookup", name=name)
    if as_json:
        click.echo(json.dumps(found))
        return
    for line in found["addresses"] + found["names"]:
        click.echo(line)


@click.command("dns-args", cls=Verb, short_help="Print options for 'docker run' so that a container asks this node.")
@run_dir_option
def dns_args(run_dir: Path) -> None:
    """Print options for `docker run`; nothing if names are off or not served."""
    client = Client(run_dir)
    try:
        address, domain = client.text("/dns-address"), client.text("/domain")
    except NotFound:
        return
    if address:
        click.echo(f"--dns={address} --dns-search={domain}")


VERBS = (dns_add, dns_remove, dns_lookup, dns_args)


def add_name(client: Client, container: str, address: str, fqdn: str) -> None:
    """Name an address of a container (an ID or a label). Raises PlaitError."""
    send(client, "PUT", f"/name/{quoted(container)}/{address}?{urllib.parse.urlencode({'fqdn': fqdn})}")


def _add_own_name(client: Client, words: tuple[str, ...]) -> None:
    """Have a container named as it names itself; nothing happens if its host name is not in the domain."""
    subjects = list(_subjects(client, words))
    container = subjects[0][0]
    if container.startswith("weave:"):
        raise click.UsageError("these addresses are no container's: name them with -h", click.get_current_context())
    client.call("dns-add", container=container, addresses=[address for _, address in subjects])


def send(client: Client, method: str, path: str) -> None:
    """Send a request about names; raises NotFound with a sentence if they are off."""
    try:
        client.act(method, path)
    except NotFound:
        raise NotFound(_OFF) from None


def in_domain(client: Client, name: str) -> str:
    """Give the whole name; raises UsageError for one that the node would pass over."""
    try:
        domain = client.text("/domain")
    except NotFound:
        raise NotFound(_OFF) from None
    bare, domain = name.removesuffix("."), domain.removesuffix(".")
    if "." not in bare and bare.lower() != domain.lower():
        return f"{bare}.{domain}."
    if not f".{bare.lower()}".endswith(f".{domain.lower()}"):
        raise UsageError(f"{name} is not in the domain of this mesh; write {bare.partition('.')[0]}.{domain}")
    return f"{bare}."


def _subjects(client: Client, words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Give container IDs (or labels) and addresses. Raises PlaitError."""
    addresses = [word for word in words if _IP.match(word)]
    rest = [word for word in words if not _IP.match(word)]
    if len(rest) > 1:
        raise click.UsageError(f"one container at most, found: {' '.join(rest)}", click.get_current_context())
    container = EXTERN
    if rest and not rest[0].startswith("weave:"):
        found = client.call("interfaces", idents=rest)["interfaces"]
        if not found:
            raise PlaitError(
                f"{rest[0]} has no interface on the network of this host; attach it first, "
                "or leave it out to name addresses of something else"
            )
        container = found[0]["ident"]
        addresses = addresses or [cidr.partition("/")[0] for each in found for cidr in each["cidrs"] if ":" not in cidr]
    elif rest:
        container = rest[0]
    if not addresses:
        raise PlaitError(f"there is no IPv4 address to name: write one in front of {container}")
    for address in addresses:
        yield container, address


def quoted(text: str) -> str:
    """Write a container for a path."""
    return urllib.parse.quote(text, safe=":", errors="surrogatepass")
