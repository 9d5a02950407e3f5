"""`attach`, `detach`, `expose`, `hide`: who has which address on the network."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from plait.api.client import Client
from plait.cli.names import add_name, in_domain
from plait.cli.options import json_option, run_dir_option
from plait.cli.verb import Verb
from plait.errors import NotFound, PlaitError, UsageError

# Weave's own loose pattern: the first word that does not match ends the list of addresses (spec cli, section 3).
_V4 = re.compile(r"(?:(?:ip|net):)?[0-9]{1,3}(?:\.[0-9]{1,3}){3}/[0-9]{1,2}\Z")
_V6 = re.compile(r"(?:ip:)?[0-9a-fA-F:]*:[0-9a-fA-F:.]*/[0-9]{1,3}\Z")
# A container may wait for an address as long as it takes: the client that goes away ends that.
_PATIENT = None
# In the node's sentence about who waits for an address (ipam_report).
WAITING = " for an address of "
# After so long, seconds, it is told why: the node itself looks every 5 s.
TELL_AFTER = 7.0
# Weave's options of `attach` that write into a container's /etc/hosts.
_OF_HOSTS = ("--rewrite-hosts", "--add-host")
# Weave's label for addresses of this host.
_EXPOSED = "weave:expose"


class _AddressVerb(Verb):
    """A verb with addresses: says of Weave's options for /etc/hosts what they are, rather than that they are typos."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words; raises UsageError for options about /etc/hosts."""
        for word in args:
            if word.partition("=")[0] in _OF_HOSTS:
                raise UsageError(f"{word} is about a container's /etc/hosts, which plait does not touch; leave it out")
        return super().parse_args(ctx, args)


def split_words(words: tuple[str, ...]) -> tuple[list[str], tuple[str, ...]]:
    """Separate the leading addresses from the rest; explicit addresses lose their `ip:`."""
    count = 0
    for word in words:
        if not (_V4.match(word) or _V6.match(word) or word == "net:default"):
            break
        count += 1
    return [word.removeprefix("ip:") for word in words[:count]], words[count:]


@click.command(cls=_AddressVerb, short_help="Give a container addresses on the network.")
@click.argument("words", nargs=-1, required=True, metavar="[ADDR/LEN | net:SUBNET ...] CONTAINER")
@click.option("--no-multicast-route", is_flag=True, help="Do not route multicast over the network.")
@click.option("--without-dns", is_flag=True, help="Give the container no name.")
@json_option
@run_dir_option
def attach(words: tuple[str, ...], no_multicast_route: bool, without_dns: bool, as_json: bool, run_dir: Path) -> None:
    """Give a container (Docker name or id, a pid, netns:NAME) addresses on the network."""
    cidrs, container = _one_container(words)
    with _told_why_it_takes_long(run_dir):
        answer = Client(run_dir, _PATIENT).call(
            "attach",
            container=container,
            cidrs=cidrs,
            multicast_route=not no_multicast_route,
            without_dns=without_dns,
        )
    _print_addresses(answer["addresses"], as_json)


@click.command(cls=_AddressVerb, short_help="Take addresses from a container.")
@click.argument("words", nargs=-1, required=True, metavar="[ADDR/LEN ...] CONTAINER")
@json_option
@run_dir_option
def detach(words: tuple[str, ...], as_json: bool, run_dir: Path) -> None:
    """Take addresses (all, if none is given) from a container."""
    cidrs, container = _one_container(words)
    _print_addresses(Client(run_dir).call("detach", container=container, cidrs=cidrs)["addresses"], as_json)


@click.command(cls=_AddressVerb, short_help="Give this host addresses on the network.")
@click.argument("words", nargs=-1, metavar="[ADDR/LEN | net:SUBNET ...]")
@click.option("--without-masquerade", is_flag=True, help="Do not translate addresses between the network and others.")
@click.option("-h", "name", help="Give the addresses this name; without a dot it is one in the node's domain.")
@json_option
@run_dir_option
def expose(words: tuple[str, ...], without_masquerade: bool, name: str | None, as_json: bool, run_dir: Path) -> None:
    """Give this host addresses on the network."""
    cidrs = _only_addresses(words)
    client = Client(run_dir, _PATIENT)
    fqdn = None if name is None else in_domain(client, name)
    with _told_why_it_takes_long(run_dir):
        answer = client.call("expose", cidrs=cidrs, masquerade=not without_masquerade)
    if fqdn is not None:
        for address in (each for each in answer["addresses"] if ":" not in each):
            add_name(client, _EXPOSED, address, fqdn)
    _print_addresses(answer["addresses"], as_json)


@click.command(cls=_AddressVerb, short_help="Take addresses from this host.")
@click.argument("words", nargs=-1, metavar="[ADDR/LEN ...]")
@json_option
@run_dir_option
def hide(words: tuple[str, ...], as_json: bool, run_dir: Path) -> None:
    """Take addresses (all, if none is given) from this host."""
    cidrs = _only_addresses(words)
    client = Client(run_dir)
    addresses = client.call("hide", cidrs=cidrs)["addresses"]
    for address in (each for each in addresses if ":" not in each):
        try:
            client.act("DELETE", f"/name/{_EXPOSED}/{address}")
        except NotFound:
            break  # names are off
    _print_addresses(addresses, as_json)


VERBS = (attach, detach, expose, hide)


@contextmanager
def _told_why_it_takes_long(run_dir: Path) -> Iterator[None]:
    timer = threading.Timer(TELL_AFTER, _tell_why, (run_dir,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _tell_why(run_dir: Path) -> None:
    try:
        problems = Client(run_dir).report()["Plait"]["Problems"]
    except PlaitError:
        return  # the request itself will tell
    for problem in problems:
        if WAITING in problem["What"]:
            click.echo(f"still waiting: {problem['What']}; cure: {problem['Cure']}", err=True)


def _one_container(words: tuple[str, ...]) -> tuple[list[str], str]:
    cidrs, rest = split_words(words)
    if len(rest) != 1:
        found = " ".join(rest) or "none"
        raise _usage_error(f"one container must follow the addresses (like 10.2.1.1/24), found: {found}")
    return cidrs, rest[0]


def _only_addresses(words: tuple[str, ...]) -> list[str]:
    cidrs, rest = split_words(words)
    if rest:
        raise _usage_error(f"{rest[0]!r} is not an address like 10.2.1.1/24")
    return cidrs


def _usage_error(sentence: str) -> click.UsageError:
    return click.UsageError(sentence, click.get_current_context())


def _print_addresses(addresses: list[str], as_json: bool) -> None:
    click.echo(json.dumps({"addresses": addresses}) if as_json else " ".join(addresses))
