"""The program `plait` (and `weave`): finds the verb, and turns every error into one sentence and an exit code."""

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from plait.api.client import NotRunning
from plait.cli import addresses, doctor, events, lifecycle, names, peering, plumbing, show, trace
from plait.errors import PlaitError

# What a shell says of a program that ended by Ctrl-C: 128 + SIGINT.
_INTERRUPTED = 130
# What scripts for Weave look for, before the sentence for people.
WEAVES_NOT_RUNNING = "weave container is not present. Have you launched it?"
REMOVED = {"run", "start", "restart"} | {
    f"{verb}-{what}" for verb in ("launch", "stop") for what in ("plugin", "proxy", "router")
}
# Weave's verbs that need a service which is not there yet, with what it is.
NOT_YET = {
    "env": "the Docker API proxy",
    "config": "the Docker API proxy",
    "setup": "the CNI plugin",
    "setup-cni": "the CNI plugin",
    "docker-bridge-ip": "the Docker API proxy",
    "bridge-type": "a bridge of Weave's other types",
    "attach-bridge": "joining of other bridges",
}


class _Verbs(click.Group):
    """Verbs with Weave's answers for words that are none."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Usage goes to standard error; Weave's `--local` changes nothing here."""
        if args[:1] == ["--local"]:
            args = args[1:]
        if not args:
            self._usage(ctx, 1)
        if args[0] in ("help", "--help"):
            if args[1:2] and args[1] in self.commands:
                args = [args[1], "--help"]
            else:
                self._usage(ctx, 0)
        if args[0] == "--version":
            args = ["version", *args[1:]]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Give the verb; raises PlaitError for one that was or will be."""
        word = args[0]
        if word in REMOVED:
            raise PlaitError(
                f"'{word}' went away with Weave 2.0.\nUse 'launch' for the node and 'attach' for containers."
            )
        if word in NOT_YET:
            raise PlaitError(f"'{word}' needs {NOT_YET[word]}, which this version of plait does not have")
        if word not in self.commands:
            click.echo(f"Unknown {ctx.info_name} command '{word}'", err=True)
            self._usage(ctx, 1)
        return super().resolve_command(ctx, args)

    def _usage(self, ctx: click.Context, exit_code: int) -> NoReturn:
        click.echo(self.get_help(ctx), err=True)
        ctx.exit(exit_code)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["--help"]})
def cli() -> None:
    """One network for the containers of many hosts."""


for _verb in (
    *lifecycle.VERBS,
    *peering.VERBS,
    *plumbing.VERBS,
    *addresses.VERBS,
    *names.VERBS,
    *show.VERBS,
    *trace.VERBS,
    *doctor.VERBS,
    *events.VERBS,
):
    cli.add_command(_verb)


def main() -> NoReturn:
    """Run the command of `sys.argv` and exit."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not if it is closed, or somebody's own
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:], Path(sys.argv[0]).name))


def run(argv: list[str], program: str = "plait") -> int:
    """Run one command; gives the exit code. `program` is what it was called as."""
    try:
        name = "weave" if program.endswith("weave") else "plait"
        result: Any = cli.main(args=argv, prog_name=name, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except click.ClickException as error:
        error.show()
        return 1
    except PlaitError as error:
        if isinstance(error, NotRunning):
            click.echo(WEAVES_NOT_RUNNING, err=True)
        if str(error):
            click.echo(str(error), err=True)
        return error.exit_code
    except OSError as error:
        _discard_output()
        click.echo(f"the system refused something ({error}); free what it lacks and try again", err=True)
        return 1
    except Exception as error:
        return _defect(error)


def _defect(error: Exception) -> int:
    """Say what a developer needs to know, in one line unless more is asked for."""
    import traceback

    if os.environ.get("PLAIT_DEBUG"):
        traceback.print_exception(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    click.echo(
        f"plait met a defect of its own ({type(error).__name__}: {error}, {Path(where.filename).name}:{where.lineno}); "
        "please report it with what PLAIT_DEBUG=1 adds",
        err=True,
    )
    return 1


def _discard_output() -> None:
    """Keep the interpreter from trying, and complaining, once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
