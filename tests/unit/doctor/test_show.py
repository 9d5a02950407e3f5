"""Findings as they are shown, and what a peer answers about its own."""

import msgspec
import pytest

from plait.checkup import read_answer
from plait.doctor.show import Examined, Shown, as_text
from plait.errors import PlaitError

FOUND = Shown(
    check="ufo",
    rows=[0],
    subject="eth0",
    severity="risk",
    certainty="certain",
    what="eth0 \x1b[2Jhas\nan offload",
    consequence="it stops",
    cure="ethtool -K eth0 ufo off",
    lasting="",
    fixable=True,
    reference="a commit",
)


def test_words_of_a_peer_drive_no_terminal() -> None:
    text = as_text(Examined([FOUND], 50))
    assert "risk: eth0 ?[2Jhas?an offload\n" in text
    assert text.endswith("\n1 risk (50 checks)")


def test_an_answer_is_read_as_it_was_given() -> None:
    found = Examined([FOUND], 50)
    assert read_answer("h2", msgspec.json.encode(found)) == found
    assert found.only(["ports"]) == Examined([], 1)


@pytest.mark.parametrize("answer", [b"", b"{", b"[]", b"\xff", b'{"findings": [{"check": "ufo"}], "checks": 1}'])
def test_an_answer_that_is_none_is_explained(answer: bytes) -> None:
    with pytest.raises(PlaitError, match="the answer of h2 is not understood"):
        read_answer("h2", answer)
