"""The verbs against a real server around a node in memory."""

import asyncio
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from msgspec.structs import replace

from golden import VECTORS, document
from plait import __version__
from plait.api.model import Problem
from plait.cli import plumbing
from plait.cli.main import run
from plait.config import Config
from plait.state import Store
from unit.api.nodes import MemoryNode, directory, serving


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


Plait = Callable[..., Ended]


@pytest.fixture
def run_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with directory() as path:
        monkeypatch.setenv("PLAIT_RUN_DIR", str(path))
        monkeypatch.setenv("PLAIT_STATE_DIR", str(path / "state"))
        yield path


@pytest.fixture
def plait(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> Plait:
    def call(*words: str) -> Ended:
        code = run(list(words))
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


@pytest.fixture
def node(run_dir: Path) -> Iterator[MemoryNode]:
    service = MemoryNode()
    with serving(service, Config(run_dir=run_dir, http_addr="", status_addr="")):
        yield service


def test_status_has_an_empty_line_before_and_after(plait: Plait, node: MemoryNode) -> None:
    ended = plait("status")
    lines = ended.out.split("\n")
    assert (ended.code, ended.err) == (0, "")
    assert (lines[0], lines[-2], lines[-1]) == ("", "", "")
    assert lines[1] == "        Version: unreleased (version check update disabled)"


def test_subs_of_status_are_the_bodies_as_they_are(plait: Plait, node: MemoryNode) -> None:
    texts = document("mesh/live/status_samples.json")["nodes"]["node2"]["text"]
    for sub in ("targets", "connections"):
        ended = plait("status", sub)
        assert (ended.code, ended.out) == (0, texts[f"/status/{sub}"])
    assert plait("status", "peers").out.count("\n") == 9


def test_status_in_json(plait: Plait, node: MemoryNode) -> None:
    whole = json.loads(plait("status", "--json").out)
    assert whole == json.loads(plait("report").out) == json.loads(plait("report", "--json").out)
    assert json.loads(plait("status", "targets", "--json").out) == whole["Router"]["Targets"]
    assert json.loads(plait("status", "peers", "--json").out) == whole["Router"]["Peers"]
    assert json.loads(plait("status", "--json", "connections").out) == {
        "Connections": whole["Router"]["Connections"],
        "Details": [],
    }


def test_status_of_a_node_that_is_not_ready_fails_with_the_body(plait: Plait, node: MemoryNode) -> None:
    node.now = replace(node.now, ready=False)
    ended = plait("status")
    assert (ended.code, ended.out) == (1, "")
    assert "Version: unreleased" in ended.err


def test_status_of_nothing_is_what_scripts_look_for_and_what_people_need(plait: Plait) -> None:
    ended = plait("status")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines()[0] == "weave container is not present. Have you launched it?"
    assert "plait launch" in ended.err.splitlines()[1]


def test_an_unknown_sub_is_named(plait: Plait, node: MemoryNode) -> None:
    ended = plait("status", "nope")
    assert ended.code == 1
    assert ended.err.startswith("Invalid 'weave status' sub-command: nope\nUsage: ")


def test_addresses_of_a_node_without_an_allocator(plait: Plait, node: MemoryNode) -> None:
    assert plait("status", "ipam") == Ended(1, "", "error during template execution\n")
    assert plait("prime") == Ended(4, "", "")
    assert plait("rmpeer", "gone", "7a:00:00:00:00:01") == Ended(0, "", "")


def test_report_is_printed_as_the_node_wrote_it(plait: Plait, node: MemoryNode) -> None:
    assert plait("report").out.startswith('{\n    "Ready": true,\n')


def test_a_format_is_evaluated_without_a_final_newline(plait: Plait, node: MemoryNode) -> None:
    assert plait("report", "-f", "{{.Router.Name}}").out == "02:00:00:00:01:02"
    assert plait("report", '--format={{range .Router.Targets}}{{.}}{{"\\n"}}{{end}}').out.split() == node.targets


def test_errors_of_a_format_go_to_standard_error(plait: Plait, node: MemoryNode) -> None:
    ended = plait("report", "-f", "{{")
    assert (ended.code, ended.out, ended.err) == (1, "", "template: format:1: unclosed action\n")
    ended = plait("report", "-f", "{{.Nope}}")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error during template execution: template: format:1:")


@pytest.mark.parametrize("words", [["--json", "-f", "{{.Version}}"], ["{{.Version}}"], ["-f"], ["-f", "a", "b"]])
def test_another_shape_of_report_prints_the_usage(plait: Plait, node: MemoryNode, words: list[str]) -> None:
    ended = plait("report", *words)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("Usage: plait report ")


def test_connect_and_forget(plait: Plait, node: MemoryNode) -> None:
    assert plait("connect", "--replace", "a", "b") == Ended(0, "", "")
    assert plait("connect", "c:6784") == Ended(0, "", "")
    assert plait("forget", "b", "stranger") == Ended(0, "", "")
    assert node.targets == ["a", "c:6784"]
    assert plait("connect", "bad1", "d", "bad2") == Ended(
        1, "", "lookup bad1: no such host\nlookup bad2: no such host\n"
    )
    assert node.targets == ["a", "c:6784", "d"]


@pytest.mark.parametrize("words", [["connect"], ["connect", "--replace"], ["forget"], ["attach"], ["detach"]])
def test_missing_words_print_the_usage(plait: Plait, words: list[str]) -> None:
    ended = plait(*words)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"Usage: plait {words[0]} ")


