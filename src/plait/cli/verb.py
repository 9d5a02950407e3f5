"""What all verbs have in common: usage goes to standard error; and Weave's forms of a node's flags."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from plait.errors import ConfigError

# Weave's flags for what plait does not have (yet), by what they are about: refused by name rather than as typos.
_NOT_YET = {
    "a datapath device of Weave's": "no-bridged-fastdp datapath",
    "the Docker API proxy": "proxy tls tlsverify tlscacert tlscert tlskey no-detect-tls rewrite-inspect"
    " no-rewrite-hosts hostname-from-label hostname-match hostname-replacement no-multicast-route",
    "the Docker plugin": "plugin plugin-v2 plugin-v2-multicast plugin-socket plugin-mesh-socket",
    "network policy": "expect-npc",
    "routing by AWS": "awsvpc",
    "a service for finding peers": "token peer-discovery-url advertise-address",
}
NOT_YET = {f"--{flag}": what for what, flags in _NOT_YET.items() for flag in flags.split()}
# Weave's switches that turn off what plait does not have: what they ask for is so.
ALREADY_OFF = frozenset(f"--{flag}" for flag in ("no-bridged-fastdp", "no-default-ipalloc"))
_OFF_IF_FALSE = frozenset(("--proxy", "--plugin", "--plugin-v2", "--awsvpc", "--expect-npc"))
# What Go's strconv.ParseBool takes.
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


class Verb(click.Command):
    """A verb. `--help` prints the usage to standard error, as Weave does."""

    usage_exit_code = 1

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words; wrong ones print the usage and end with this verb's code."""
        if "--help" in _before_dashes(args):
            click.echo(self.get_help(ctx), err=True)
            ctx.exit(0)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # some of click's come without, and would not print the usage
            error.show()
            ctx.exit(self.usage_exit_code)


class NodeVerb(Verb):
    """A verb that takes the flags of a node. Bad ones end like other wrong words: Weave's `launch` ended with 1."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words; raises ConfigError for flags of services that are not there."""
        options = {name: option for option in self.params if isinstance(option, click.Option) for name in option.opts}
        with self._own_exit_code():
            words = list(_without_weaves_forms(args, options))
        return super().parse_args(ctx, words)

    def invoke(self, ctx: click.Context) -> Any:
        """Do it; raises ConfigError for values that cannot be."""
        with self._own_exit_code():
            return super().invoke(ctx)

    @contextmanager
    def _own_exit_code(self) -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            error.exit_code = self.usage_exit_code
            raise


class DaemonVerb(NodeVerb):
    """The verb that is the node: bad flags end it like Weave's router."""

    usage_exit_code = ConfigError.exit_code


def _without_weaves_forms(words: list[str], options: dict[str, click.Option]) -> Iterator[str]:
    """Write Weave's forms of flags as plait's: one dash for two, `--flag=true` and `--flag=false` for switches."""
    left = iter(words)
    for word in left:
        name, equals, value = word.partition("=")
        flag = f"--{name.lstrip('-')}" if name.startswith("-") and len(name.lstrip("-")) > 1 else name
        if _is_so_already(flag, value if equals else None):
            continue
        what = "the Docker API proxy" if name.startswith("-H") else NOT_YET.get(flag)
        if what is not None:
            raise ConfigError(f"{name} is about {what}, which this version of plait does not have; leave it out")
        option = options.get(flag)
        if option is None:
            yield "--help" if flag == "--help" else word
        elif option.is_flag and equals and value in (*_TRUE, *_FALSE):
            yield from [flag] if value in _TRUE else []
        else:
            yield f"{flag}{equals}{value}"
        if word == "--":
            break
        if option is not None and not option.is_flag and not equals:
            yield from itertools.islice(left, 1)  # its value, whatever it looks like
    yield from left


def _is_so_already(flag: str, value: str | None) -> bool:
    """True for a switch that asks for no more than this version has; `value` is what follows its `=`."""
    if flag in ALREADY_OFF:
        return value is None or value in _TRUE
    return flag in _OFF_IF_FALSE and value in _FALSE


def _before_dashes(words: list[str]) -> list[str]:
    return words[: words.index("--")] if "--" in words else words
