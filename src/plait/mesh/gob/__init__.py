"""Go's `encoding/gob`, as far as Weave's wire uses it: read and write values described by a `Type`.

Knows no message: channels and topology describe theirs with `Struct`, `Slice`, `Map`. Interface values are refused.
"""

from plait.mesh.gob.decoder import Decoder, decode
from plait.mesh.gob.encoder import Encoder
from plait.mesh.gob.error import GobError
from plait.mesh.gob.types import (
    BOOL,
    BYTES,
    FLOAT,
    INT,
    STRING,
    UINT,
    UINT16,
    UINT32,
    Int,
    Map,
    Opaque,
    Pointer,
    Scalar,
    Slice,
    Struct,
    Type,
    Uint,
)

__all__ = [
    "BOOL",
    "BYTES",
    "FLOAT",
    "INT",
    "STRING",
    "UINT",
    "UINT16",
    "UINT32",
    "Decoder",
    "Encoder",
    "GobError",
    "Int",
    "Map",
    "Opaque",
    "Pointer",
    "Scalar",
    "Slice",
    "Struct",
    "Type",
    "Uint",
    "decode",
]
