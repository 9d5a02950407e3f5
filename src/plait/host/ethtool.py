"""Offloads and the driver of an interface, by ethtool's ioctls, in the network namespace of the calling thread."""

import array
import errno
import fcntl
import socket
import struct
from collections.abc import Mapping

from plait.errors import KernelLacks
from plait.host.kernel_errors import kernel_error

# linux/sockios.h, linux/ethtool.h
_SIOCETHTOOL = 0x8946
_ETHTOOL_GDRVINFO = 0x03
_ETHTOOL_STXCSUM = 0x17
_ETHTOOL_GSTRINGS = 0x1B
_ETHTOOL_GSSET_INFO = 0x37
_ETHTOOL_GFEATURES = 0x3A
_ETHTOOL_SFEATURES = 0x3B
_ETH_SS_FEATURES = 4
_ETH_GSTRING_LEN = 32
_DRVINFO_BYTES = 196
_BLOCK_BITS = 32  # features come in blocks of 32, each with four words
_IFNAMSIZ = 16


def set_tx_checksum(interface: str, on: bool) -> None:
    """Whether the kernel may leave checksums of sent packets to the device. Raise NoSuchLink, KernelLacks."""
    request = bytearray(struct.pack("=II", _ETHTOOL_STXCSUM, int(on)))
    _ioctl(interface, request, f"turn transmit checksum offload of {interface} {'on' if on else 'off'}")


def driver(interface: str) -> str:
    """The name of the driver (`veth`, `virtio_net`). Raise NoSuchLink, KernelLacks."""
    answer = bytearray(_DRVINFO_BYTES)
    struct.pack_into("=I", answer, 0, _ETHTOOL_GDRVINFO)
    _ioctl(interface, answer, f"ask for the driver of {interface}")
    return _text(answer[4:36])


def features(interface: str) -> dict[str, bool]:
    """All offloads by the kernel's names (`tx-tcp-segmentation`, `rx-gro`), and whether they are on."""
    names = _names(interface)
    words = _feature_words(interface, len(names))
    return {name: bool(words[bit // _BLOCK_BITS][2] >> (bit % _BLOCK_BITS) & 1) for bit, name in enumerate(names)}


def set_features(interface: str, changes: Mapping[str, bool]) -> None:
    """Turn offloads on and off. Raise NoSuchLink; KernelLacks if one is unknown here or cannot be changed."""
    names = _names(interface)
    unknown = sorted(set(changes) - set(names))
    if unknown:
        raise KernelLacks(f"this kernel has no offload {', '.join(unknown)}; `ethtool -k {interface}` lists them")
    blocks = [[0, 0] for _ in range(_blocks(len(names)))]
    for name, on in changes.items():
        block, bit = divmod(names.index(name), _BLOCK_BITS)
        blocks[block][0] |= 1 << bit
        blocks[block][1] |= int(on) << bit
    request = bytearray(struct.pack("=II", _ETHTOOL_SFEATURES, len(blocks)))
    for valid, requested in blocks:
        request += struct.pack("=II", valid, requested)
    _ioctl(interface, request, f"change offloads of {interface}")
    refused = sorted(name for name, on in features(interface).items() if changes.get(name, on) != on)
    if refused:
        raise KernelLacks(f"{interface} does not let {', '.join(refused)} be changed; see `ethtool -k {interface}`")


def _names(interface: str) -> list[str]:
    doing = f"list the offloads of {interface}"
    info = bytearray(struct.pack("=IIQI", _ETHTOOL_GSSET_INFO, 0, 1 << _ETH_SS_FEATURES, 0))
    _ioctl(interface, info, doing)
    (count,) = struct.unpack_from("=I", info, 16)
    strings = bytearray(12 + count * _ETH_GSTRING_LEN)
    struct.pack_into("=III", strings, 0, _ETHTOOL_GSTRINGS, _ETH_SS_FEATURES, count)
    _ioctl(interface, strings, doing)
    return [_text(strings[at : at + _ETH_GSTRING_LEN]) for at in range(12, len(strings), _ETH_GSTRING_LEN)]


def _feature_words(interface: str, count: int) -> list[tuple[int, ...]]:
    """For each block: what is available, what was requested, what is active, what never changes."""
    answer = bytearray(8 + 16 * _blocks(count))
    struct.pack_into("=II", answer, 0, _ETHTOOL_GFEATURES, _blocks(count))
    _ioctl(interface, answer, f"read the offloads of {interface}")
    return [struct.unpack_from("=IIII", answer, at) for at in range(8, len(answer), 16)]


def _blocks(count: int) -> int:
    return -(-count // _BLOCK_BITS)


def _text(raw: bytes | bytearray) -> str:
    return bytes(raw).split(b"\0", 1)[0].decode("ascii", "replace")


def _ioctl(interface: str, data: bytearray, doing: str) -> None:
    """Hand `data` to the kernel, which may write its answer into it."""
    name = interface.encode()
    if not 0 < len(name) < _IFNAMSIZ:
        raise kernel_error(errno.ENODEV, doing)
    buffer = array.array("B", data)
    request = bytearray(struct.pack("16sP16x", name, buffer.buffer_info()[0]))
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            fcntl.ioctl(channel, _SIOCETHTOOL, request, True)
    except OSError as error:
        raise kernel_error(error.errno or 0, doing) from error
    data[:] = buffer.tobytes()
