"""Building and loading the compiled engine: what is there is used, what is not or cannot be trusted is said."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from plait.errors import PlaitError
from plait.overlay.sleeve.native import build
from plait.overlay.sleeve.native.engine import CompiledEngine, load_engine
from plait.overlay.sleeve.plait1.keys import Cipher, Key
from unit.overlay.plait1 import engines as e
from unit.overlay.plait1 import frames as f

NO_COMPILER = "no C compiler was found (apt install gcc libc6-dev)"
NOBODY = 65534
STUB = """
int plait_crypto_find(void) { return -1; }
void *plait_key_new(int cipher, const unsigned char *key) { (void)cipher; (void)key; return 0; }
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "cache"
    monkeypatch.setenv(build.CACHE_DIR_VARIABLE, str(directory))
    return directory


@pytest.fixture
def built(cache: Path) -> Path:
    e.engine_named("compiled")  # skips without a compiler
    build.build()
    return build.built_library()


@pytest.fixture
def _no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def reason() -> str:
    """Why there is no compiled engine."""
    engine, sentence = load_engine("auto")
    assert engine.name == "python"
    assert sentence.startswith("Python loop: ")
    with pytest.raises(PlaitError, match="the compiled loop was asked for, but "):
        load_engine("compiled")
    return sentence.removeprefix("Python loop: ")


def test_what_is_built_is_loaded(built: Path, cache: Path) -> None:
    assert [each.name for each in cache.iterdir()] == [built.name]
    for engine, sentence in (load_engine("auto"), load_engine("compiled")):
        assert (engine.name, sentence) == ("compiled", "compiled loop")
    assert [load_engine("python")[0].name, load_engine("python")[1]] == ["python", "Python loop"]


def test_nothing_is_built_twice(built: Path) -> None:
    before = built.stat()
    assert build.build() == f"The compiled loop is at {built}."
    assert built.stat() == before


def test_loading_builds_nothing(cache: Path) -> None:
    e.engine_named("compiled")
    assert "is not there: python -m plait.overlay.sleeve.native builds it" in reason()
    assert not cache.exists()


@pytest.mark.usefixtures("_no_compiler")
def test_without_a_compiler_there_is_a_sentence(cache: Path) -> None:
    assert NO_COMPILER in build.build()
    assert reason() == NO_COMPILER


def test_what_was_built_needs_no_compiler_any_more(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert load_engine("auto")[0].name == "compiled"


def test_the_program_never_fails(cache: Path) -> None:
    environment = {**os.environ, "PATH": "/nonexistent", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "plait.overlay.sleeve.native"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert NO_COMPILER in done.stdout
    assert not done.stderr


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'engine.c:1:1: fatal error: stdint.h: No such file' >&2; exit 1", "stdint.h"),
        ("exit 3", "exit code 3"),
        ("exit 0", "cannot be used (No such file or directory)"),
    ],
)
def test_a_compiler_that_fails_is_quoted(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    compiler = tmp_path / "bin" / "cc"
    compiler.parent.mkdir()
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(compiler.parent))
    sentence = build.build()
    assert said in sentence
    assert "plait works with its Python loop" in sentence
    assert list(cache.iterdir()) == []


def test_a_compiler_that_hangs_is_ended(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(build, "COMPILE_SECONDS", 0.1)
    assert "was not done within" in build.build()


def test_a_cache_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    e.engine_named("compiled")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(build.CACHE_DIR_VARIABLE, str(tmp_path / "file" / "cache"))
    assert "PLAIT_CACHE_DIR names another" in build.build()


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
def test_nothing_from_where_others_write(built: Path, cache: Path, mode: int) -> None:
    cache.chmod(mode)
    assert "can be written by others" in reason()
    assert "can be written by others" in build.build()
    cache.chmod(0o755)
    cache.parent.chmod(mode)
    assert f"{cache.parent} can be written by others" in reason()
    cache.parent.chmod(0o700)
    built.chmod(mode)
    assert f"{built} can be written by others" in reason()
    built.chmod(0o644)
    assert load_engine("auto")[0].name == "compiled"


def test_a_directory_with_the_sticky_bit_may_be_above_but_not_hold_it(built: Path, cache: Path) -> None:
    cache.parent.chmod(0o1777)
    assert load_engine("auto")[0].name == "compiled"
    cache.chmod(0o1777)
    assert "can be written by others" in reason()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_nothing_that_is_somebody_elses(built: Path, cache: Path) -> None:
    for each in (built, cache, cache.parent):
        os.chown(each, NOBODY, NOBODY)
        assert f"{each} can be written by others" in reason()
        os.chown(each, 0, 0)
    assert load_engine("auto")[0].name == "compiled"


def test_a_linked_cache_is_used_but_no_linked_file(built: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = cache.parent / "link"
    link.symlink_to(cache)
    monkeypatch.setenv(build.CACHE_DIR_VARIABLE, str(link))
    assert build.built_library() == built, "by its real path"
    target = built.rename(cache / "other.so")
    built.symlink_to(target)
    assert "is no file" in reason()


def test_something_else_in_its_place(built: Path) -> None:
    built.write_bytes(b"no library")
    assert "cannot be loaded" in reason()


def test_another_source_has_another_name(built: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    for each in Path(build.__file__).parent.glob("*.[ch]"):
        (sources / each.name).write_bytes(each.read_bytes())
    monkeypatch.setattr(build, "_SOURCES", sources)
    assert build.library_path() == built
    (sources / "engine.h").write_bytes((sources / "engine.h").read_bytes() + b"\n")
    other = build.library_path()
    assert built != other


def test_without_libcrypto_python_does_it(built: Path, tmp_path: Path) -> None:
    source = tmp_path / "stub.c"
    source.write_text(STUB)
    subprocess.run(["cc", *build.FLAGS, "-o", built, source], check=True)
    assert "found no libcrypto.so.3" in reason()


def test_a_cipher_that_libcrypto_does_not_have_is_done_by_the_reference(built: Path, tmp_path: Path) -> None:
    source = tmp_path / "stub.c"
    real = Path(build.__file__).with_name("engine.c").read_text()
    source.write_text(real.replace("if (plait_crypto_find() != 0)", "if (1)"))
    library = tmp_path / "stub.so"
    subprocess.run(
        ["cc", *build.FLAGS, f"-I{Path(build.__file__).parent}", "-o", library, source, *build.LIBRARIES], check=True
    )
    engine, key = CompiledEngine(str(library)), Key(Cipher.AES_256_GCM, e.RAW_KEY)
    raw = f.super_frame("tcp4", f.noise(3_000), 1000)
    (sent,) = e.send(engine, raw, 1000, key)
    assert e.open_all(engine, sent.datagrams, key)[0].frames == [raw]
    assert key.native is False
