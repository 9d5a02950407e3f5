import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.dns import names
from plait.dns.names import BadName


@pytest.mark.parametrize("text", ["web", "web.weave.local", "Web.weave.local.", "_http.a-b.x", "1.2", "a" * 63])
def test_good_names_keep_their_spelling(text: str) -> None:
    assert names.checked(text) == text.rstrip(".") + "."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (".", "empty"),
        ("a..b", "two dots"),
        (".a", "two dots"),
        ("a" * 64, "64 characters, 63 is the most"),
        (".".join(["a" * 60] * 5), "253 is the most"),
        ("a b", "letters, digits"),
        ("-a", "inner '-'"),
        ("a-.x", "inner '-'"),
        ("büro.weave.local", "xn--"),
        ("a\n", "letters, digits"),
        ("a/b", "letters, digits"),
    ],
)
def test_bad_names_are_told_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(BadName, match=reason):
        names.checked(text)


def test_longest_name() -> None:
    longest = ".".join(["a" * 63] * 3 + ["a" * 61])
    wire = names.wire(names.checked(longest))
    assert wire is not None
    assert len(wire) == names.MAX_WIRE


@pytest.mark.parametrize(
    ("name", "is_in"),
    [
        ("weave.local.", True),
        ("a.WEAVE.local.", True),
        ("notweave.local.", False),
        ("local.", False),
        ("a.weave.local.x.", False),
    ],
)
def test_domains(name: str, is_in: bool) -> None:
    assert names.is_in(name, "weave.Local.") is is_in


@given(st.text(max_size=300))
def test_every_text_has_a_key_that_ignores_case(text: str) -> None:
    assert names.key(text)
    ascii_only = text.encode("ascii", "ignore").decode()
    assert names.key(ascii_only.upper()) == names.key(ascii_only.lower())
    wire = names.wire(names.absolute(ascii_only))
    assert wire is None or len(wire) <= names.MAX_WIRE
