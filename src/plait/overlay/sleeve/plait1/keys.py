"""Keys and ciphers of an encrypted plait1 connection (docs/protocol/sleeve2.md, section 5)."""

from enum import IntEnum
from functools import lru_cache
from struct import Struct
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

KEY_BYTES = 32
EPOCH_BITS = 20
NONCE = Struct(">BBHQ")
RECORDS, PAYLOAD, PROBE, ACK, BLOB = 1, 2, 3, 4, 5
"""Kinds of sealed pieces, the first byte of a nonce."""

CIPHER_FEATURE = "PlaitCipher"
_SALT = b"plait1"
_INFO = b"plait1 key"
_FIELDS = Struct(">BBIQ")
_CPUINFO = "/proc/cpuinfo"


class Cipher(IntEnum):
    """The AEAD of a connection; the number is part of the key derivation."""

    AES_256_GCM = 1
    CHACHA20_POLY1305 = 2


CIPHER_WORDS = {Cipher.AES_256_GCM: "aes256gcm", Cipher.CHACHA20_POLY1305: "chacha20poly1305"}

CIPHER_NAMES = {Cipher.AES_256_GCM: "AES-256-GCM", Cipher.CHACHA20_POLY1305: "ChaCha20-Poly1305"}


class Aead(Protocol):
    """What both ciphers of the library do."""

    def encrypt(self, nonce: bytes, data: bytes | bytearray | memoryview, associated_data: bytes | None) -> bytes:
        """Seal."""

    def decrypt(self, nonce: bytes, data: bytes | bytearray | memoryview, associated_data: bytes | None) -> bytes:
        """Open; raises InvalidTag."""


class Key:
    """The key of one epoch. The compiled engine makes `native` of `raw`, freed with this; the rest is the reference."""

    __slots__ = ("_aead", "cipher", "native", "raw")

    def __init__(self, cipher: Cipher, raw: bytes) -> None:
        self.cipher = cipher
        self.raw = raw
        self.native: object = None
        self._aead: Aead = AESGCM(raw) if cipher is Cipher.AES_256_GCM else ChaCha20Poly1305(raw)

    def seal(
        self, kind: int, index: int, sequence: int, data: bytes | bytearray | memoryview, associated: bytes
    ) -> bytes:
        """Give the sealed bytes, 16 longer than `data`."""
        return self._aead.encrypt(NONCE.pack(kind, index, 0, sequence), data, associated)

    def open(
        self, kind: int, index: int, sequence: int, data: bytes | bytearray | memoryview, associated: bytes
    ) -> bytes | None:
        """Give the plaintext, None if the seal is not this key's."""
        try:
            return self._aead.decrypt(NONCE.pack(kind, index, 0, sequence), data, associated)
        except InvalidTag:
            return None


class KeySchedule:
    """The keys of one direction of one connection, by the sequence they serve."""

    def __init__(self, session_key: bytes, cipher: Cipher, *, from_dialler: bool, generation: int) -> None:
        extract = HMAC(_SALT, hashes.SHA256())
        extract.update(session_key)
        self._prk = extract.finalize()
        self._cipher = cipher
        self._direction = 1 if from_dialler else 2
        self._generation = generation
        self._epoch = -1
        self._key: Key | None = None

    def key(self, sequence: int) -> Key:
        """Give the key for a sequence; that of the newest epoch that was `used` is kept at hand."""
        if self._key is not None and sequence >> EPOCH_BITS == self._epoch:
            return self._key
        return self._derive(sequence >> EPOCH_BITS)

    def newest(self) -> tuple[Key, int, int] | None:
        """Give the key that is kept at hand, and the first and last sequence it serves; None before one was used."""
        return None if self._key is None else (self._key, *epoch_of(self._epoch << EPOCH_BITS))

    def used(self, sequence: int, key: Key) -> None:
        """Keep the key of a sequence that proved to be right."""
        if sequence >> EPOCH_BITS > self._epoch:
            self._epoch, self._key = sequence >> EPOCH_BITS, key

    def _derive(self, epoch: int) -> Key:
        info = _INFO + _FIELDS.pack(self._cipher, self._direction, self._generation, epoch)
        return Key(self._cipher, HKDFExpand(hashes.SHA256(), KEY_BYTES, info).derive(self._prk))


def epoch_of(sequence: int) -> tuple[int, int]:
    """Give the first and last sequence that have the key of this one."""
    first = sequence >> EPOCH_BITS << EPOCH_BITS
    return first, first + (1 << EPOCH_BITS) - 1


@lru_cache(maxsize=1)
def preferred_cipher() -> Cipher:
    """Say which cipher this machine does well: AES where the processor has instructions for it."""
    try:
        with open(_CPUINFO, encoding="ascii", errors="replace") as lines:
            words = {word for line in lines if line.lower().startswith(("flags", "features")) for word in line.split()}
    except OSError:
        return Cipher.CHACHA20_POLY1305
    return Cipher.AES_256_GCM if "aes" in words else Cipher.CHACHA20_POLY1305


def agreed_cipher(theirs: str | None) -> Cipher:
    """Give the cipher towards a peer that named `theirs` in the handshake."""
    both_have_aes = theirs == CIPHER_WORDS[Cipher.AES_256_GCM] and preferred_cipher() is Cipher.AES_256_GCM
    return Cipher.AES_256_GCM if both_have_aes else Cipher.CHACHA20_POLY1305
