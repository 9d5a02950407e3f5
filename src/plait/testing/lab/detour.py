"""The program beside a switch that carries the UDP datagrams of one direction between two ports, and misbehaves.

It decides nothing (see `noise`) and makes no rules: that the switch itself drops these datagrams is the lab's part.
"""

import argparse
import array
import os
import random
import select
import socket
import struct
import sys
from collections.abc import Sequence

from plait.testing.lab.noise import Noise, Rates

_QUIET_SECONDS = 0.005  # after this long without a datagram, those that wait to be overtaken go
_BURST = 64  # datagrams between two writings of the counts
_BUFFER_BYTES = 16 << 20
_LONGEST_FRAME = 16384  # longer than any MTU of an Ethernet link

# linux/if_packet.h, linux/if_ether.h, asm-generic/socket.h, linux/virtio_net.h
_ETH_P_ALL, _ETH_P_IP = 0x0003, 0x0800
_SOL_PACKET, _PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING = 263, 15, 23
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_UDP = 17
# linux/bpf_common.h: load a word, a half, a byte of the frame; jump if equal; return.
_LD_WORD, _LD_HALF, _LD_BYTE, _JUMP_EQUAL, _RETURN = 0x20, 0x28, 0x30, 0x15, 0x06


def main(words: Sequence[str]) -> None:
    """Carry until killed; when it begins, the file of counts is there."""
    options = _options(words)
    rates = Rates(options.loss, options.reorder, options.duplicate)
    noise = Noise(rates, random.Random(options.seed))
    with _port(options.source, options.mac) as incoming, _port(options.target, None) as outgoing:
        counts = os.open(options.counts, os.O_WRONLY | os.O_CREAT, 0o600)
        _carry(incoming, outgoing, noise, counts)


def _carry(incoming: socket.socket, outgoing: socket.socket, noise: Noise, counts: int) -> None:
    while True:
        os.pwrite(counts, noise.counts.packed(), 0)
        ready, _, _ = select.select([incoming], [], [], _QUIET_SECONDS if noise.is_holding else None)
        if not ready:
            _send(outgoing, noise.rest())
        for _ in range(_BURST if ready else 0):
            try:
                frame = incoming.recv(_LONGEST_FRAME)
            except BlockingIOError:
                break
            _send(outgoing, noise.take(frame))


def _send(outgoing: socket.socket, frames: Sequence[bytes]) -> None:
    for frame in frames:
        try:
            outgoing.send(frame)
        except OSError:  # too long for the port, or its queue is full: a switch says nothing either
            continue


def _port(device: str, mac: str | None) -> socket.socket:
    """Open a port of the switch, to take the UDP datagrams for a MAC address, or only to send.

    Each frame has a virtio header before it, which says whether its checksum is still to be filled in.
    """
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    port.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    if mac is not None:
        port.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        port.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        _attach_filter(port, bytes.fromhex(mac.replace(":", "")))
        port.setblocking(False)
    # For one protocol only, the kernel would ask us after the bridge has taken the frame.
    port.bind((device, _ETH_P_ALL if mac is not None else 0))
    return port


def _attach_filter(port: socket.socket, mac: bytes) -> None:
    """Let the kernel drop all but IPv4 UDP to this MAC address (fragments too)."""
    tests = (
        (_LD_HALF, 12, _ETH_P_IP),
        (_LD_BYTE, 14 + 9, _UDP),
        (_LD_WORD, 0, int.from_bytes(mac[:4], "big")),
        (_LD_HALF, 4, int.from_bytes(mac[4:], "big")),
    )
    program = b""
    for number, (load, offset, wanted) in enumerate(tests):
        to_refusal = 2 * (len(tests) - number) - 1
        program += struct.pack("=HBBI", load, 0, 0, offset)
        program += struct.pack("=HBBI", _JUMP_EQUAL, 0, to_refusal, wanted)
    program += struct.pack("=HBBI", _RETURN, 0, 0, 0xFFFFFFFF)
    program += struct.pack("=HBBI", _RETURN, 0, 0, 0)
    code = array.array("B", program)
    port.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program) // 8, code.buffer_info()[0]))


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("source", "target", "mac", "counts", "seed"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("loss", "reorder", "duplicate"):
        parser.add_argument(f"--{name}", type=float, required=True)
    return parser.parse_args(words)


if __name__ == "__main__":
    main(sys.argv[1:])
