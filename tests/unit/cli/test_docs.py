"""docs/cli.md and docs/api.md name all that there is."""

import re
from pathlib import Path

import click

import plait.attach.service
import plait.host.netlink
import plait.mesh.router
from plait import errors
from plait.api import status
from plait.api.routes import Routes
from plait.cli.main import cli
from unit.api.nodes import MemoryNode

DOCS = Path(__file__).parents[3] / "docs"
CLI, API = (DOCS / "cli.md").read_text(), (DOCS / "api.md").read_text()
# So that their kinds of errors are known here.
ROOMS = (plait.attach.service, plait.host.netlink, plait.mesh.router)


def kinds(of: type[errors.PlaitError]) -> set[type[errors.PlaitError]]:
    return {of}.union(*map(kinds, of.__subclasses__()))


def test_every_verb_is_in_the_table() -> None:
    assert set(re.findall(r"^\| `([a-z][a-z-]+)[ `]", CLI, re.MULTILINE)) == set(cli.commands)


def test_every_exit_code_is_explained() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", CLI, re.MULTILINE)}
    assert {kind.exit_code for kind in kinds(errors.PlaitError)} == documented - {0, 130}


def test_every_variable_is_named_with_its_flag() -> None:
    options = [option for verb in cli.commands.values() for option in verb.params if isinstance(option, click.Option)]
    for option in options:
        if option.envvar is not None:
            assert f"`{option.envvar}`" in CLI
            assert f"`{option.opts[0]}`" in CLI


def test_every_verb_that_prints_knows_json() -> None:
    sentence = next(line for line in CLI.splitlines() if line.startswith("`--json` makes "))
    able = {verb.name for verb in cli.commands.values() if any("--json" in option.opts for option in verb.params)}
    assert set(re.findall(r"`([a-z][a-z-]+)`", sentence)) == able


def test_every_route_is_named() -> None:
    for route in Routes(MemoryNode()).control():
        if "{sub}" in route.path:
            assert all(f"`{route.path.replace('{sub}', sub)}`" in API for sub in status.SUBS)
        else:
            assert f"{route.path}`" in API
