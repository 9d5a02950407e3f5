"""The datapath's programs against the verifier of the kernel here."""

import os
import re
from pathlib import Path

import pytest

import plait.overlay.fastdp
from plait.host.bpf.elf import read_object
from plait.host.bpf.loader import LOG_STATISTICS, linked, load, load_code

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for eBPF")

OBJECT = read_object((Path(plait.overlay.fastdp.__file__).parent / "bpf" / "fastdp.bpf.o").read_bytes())
MAX_STEPS = 200_000
"""The kernel gives up at a million (BPF_COMPLEXITY_LIMIT_INSNS), each takes over a microsecond of every launch, and
verifiers of other versions need more or fewer."""


@pytest.mark.parametrize("name", OBJECT.programs)
def test_the_verifier_is_far_from_its_limit(name: str) -> None:
    with load(OBJECT, None) as loaded:
        code = linked(OBJECT.programs[name], loaded.maps)
        fd, said = load_code(name, code, OBJECT.license, log_bytes=1 << 16, log_level=LOG_STATISTICS)
        os.close(fd)
    steps = re.search(r"processed (\d+) insns", said)
    assert steps is not None, said
    assert int(steps[1]) < MAX_STEPS
