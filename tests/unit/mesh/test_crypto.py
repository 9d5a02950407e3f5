from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_box_beforenm, crypto_scalarmult

import golden
from plait.mesh import crypto

KEYS = golden.cases("mesh/session_keys.json")
keys = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize("case", KEYS, ids=golden.case_id)
def test_session_keys_of_weave(case: dict[str, Any]) -> None:
    a_private, b_private = (bytes.fromhex(case[f"{side}_private_hex"]) for side in "ab")
    a_public, b_public = (crypto.public_key(private) for private in (a_private, b_private))
    assert (a_public.hex(), b_public.hex()) == (case["a_public_hex"], case["b_public_hex"])
    assert crypto_scalarmult(a_private, b_public).hex() == case["x25519_raw_hex"]
    assert crypto_box_beforenm(b_public, a_private).hex() == case["box_precomputed_hex"]
    password = bytes.fromhex(case["password_hex"])
    assert password == case["password"].encode()
    for private, public in ((a_private, b_public), (b_private, a_public)):
        assert crypto.session_key(private, public, password).hex() == case["session_key_hex"]


@pytest.mark.parametrize("weak", [bytes(32), b"\x01" + bytes(31)])
def test_public_keys_of_low_order_are_refused(weak: bytes) -> None:
    with pytest.raises(crypto.WeakPublicKey):
        crypto.session_key(b"k" * 32, weak, b"secret")


@pytest.mark.parametrize(
    ("is_initiator", "number", "nonce"),
    [
        (True, 0, "c0" + "00" * 23),
        (False, 0, "40" + "00" * 23),
        (False, 2**64 - 1, "40" + "00" * 15 + "ff" * 8),
    ],
)
def test_nonces(is_initiator: bool, number: int, nonce: str) -> None:
    assert crypto.tcp_nonce(is_initiator, number).hex() == nonce


@given(keys, st.binary(max_size=100), st.integers(0, 2**64 - 1))
def test_what_is_sealed_opens(key: bytes, message: bytes, number: int) -> None:
    nonce = crypto.tcp_nonce(True, number)
    sealed = crypto.seal(key, nonce, message)
    assert len(sealed) == len(message) + crypto.TAG_BYTES
    assert crypto.open_sealed(key, nonce, sealed) == message


@given(keys, st.binary(max_size=100))
def test_anything_else_does_not_open(key: bytes, sealed: bytes) -> None:
    with pytest.raises(crypto.NotAuthentic):
        crypto.open_sealed(key, crypto.tcp_nonce(True, 0), sealed)
