"""Cryptography of the mesh's TCP connections: session keys, nonces, sealing (spec mesh, section 3).

Draws no keys: private keys come from the caller.
"""

import hashlib

from nacl import bindings
from nacl import exceptions as nacl_exceptions

from plait.errors import PlaitError

KEY_BYTES = 32
TAG_BYTES = 16

_FROM_INITIATOR = 0x80
_IS_TCP = 0x40


class WeakPublicKey(PlaitError):
    """A public key that leaves nothing secret."""


class NotAuthentic(PlaitError):
    """Sealed bytes that this key and nonce do not open."""


def public_key(private: bytes) -> bytes:
    """Give the Curve25519 public key of a private key of 32 random bytes."""
    return bindings.crypto_scalarmult_base(private)


def session_key(private: bytes, remote_public: bytes, password: bytes) -> bytes:
    """Agree on the key of a connection: SHA-256 over NaCl's precomputed box key and the password.

    Raises WeakPublicKey for a remote key of low order, which Weave takes. No honest peer has one; with it the key would
    be the same for all connections, and so would nonces.
    """
    try:
        shared = bindings.crypto_box_beforenm(remote_public, private)
    except nacl_exceptions.RuntimeError as error:
        raise WeakPublicKey(
            "the peer sent a public key that makes encryption void; it is no honest peer: look who connects from there"
        ) from error
    return hashlib.sha256(shared + password).digest()


def tcp_nonce(sender_is_initiator: bool, number: int) -> bytes:
    """Give the nonce of a direction's message, counted from 0."""
    first = _IS_TCP | (_FROM_INITIATOR if sender_is_initiator else 0)
    return bytes([first]) + bytes(15) + number.to_bytes(8, "big")


def seal(key: bytes, nonce: bytes, message: bytes) -> bytes:
    """Encrypt and authenticate: 16 bytes longer than the message."""
    return bindings.crypto_secretbox(message, nonce, key)


def open_sealed(key: bytes, nonce: bytes, sealed: bytes) -> bytes:
    """Decrypt; raises NotAuthentic."""
    try:
        return bindings.crypto_secretbox_open(sealed, nonce, key)
    except nacl_exceptions.CryptoError as error:
        raise NotAuthentic("a sealed message does not open") from error
