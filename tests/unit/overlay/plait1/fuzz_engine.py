"""Compares the compiled engine with the reference on damaged bursts: python fuzz_engine.py LIBRARY SEED COUNT.

A program of its own, since the sanitizers must be loaded before Python. Buffers are exactly as long as promised, so
that a byte too many is seen.
"""

import random
import sys

from plait.overlay.sleeve.native.engine import CompiledEngine
from plait.overlay.sleeve.plait1.engine import PythonEngine
from unit.overlay.plait1 import engines
from unit.overlay.plait1 import frames as f


def main(library: str, seed: int, count: int) -> None:
    reference, compiled = PythonEngine(), CompiledEngine(library)
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        case = engines.damaged_case(rng)
        compiled._frames, compiled._frames_view = compiled._buffer(case.end - case.at)
        assert case.run(reference) == case.run(compiled), f"seed {seed}, case {number}"
        if number % 10 == 0:
            _compare_segments(rng, reference, compiled)
    print("alike")


def _compare_segments(rng: random.Random, reference: PythonEngine, compiled: CompiledEngine) -> None:
    kind, gso_size = rng.choice(f.KINDS), rng.choice((1, 536, 1400))
    size = min(rng.choice((1, gso_size, gso_size * 128, rng.randrange(1, 65000))), 65000)
    raw = f.super_frame(kind, rng.randbytes(size), gso_size)
    for key in engines.KEYS.values():
        assert engines.send(reference, raw, gso_size, key) == engines.send(compiled, raw, gso_size, key)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
