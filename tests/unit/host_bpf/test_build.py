"""What the check of a committed object tells apart."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from plait.host.bpf.build import difference, main
from plait.host.bpf.elf import read_object
from unit.host_bpf.objects import RETURN_ZERO, SAMPLE, Parts

SOURCE = SAMPLE.with_suffix(".c")
needs_clang = pytest.mark.skipif(shutil.which("clang") is None, reason="needs clang: apt-get install clang libc6-dev")


def test_objects_that_do_the_same_do_not_differ() -> None:
    assert difference(read_object(SAMPLE.read_bytes()), read_object(SAMPLE.read_bytes())) is None


def test_the_first_difference_is_named() -> None:
    good = read_object(Parts().put_together())
    program, table = good.programs["first"], good.maps["table"]
    changed = replace(good, programs={"first": replace(program, code=program.code + RETURN_ZERO)})
    assert difference(good, changed) == "has another program first"
    moved = replace(good, programs={"first": replace(program, relocations=())})
    assert difference(good, moved) == "has another program first"
    assert difference(good, replace(good, programs={})) == "lacks the program first"
    wider = replace(good, maps={"table": replace(table, value_size=16)})
    assert difference(good, wider) == "has another map table"
    more = replace(good, maps={"table": table, "other": table})
    assert difference(good, more) == "has a map other that is not in the source"
    assert difference(good, replace(good, license="GPL")) == "has another license"


@needs_clang
def test_committed_sample_is_what_its_source_compiles_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(SOURCE), str(SAMPLE), "--check"]) == 0, capsys.readouterr().err


@needs_clang
def test_object_does_not_depend_on_the_directory_and_a_changed_source_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    objects = []
    for directory in (tmp_path / "a", tmp_path / "another"):
        directory.mkdir()
        source, made = directory / SOURCE.name, directory / "made.o"
        source.write_text(SOURCE.read_text())
        assert main([str(source), str(made)]) == 0
        objects.append(made.read_bytes())
    assert objects[0] == objects[1]
    source.write_text(SOURCE.read_text().replace("TC_ACT_SHOT", "TC_ACT_OK"))
    assert main([str(source), str(made), "--check"]) == 1
    assert "has another program drop_and_count" in capsys.readouterr().err


@needs_clang
def test_what_clang_refuses_or_the_loader_would_refuse_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, made = tmp_path / "bad.c", tmp_path / "bad.o"
    source.write_text("int f(void) { return g(); }\n")
    assert main([str(source), str(made)]) == 1
    assert "does not compile" in capsys.readouterr().err
    source.write_text("int f(void) { return 0; }\n")
    assert main([str(source), str(made)]) == 1
    assert "cannot be loaded" in capsys.readouterr().err
    assert not made.exists()


def test_missing_files_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "no.c"), str(tmp_path / "no.o")]) == 1
    assert "no" in capsys.readouterr().err
