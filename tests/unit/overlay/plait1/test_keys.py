"""Keys, nonces and seals, against HKDF made of the standard library's HMAC and the ciphers themselves."""

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from plait.overlay.sleeve.plait1 import keys
from plait.overlay.sleeve.plait1.keys import EPOCH_BITS, Cipher, Key, KeySchedule

SESSION_KEY = bytes(range(32))
EPOCH = 1 << EPOCH_BITS
CIPHERS = pytest.mark.parametrize("cipher", list(Cipher))
LIBRARY: dict[Cipher, type[AESGCM] | type[ChaCha20Poly1305]] = {
    Cipher.AES_256_GCM: AESGCM,
    Cipher.CHACHA20_POLY1305: ChaCha20Poly1305,
}


def derived(cipher: int, direction: int, generation: int, epoch: int) -> bytes:
    """RFC 5869 by hand; 32 bytes are one block of SHA-256."""
    prk = hmac.digest(b"plait1", SESSION_KEY, hashlib.sha256)
    info = b"plait1 key" + bytes((cipher, direction)) + generation.to_bytes(4, "big") + epoch.to_bytes(8, "big")
    return hmac.digest(prk, info + b"\x01", hashlib.sha256)


def schedule(cipher: Cipher = Cipher.AES_256_GCM, *, from_dialler: bool = True, generation: int = 0) -> KeySchedule:
    return KeySchedule(SESSION_KEY, cipher, from_dialler=from_dialler, generation=generation)


@CIPHERS
@pytest.mark.parametrize("from_dialler", [True, False])
@pytest.mark.parametrize("generation", [0, 1, 2**32 - 1])
@pytest.mark.parametrize(
    ("sequence", "epoch"), [(0, 0), (EPOCH - 1, 0), (EPOCH, 1), (2**48, 2**28), (2**64 - 1, 2**44 - 1)]
)
def test_derivation(cipher: Cipher, from_dialler: bool, generation: int, sequence: int, epoch: int) -> None:
    key = schedule(cipher, from_dialler=from_dialler, generation=generation).key(sequence)
    assert key.raw == derived(cipher, 1 if from_dialler else 2, generation, epoch)
    assert key.cipher is cipher
    assert len(key.raw) == keys.KEY_BYTES


@CIPHERS
def test_a_seal_is_the_ciphers(cipher: Cipher) -> None:
    key = Key(cipher, bytes(range(32)))
    sealed = key.seal(keys.PAYLOAD, 0x83, 0x0102030405060708, b"payload", b"associated")
    nonce = bytes.fromhex("02 83 0000 0102030405060708")
    assert sealed == LIBRARY[cipher](bytes(range(32))).encrypt(nonce, b"payload", b"associated")
    assert len(sealed) == len(b"payload") + 16
    assert key.open(keys.PAYLOAD, 0x83, 0x0102030405060708, sealed, b"associated") == b"payload"


@CIPHERS
def test_a_seal_opens_with_exactly_what_it_was_made_with(cipher: Cipher) -> None:
    key = Key(cipher, bytes(32))
    sealed = key.seal(keys.BLOB, 0, 9, b"blob", b"associated")
    assert key.open(keys.BLOB, 0, 9, sealed, b"associated") == b"blob"
    assert key.open(keys.PAYLOAD, 0, 9, sealed, b"associated") is None
    assert key.open(keys.BLOB, 1, 9, sealed, b"associated") is None
    assert key.open(keys.BLOB, 0, 10, sealed, b"associated") is None
    assert key.open(keys.BLOB, 0, 9, sealed, b"other") is None
    assert key.open(keys.BLOB, 0, 9, sealed[:-1], b"associated") is None
    assert key.open(keys.BLOB, 0, 9, b"", b"associated") is None
    assert Key(cipher, b"\x01" * 32).open(keys.BLOB, 0, 9, sealed, b"associated") is None


def test_the_newest_epoch_that_proved_right_is_at_hand() -> None:
    ring = schedule()
    first = ring.key(5)
    assert ring.key(6) is not first, "not kept before it proved to be right"
    ring.used(5, first)
    assert ring.key(6) is first
    second = ring.key(EPOCH)
    assert ring.key(6) is first
    ring.used(EPOCH, second)
    assert ring.key(EPOCH + 1) is second
    late = ring.key(6)
    assert late.raw == first.raw
    ring.used(6, late)
    assert ring.key(EPOCH + 1) is second, "what is late does not take the place of what is new"


def test_numbers_of_seals_differ() -> None:
    kinds = (keys.RECORDS, keys.PAYLOAD, keys.PROBE, keys.ACK, keys.BLOB)
    assert kinds == (1, 2, 3, 4, 5)


# Which cipher


@pytest.fixture
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(keys, "_CPUINFO", str(path))
    keys.preferred_cipher.cache_clear()
    yield path
    keys.preferred_cipher.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: fpu aes avx\n", Cipher.AES_256_GCM),
        ("Features\t: fp asimd aes pmull\n", Cipher.AES_256_GCM),
        ("flags\t\t: fpu vaes\nmodel name: aes\n", Cipher.CHACHA20_POLY1305),
        ("", Cipher.CHACHA20_POLY1305),
    ],
)
def test_a_processor_with_instructions_for_aes_prefers_it(cpuinfo: Path, text: str, expected: Cipher) -> None:
    cpuinfo.write_text(text)
    assert keys.preferred_cipher() is expected


def test_a_machine_that_does_not_say(cpuinfo: Path) -> None:
    assert not cpuinfo.exists()
    assert keys.preferred_cipher() is Cipher.CHACHA20_POLY1305


@pytest.mark.parametrize("ours", ["aes", "none"])
@pytest.mark.parametrize("theirs", ["aes256gcm", "chacha20poly1305", "rot13", "", None])
def test_aes_only_where_both_do_it_well(cpuinfo: Path, ours: str, theirs: str | None) -> None:
    cpuinfo.write_text(f"flags: {ours}\n")
    both = ours == "aes" and theirs == "aes256gcm"
    assert keys.agreed_cipher(theirs) is (Cipher.AES_256_GCM if both else Cipher.CHACHA20_POLY1305)
