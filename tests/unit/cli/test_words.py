"""Which of a verb's words are addresses (spec: cli, address syntax)."""

import io
from contextlib import redirect_stderr
from ipaddress import IPv4Interface, IPv6Interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.cli.main import run
from plait.cli.plumbing import split_words
from unit.api.nodes import directory

IPV4 = st.builds(lambda ip, length: str(IPv4Interface((ip, length))), st.ip_addresses(v=4), st.integers(0, 32))
IPV6 = st.builds(lambda ip, length: str(IPv6Interface((ip, length))), st.ip_addresses(v=6), st.integers(0, 128))
EXPLICIT = st.one_of(IPV4, IPV6)
CHOSEN = st.one_of(st.just("net:default"), IPV4.map("net:{}".format))
# Docker's rule for names; a process id; a named namespace.
DOCKER_NAME = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", fullmatch=True)
CONTAINER = st.one_of(
    DOCKER_NAME, st.integers(1, 1 << 22).map(str), st.from_regex(r"netns:[^/\0]{1,20}", fullmatch=True)
)
# Nearly addresses, made of what addresses are made of.
SHARDS = st.text("0123456789abf.:/ip net\u0663\n", max_size=24)


@given(st.lists(st.tuples(EXPLICIT, st.booleans())), st.lists(CONTAINER, max_size=2))
def test_explicit_addresses_come_first_and_lose_their_mark(
    addresses: list[tuple[str, bool]], containers: list[str]
) -> None:
    words = [f"ip:{address}" if is_marked else address for address, is_marked in addresses]
    assert split_words((*words, *containers)) == ([address for address, _ in addresses], tuple(containers))


@given(st.lists(st.one_of(EXPLICIT, CHOSEN)), CONTAINER, st.lists(st.one_of(EXPLICIT, CHOSEN, CONTAINER)))
def test_the_first_other_word_ends_the_addresses(addresses: list[str], container: str, after: list[str]) -> None:
    assert split_words((*addresses, container, *after)) == (addresses, (container, *after))


@given(st.lists(st.one_of(SHARDS, st.text(), EXPLICIT, CHOSEN)))
def test_no_word_is_lost_or_changed(words: list[str]) -> None:
    addresses, rest = split_words(tuple(words))
    count = len(addresses)
    assert list(rest) == words[count:]
    assert addresses == [word.removeprefix("ip:") for word in words[:count]]
    assert split_words(rest) == ([], rest)


@pytest.mark.parametrize(
    "word",
    [
        "10.2.1.1",
        "10.2.1/24",
        "10.2.1.1/",
        "10.2.1.1/243",
        "1000.2.1.1/24",
        "10.2.1.1/24 ",
        "10.2.1.1/24\n",
        "ip:",
        "ip:net:10.2.1.1/24",
        "net:",
        "net:fd00::/64",
        "default",
        "\u0661\u0660.2.1.1/24",
        "fd00::1",
        "fd00::1/1234",
        "",
    ],
)
def test_what_is_nearly_an_address_is_none(word: str) -> None:
    assert split_words((word,)) == ([], (word,))


@pytest.mark.parametrize("word", ["999.1.1.1/99", "10.2.1.1/33"])
def test_the_pattern_is_loose_as_weaves_so_the_node_judges(word: str) -> None:
    assert split_words((word, "c")) == ([word], ("c",))


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=())), max_size=4))
def test_no_words_end_in_a_defect(words: list[str]) -> None:
    said = io.StringIO()
    with directory() as nowhere, redirect_stderr(said):
        for verb in ("attach", "detach", "expose", "hide", "connect", "ps", "status"):
            assert run([verb, *words, f"--run-dir={nowhere}"]) in (0, 1, 4, 7)
    assert "defect" not in said.getvalue()
