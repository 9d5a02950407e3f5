"""What all verbs have in common: usage goes to standard error, and verbs that make a node end with Weave's code 125."""

import click

from plait.errors import ConfigError

# Weave's flags for what plait does not have (yet), by what they are about: refused by name rather than as typos.
_NOT_YET = {
    "automatic addresses": "ipalloc-range iprange ipalloc-init ipalloc-default-subnet no-default-ipalloc no-masq-local",
    "DNS": "no-dns dns-domain dns-listen-address dns-ttl dns-fallback-timeout resolv-conf without-dns",
    "the fast datapath": "no-fastdp no-bridged-fastdp datapath",
    "the Docker API proxy": "proxy tls tlsverify tlscacert tlscert tlskey no-detect-tls rewrite-inspect"
    " no-rewrite-hosts hostname-from-label hostname-match hostname-replacement no-multicast-route",
    "the Docker plugin": "plugin plugin-v2 plugin-v2-multicast plugin-socket plugin-mesh-socket",
    "network policy": "expect-npc",
    "routing by AWS": "awsvpc",
    "a service for finding peers": "token peer-discovery-url advertise-address",
}
NOT_YET = {f"--{flag}": what for what, flags in _NOT_YET.items() for flag in flags.split()}


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
            error.show()
            ctx.exit(self.usage_exit_code)


class NodeVerb(Verb):
    """A verb that takes the flags of a node."""

    usage_exit_code = ConfigError.exit_code

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words; raises ConfigError for flags of services that are not there."""
        for word in _before_dashes(args):
            flag = word.partition("=")[0]
            what = "the Docker API proxy" if word.startswith("-H") else NOT_YET.get(flag)
            if what is not None:
                raise ConfigError(f"{flag} is about {what}, which this version of plait does not have; leave it out")
        return super().parse_args(ctx, args)


def _before_dashes(words: list[str]) -> list[str]:
    return words[: words.index("--")] if "--" in words else words
