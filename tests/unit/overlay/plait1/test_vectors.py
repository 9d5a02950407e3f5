"""The vectors of plait1, with the reference and the compiled engine."""

import json
from typing import Any

import pytest

from plait.overlay.sleeve.plait1 import wire
from plait.overlay.sleeve.plait1.codec import Frames, Opener, Probe, Sealer
from plait.overlay.sleeve.plait1.engine import Engine
from plait.overlay.sleeve.plait1.keys import Cipher, KeySchedule
from plait.overlay.sleeve.plait1.superframe import layout
from unit.overlay.plait1 import engines as e
from unit.overlay.plait1 import frames as f
from vectors.plait1 import make

Vector = dict[str, Any]


def vectors(name: str) -> list[Vector]:
    found: list[Vector] = json.loads((make.DIRECTORY / name).read_text())["vectors"]
    return found


def title(vector: Vector) -> str:
    what = vector.get("title", vector.get("kind", "key"))
    return f"{what}, cipher {vector['cipher']}, sequence {vector['sequence']}"


@pytest.fixture(params=["python", "compiled"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return e.engine_named(request.param)


def schedule(vector: Vector) -> KeySchedule | None:
    if not vector["cipher"]:
        return None
    return KeySchedule(
        make.SESSION_KEY,
        Cipher(vector["cipher"]),
        from_dialler=vector["from_dialler"],
        generation=vector["generation"],
    )


def opener(vector: Vector, engine: Engine) -> Opener:
    return Opener(make.SENDER, engine, schedule(vector))


def opened_frames(opener: Opener, datagrams: list[bytes]) -> tuple[list[bytes], set[bytes]]:
    """Frames, and what their datagrams said of relaying."""
    data, frames, relays = bytearray(b"".join(datagrams)), list[bytes](), set[bytes]()
    for each in opener.open(data, len(data), len(datagrams[0])):
        assert isinstance(each, Frames)
        frames += [b"".join(map(bytes, pieces)) for pieces in each.frames]
        relays.add(each.relay)
    return frames, relays


@pytest.mark.parametrize("name", ["keys.json", "whole.json", "segments.json"])
def test_the_files_are_what_the_generator_writes(name: str) -> None:
    assert (make.DIRECTORY / name).read_text() == make.text(make.all_vectors()[name])


@pytest.mark.parametrize("vector", vectors("keys.json"), ids=title)
def test_keys(vector: Vector) -> None:
    ring = schedule(vector)
    assert ring is not None
    assert ring.key(vector["sequence"]).raw.hex() == vector["key"]


@pytest.mark.parametrize("vector", vectors("whole.json"), ids=title)
def test_records_probes_and_acknowledgements(engine: Engine, vector: Vector) -> None:
    datagram = bytes.fromhex(vector["datagram"])
    receiver = opener(vector, engine)
    if vector["kind"] == "records":
        frames, relays = opened_frames(receiver, [datagram])
        assert [frame.hex() for frame in frames] == vector["frames"]
        assert relays == {bytes.fromhex(vector["relay"])}
        return
    (opened,) = receiver.open(bytearray(datagram), len(datagram), len(datagram))
    if vector["kind"] == "probe":
        assert opened == Probe(make.UID, vector["sequence"], vector["size"])
    else:
        assert opened == wire.Ack(make.UID, vector["probe"], vector["size"], vector["received"])


@pytest.mark.parametrize("vector", vectors("segments.json"), ids=title)
def test_segments_are_sent_as_written(engine: Engine, vector: Vector) -> None:
    raw, datagrams = bytes.fromhex(vector["super_frame"]), [bytes.fromhex(each) for each in vector["datagrams"]]
    where = layout(raw)
    assert where is not None
    sealer = Sealer(make.SENDER, engine, schedule(vector), vector["sequence"])
    made = sealer.segments(memoryview(raw), where, len(datagrams[0]), bytes.fromhex(vector["relay"]))
    assert made is not None
    assert [each for segments in made for each in e.cut_up(segments)] == datagrams


@pytest.mark.parametrize("vector", vectors("segments.json"), ids=title)
def test_runs_become_the_frames_written(engine: Engine, vector: Vector) -> None:
    datagrams = [bytes.fromhex(each) for each in vector["datagrams"]]
    sent = e.with_gso_size(
        bytes.fromhex(vector["super_frame"]), int.from_bytes(bytes.fromhex(vector["runs"][-1]["frame"])[4:6], "little")
    )
    each = max(1, vector["slice"] // int.from_bytes(sent[4:6], "little"))
    for run in vector["runs"]:
        frames, relays = opened_frames(opener(vector, engine), datagrams[run["first"] : run["end"]])
        assert [frame.hex() for frame in frames] == [run["frame"]]
        assert relays == {bytes.fromhex(vector["relay"])}
        assert f.packets(frames[0]) == f.packets(sent)[run["first"] * each : run["end"] * each]
