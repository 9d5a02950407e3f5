"""Features: what two peers tell each other of themselves in the handshake, a map of texts.

Judges the form only; collisions of names and the choice of overlays are others' business.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from plait.errors import PlaitError
from plait.mesh import gob
from plait.mesh.name import InvalidPeerName, PeerName

FLAVOUR = "mac"
SHORT_ID_BITS = 12

_KNOWN_KEYS = frozenset({"PeerNameFlavour", "Name", "NickName", "UID", "ConnID", "ShortID", "Trusted", "Overlays"})
# What Go's strconv.ParseBool takes.
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_DIGITS = re.compile(r"[0-9]+\Z")
_FEATURES = gob.Map(gob.STRING, gob.STRING)
_encoder = gob.Encoder(_FEATURES)


class FeaturesError(PlaitError):
    """Features that lack something or hold an unreadable value."""


class WrongFlavour(FeaturesError):
    """The peer counts names in another way; the two can never be in one mesh."""


@dataclass(frozen=True, slots=True)
class LocalFeatures:
    """What this node announces on one connection. `extra` holds plait's own keys, which Weave peers ignore.

    `conn_id` is random for each connection; `trusted` says whether we trust the remote address.
    """

    name: PeerName
    nickname: str
    uid: int
    conn_id: int
    short_id: int | None
    trusted: bool
    overlays: tuple[str, ...]
    extra: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Give the handshake's features message; raises FeaturesError if `extra` has one of the protocol's keys."""
        if taken := _KNOWN_KEYS & self.extra.keys():
            raise FeaturesError(f"the feature keys {', '.join(sorted(taken))} belong to the protocol; choose others")
        features = {
            "PeerNameFlavour": FLAVOUR,
            "Name": str(self.name),
            "NickName": self.nickname,
            "UID": str(self.uid),
            "ConnID": str(self.conn_id),
            "Trusted": "true" if self.trusted else "false",
            "Overlays": " ".join(self.overlays),
        }
        if self.short_id is not None:
            features["ShortID"] = str(self.short_id)
        return _encoder.stream(features | dict(self.extra))


@dataclass(frozen=True, slots=True)
class RemoteFeatures:
    """What a peer announced. `overlays` is None if it sent none: it is older than the choice of overlays."""

    name: PeerName
    nickname: str
    uid: int
    conn_id: int
    short_id: int | None
    trusted: bool
    overlays: tuple[str, ...] | None
    extra: Mapping[str, str]

    @classmethod
    def parse(cls, features: Mapping[str, str]) -> "RemoteFeatures":
        """Read the map; raises WrongFlavour or FeaturesError."""
        flavour = _required(features, "PeerNameFlavour")
        if flavour != FLAVOUR:
            raise WrongFlavour(
                f"peer name flavour mismatch (ours: {FLAVOUR!r}, theirs: {flavour!r}): the peer's program was built "
                "for another kind of peer names and can never join this network"
            )
        overlays = features.get("Overlays")
        return cls(
            name=_parse_name(_required(features, "Name")),
            nickname=_required(features, "NickName"),
            uid=_parse_number("UID", _required(features, "UID"), 64),
            conn_id=_parse_number("ConnID", _required(features, "ConnID"), 64),
            short_id=_parse_number("ShortID", features["ShortID"], SHORT_ID_BITS) if "ShortID" in features else None,
            trusted=_parse_truth("Trusted", features["Trusted"]) if "Trusted" in features else False,
            overlays=None if overlays is None else tuple(overlay for overlay in overlays.split(" ") if overlay),
            extra={key: value for key, value in features.items() if key not in _KNOWN_KEYS},
        )

    @classmethod
    def decode(cls, data: bytes) -> "RemoteFeatures":
        """Read the handshake's features message; raises GobError, WrongFlavour or FeaturesError."""
        return cls.parse(gob.decode(_FEATURES, data))


def _required(features: Mapping[str, str], key: str) -> str:
    if key not in features:
        raise FeaturesError(f"field {key} is missing in the peer's features: it is no sound Weave or plait peer")
    return features[key]


def _parse_name(text: str) -> PeerName:
    try:
        return PeerName.parse(text)
    except InvalidPeerName as error:
        raise FeaturesError(f"field Name of the peer's features: {error}") from error


def _parse_number(key: str, text: str, bits: int) -> int:
    """Like Go: decimal digits only. Long texts are not even converted, which takes Python quadratic time."""
    if not _DIGITS.match(text):
        raise FeaturesError(f"field {key} of the peer's features is {text[:40]!r}, which is no decimal number")
    digits = text.lstrip("0") or "0"
    if len(digits) > 20 or int(digits) >> bits:
        raise FeaturesError(f"field {key} of the peer's features does not fit {bits} bits: {text[:40]}")
    return int(digits)


def _parse_truth(key: str, text: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise FeaturesError(f"field {key} of the peer's features is {text[:40]!r}, which is neither true nor false")
    return text in _TRUE