def test_attach_prints_addresses_without_lengths(plait: Plait, node: MemoryNode) -> None:
    ended = plait("attach", "10.2.1.1/24", "ip:10.2.2.1/24", "fd00::1/64", "c1")
    assert ended == Ended(0, "10.2.1.1 10.2.2.1 fd00::1\n", "")
    assert node.containers == {"c1": ["10.2.1.1/24", "10.2.2.1/24", "fd00::1/64"]}
    assert node.multicast_route is True
    ended = plait("attach", "--json", "--no-multicast-route", "--without-dns", "10.2.3.1/24", "c2")
    assert (ended.code, json.loads(ended.out)) == (0, {"addresses": ["10.2.3.1"]})
    assert node.multicast_route is False


@pytest.mark.parametrize("words", [[], ["net:default"], ["net:10.2.1.0/24", "10.2.1.1/24"]])
def test_what_is_to_be_chosen_is_left_to_the_node(plait: Plait, node: MemoryNode, words: list[str]) -> None:
    assert plait("attach", *words, "c1").code == 0
    assert plait("expose", *words).code == 0
    assert (node.containers, node.exposed) == ({"c1": words}, words)
    assert plait("hide", *words).code == 0
    assert plait("detach", *words, "c1").code == 0
    assert (node.containers, node.exposed) == ({}, [])


@pytest.mark.parametrize(
    "words",
    [
        ["attach", "10.2.1.1/24"],
        ["attach", "10.2.1.1/24", "c1", "c2"],
        ["attach", "c1", "10.2.1.1/24"],
        ["detach", "10.2.1.1/24"],
        ["expose", "10.2.1.1"],
        ["hide", "10.2.1.1/24", "c1"],
    ],
)
def test_words_in_the_wrong_place_print_the_usage(plait: Plait, node: MemoryNode, words: list[str]) -> None:
    ended = plait(*words)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"Usage: plait {words[0]} ")


@pytest.mark.parametrize(
    "words",
    [
        ["attach", "10.2.1.1/24", "--rewrite-hosts", "c1"],
        ["attach", "10.2.1.1/24", "--add-host=a:10.0.0.1", "c1"],
    ],
)
def test_options_about_hosts_are_refused_by_name(plait: Plait, node: MemoryNode, words: list[str]) -> None:
    ended = plait(*words)
    assert (ended.code, ended.out) == (1, "")
    assert "is about a container's /etc/hosts" in ended.err


def test_a_name_needs_names(plait: Plait, node: MemoryNode) -> None:
    ended = plait("expose", "10.2.1.1/24", "-h", "host")
    assert (ended.code, ended.out) == (4, "")
    assert "launched with --no-dns" in ended.err
    assert node.exposed == []


def test_detach(plait: Plait, node: MemoryNode) -> None:
    node.containers = {"c1": ["10.2.1.1/24", "10.2.2.1/24"]}
    assert plait("detach", "10.2.2.1/24", "c1") == Ended(0, "10.2.2.1\n", "")
    assert plait("detach", "c1") == Ended(0, "10.2.1.1\n", "")
    assert plait("detach", "c1") == Ended(4, "", "c1 is not attached\n")


def test_expose_and_hide(plait: Plait, node: MemoryNode) -> None:
    assert plait("expose", "10.2.1.1/24", "--without-masquerade") == Ended(0, "10.2.1.1\n", "")
    assert node.masquerade is False
    assert plait("expose", "10.2.2.1/24") == Ended(0, "10.2.2.1\n", "")
    assert node.masquerade is True
    assert plait("hide", "10.2.9.1/24") == Ended(0, "\n", "")
    assert plait("hide", "--json") == Ended(0, '{"addresses": ["10.2.1.1", "10.2.2.1"]}\n', "")


def test_the_nodes_errors_keep_sentence_and_exit_code(plait: Plait, node: MemoryNode) -> None:
    node.containers = {"c1": ["10.2.1.1/24"]}
    assert plait("attach", "10.2.1.1/24", "c2") == Ended(9, "", "10.2.1.1/24 is held by c1; choose another\n")
    ended = plait("attach", "10.2.1.2/24", "gone")
    assert ended == Ended(1, "", "unable to inspect container gone: No such container: gone\n")


def test_ps(plait: Plait, node: MemoryNode) -> None:
    ident = "ea67dbe0b491" + "0" * 52
    node.containers = {ident: ["10.33.0.1/16", "10.2.1.5/24"], "netns:a-long-name": ["10.2.1.6/24"], "other": []}
    expected = [
        "weave:expose 7a:00:00:00:00:01",
        "ea67dbe0b491 ca:45:a0:6b:04:47 10.33.0.1/16 10.2.1.5/24",
        "netns:a-long-name ca:45:a0:6b:04:47 10.2.1.6/24",
        "other ca:45:a0:6b:04:47",
    ]
    assert plait("ps").out.splitlines() == expected
    assert plait("ps", "weave:allids").out.splitlines() == expected[1:]
    assert plait("ps", "other", "nobody").out.splitlines() == expected[3:]
    assert plait("ps", "nobody") == Ended(0, "\n", "")
    assert json.loads(plait("ps", "other", "--json").out) == [
        {"ident": "other", "mac": "ca:45:a0:6b:04:47", "cidrs": []}
    ]


