from typing import Any

import pytest

import golden
from plait.mesh.name import NAME_BYTES, InvalidPeerName, PeerName

NAMES = "mesh/peer_names_mac.json"

golden.left_out(
    "mesh/peer_names_hash.json", "", "names of the hash flavour, which Weave Net never used and plait does not speak"
)


@pytest.mark.parametrize("case", golden.cases(NAMES, "from_string"), ids=lambda case: repr(case["input"]))
def test_texts_are_read_like_by_weave(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(InvalidPeerName):
            PeerName.parse(case["input"])
        return
    name = PeerName.parse(case["input"])
    assert (str(name), int(name), name.to_bytes6().hex()) == (case["string"], case["uint"], case["bytes_hex"])


@pytest.mark.parametrize("case", golden.cases(NAMES, "from_bytes"), ids=lambda case: f"{case['bytes_hex']!r}")
def test_bytes_are_shown_like_by_weave(case: dict[str, Any]) -> None:
    """Topology's names may have any length; the last six bytes are what counts (see `topology`)."""
    raw = bytes.fromhex(case["bytes_hex"])
    name = PeerName(int.from_bytes(raw[-NAME_BYTES:], "big"))
    assert str(name) == case["string"]
    assert name == case["uint"] % 2**48
    if len(raw) == NAME_BYTES:
        assert PeerName.from_bytes6(raw) == name
    else:
        with pytest.raises(InvalidPeerName):
            PeerName.from_bytes6(raw)


def test_names_have_48_bits() -> None:
    with pytest.raises(InvalidPeerName):
        PeerName(1 << 48)
    with pytest.raises(InvalidPeerName):
        PeerName(-1)
