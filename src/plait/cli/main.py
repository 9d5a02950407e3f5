"""The program `plait` (and `weave`): finds the verb, and turns every error into one sentence and an exit code."""

import sys
from typing import Any

import click

from plait.cli import lifecycle, peering, plumbing, show
from plait.cli.options import refuse_unknown_flags
from plait.errors import NotFound, PlaitError

REMOVED = {"run", "start", "restart"} | {
    f"{verb}-{what}" for verb in ("launch", "stop") for what in ("plugin", "proxy", "router")
}
# Weave's verbs that need a service which is not there yet, with what it is.
NOT_YET = {
    "prime": "automatic addresses",
    "rmpeer": "automatic addresses",
    "dns-add": "DNS",
    "dns-remove": "DNS",
    "dns-lookup": "DNS",
    "dns-args": "DNS",
    "env": "the Docker API proxy",
    "config": "the Docker API proxy",
    "setup-cni": "the CNI plugin",
}


class _Verbs(click.Group):
    """Verbs with Weave's answers for words that are none."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Give the verb; raises UsageError for a word that is none."""
        word = args[0]
        if word in REMOVED:
            raise PlaitError(
                f"The '{word}' command has been removed as of Weave 2.0.\nPlease use launch and attach instead."
            )
        if word in NOT_YET:
            raise PlaitError(f"'{word}' needs {NOT_YET[word]}, which this version of plait does not have")
        if self.get_command(ctx, word) is None:
            click.echo(f"Unknown weave command '{word}'", err=True)
            click.echo(self.get_help(ctx), err=True)
            ctx.exit(1)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`help` and no word at all print the usage to standard error, as Weave does; `--local` is accepted."""
        args = [word for word in args if word != "--local"]
        if not args or args[0] == "help":
            click.echo(self.get_help(ctx), err=True)
            ctx.exit(0 if args else 1)
        return super().parse_args(ctx, args)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["--help"]})
def cli() -> None:
    """One network for the containers of many hosts."""


for _verb in (*lifecycle.VERBS, *peering.VERBS, *plumbing.VERBS, *show.VERBS):
    cli.add_command(_verb)


def main(argv: list[str] | None = None) -> None:
    """Run one command and exit."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: list[str]) -> int:
    """Run one command; gives the exit code."""
    try:
        refuse_unknown_flags(tuple(argv))
        result: Any = cli.main(args=argv, prog_name="plait", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return 1
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; keep the interpreter from complaining about the lost rest.
        sys.stderr.close()
        return 141
    except NotFound as error:
        if str(error):
            click.echo(str(error), err=True)
        return error.exit_code
    except PlaitError as error:
        click.echo(str(error), err=True)
        return error.exit_code