def test_version(plait: Plait, node: MemoryNode) -> None:
    assert plait("version") == Ended(0, f"plait {__version__}\nnode unreleased\n", "")
    assert plait("--version").out == plait("version").out
    assert json.loads(plait("version", "--json").out) == {"plait": __version__, "node": "unreleased"}


def test_version_without_a_node(plait: Plait) -> None:
    assert plait("version") == Ended(0, f"plait {__version__}\nnode: not running\n", "")
    assert json.loads(plait("version", "--json").out) == {"plait": __version__, "node": None}


@pytest.mark.parametrize(
    "words",
    [["connect", "a"], ["forget", "a"], ["attach", "10.2.1.1/24", "c"], ["detach", "c"], ["hide"], ["ps"], ["report"]],
)
def test_verbs_without_a_node_end_with_7(plait: Plait, words: list[str]) -> None:
    ended = plait(*words)
    assert (ended.code, ended.out) == (7, "")
    for_scripts, for_people = ended.err.splitlines()
    assert for_scripts == "weave container is not present. Have you launched it?"
    assert "plait launch" in for_people


def test_a_check_of_addresses_ends_with_1_if_anything_is_wrong(plait: Plait, node: MemoryNode) -> None:
    assert plait("ipam", "check") == Ended(0, "", "")
    node.containers["c1"] = []
    assert plait("ipam", "check") == Ended(1, "c1 has no address; cure: attach it\n", "")
    found = json.loads(plait("ipam", "check", "--json").out)
    assert found == {"findings": [{"what": "c1 has no address", "cure": "attach it"}]}
    assert plait("ipam", "import").code == 1
    assert plait("ipam", "check", "file").code == 1
    assert plait("ipam", "check", "--force").code == 1
    assert plait("ipam", "reclaim", "--all").code == 1


def test_ipam_reclaim(plait: Plait, node: MemoryNode) -> None:
    assert plait("ipam", "reclaim", "a", "b") == Ended(0, "a: 8 addresses reclaimed\nb: 8 addresses reclaimed\n", "")
    assert plait("ipam", "reclaim", "--dry-run") == Ended(0, "gone: 8 addresses would be reclaimed\n", "")
    found = json.loads(plait("ipam", "reclaim", "--dry-run", "--json").out)
    assert found == {
        "peers": [{"peer": "gone", "addresses": 8, "reclaimed": 0, "what": "8 addresses would be reclaimed"}]
    }


def test_what_weave_kept_is_taken_over(plait: Plait, tmp_path: Path) -> None:
    packed = (VECTORS / "ipam" / "db" / "host2.weavedata.db.gz").read_bytes()
    (tmp_path / "weavedata.db").write_bytes(gzip.decompress(packed))
    state = str(tmp_path / "state")
    done = plait("ipam", "import", "--json", "--state-dir", state, str(tmp_path / "weavedata.db"))
    found = json.loads(done.out)
    assert (done.code, found["name"], found["targets"]) == (0, "02:00:00:00:00:02", ["10.77.0.1"])
    with Store(state) as store:
        assert str(store.peer_name) == found["name"]
        assert store.targets == found["targets"]
        assert store.addresses is not None
        assert len(store.addresses.holdings) == found["holders"] > 0
    again = plait("ipam", "import", "--state-dir", state, str(tmp_path / "weavedata.db"))
    assert (again.code, again.out, "has been used already" in again.err) == (10, "", True)
    missing = plait("ipam", "import", "--state-dir", state, str(tmp_path / "nothing"))
    assert (missing.code, "cannot be read" in missing.err) == (10, True)


def test_who_waits_for_an_address_is_told_why(plait: Plait, node: MemoryNode, monkeypatch: pytest.MonkeyPatch) -> None:
    attach, echo, told = node.attach, click.echo, threading.Event()

    async def slow(container: str, cidrs: list[str], multicast_route: bool) -> list[str]:
        await asyncio.to_thread(told.wait, 10)
        return await attach(container, cidrs, multicast_route)

    def tell(sentence: str, err: bool = False) -> None:
        echo(sentence, err=err)
        told.set()

    problem = Problem(what="c1 waits for an address of 10.32.0.0/30: none is free", cure="detach one", since=0.0)
    node.now = replace(node.now, plait=replace(node.now.plait, problems=[problem]))
    monkeypatch.setattr(node, "attach", slow)
    monkeypatch.setattr(plumbing, "TELL_AFTER", 0.0)
    monkeypatch.setattr(click, "echo", tell)
    ended = plait("attach", "c1")
    assert (ended.code, ended.err) == (0, f"still waiting: {problem.what}; cure: detach one\n")
