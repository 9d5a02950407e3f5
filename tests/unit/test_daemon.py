"""How the end of a node's tasks is explained."""

import logging

import pytest

from plait.daemon import _explain
from plait.errors import AddressInUse, PlaitError, StateError


def test_errors_for_people_are_sentences_and_the_highest_code_counts(caplog: pytest.LogCaptureFixture) -> None:
    inner = ExceptionGroup("mesh", [AddressInUse("port 6783 is taken")])
    code = _explain(BaseExceptionGroup("node", [inner, StateError("the disk is full"), PlaitError("and more")]))
    assert code == StateError.exit_code
    assert [record.message for record in caplog.records] == ["port 6783 is taken", "the disk is full", "and more"]
    assert not any(record.exc_info for record in caplog.records)


def test_a_defect_comes_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    assert _explain(BaseExceptionGroup("node", [PlaitError("a sentence"), ValueError("planted")])) == 1
    sentence, defect = caplog.records
    assert (sentence.levelno, sentence.message) == (logging.ERROR, "a sentence")
    assert defect.levelno == logging.CRITICAL
    assert "report it" in defect.message
    assert "ValueError: planted" in caplog.text
