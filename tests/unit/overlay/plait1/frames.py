"""Frames and super-frames as a tap gives them, behind virtio-net headers, and an independent look at them.

Checksums are computed here word by word, not by plait's own arithmetic.
"""

import random
from struct import pack, pack_into, unpack_from

NEEDS_CSUM = 1
GSO_TCPV4, GSO_TCPV6, GSO_UDP = 1, 4, 5
MAC_A, MAC_B, MAC_C = (bytes.fromhex(f"02aa000000{number:02x}") for number in (1, 2, 3))
BROADCAST = b"\xff" * 6
VNET_BYTES = 10
FIN, PSH, ACK, CWR = 0x01, 0x08, 0x10, 0x80
KINDS = ("tcp4", "tcp6", "udp4", "udp6")


def word_sum(data: bytes) -> int:
    """The ones' complement sum, not complemented."""
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\x00"), "big")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def ip_header(kind: str, l4_bytes: int, *, identification: int = 0x1000, df: bool = True) -> bytes:
    protocol = 6 if kind.startswith("tcp") else 17
    if kind.endswith("6"):
        ends = bytes.fromhex("fd00" + 26 * "0" + "0001" + "fd00" + 26 * "0" + "0002")
        return pack(">IHBB", 6 << 28, l4_bytes, protocol, 64) + ends[:32]
    ends = bytes((10, 32, 0, 1, 10, 32, 0, 2))
    header = bytearray(pack(">BBHHHBBH", 0x45, 0, 20 + l4_bytes, identification, 0x4000 * df, 64, protocol, 0) + ends)
    pack_into(">H", header, 10, word_sum(bytes(header)) ^ 0xFFFF)
    return bytes(header)


def pseudo_sum(ip: bytes, l4_bytes: int) -> int:
    """What the kernel leaves in the checksum field for the receiver to complete."""
    if ip[0] >> 4 == 6:
        return word_sum(ip[8:40] + pack(">IHBB", l4_bytes, 0, 0, ip[6]))
    return word_sum(ip[12:20] + pack(">BBH", 0, ip[9], l4_bytes))


def l4_header(kind: str, payload_bytes: int, *, flags: int, sequence: int, options: int) -> bytearray:
    if kind.startswith("udp"):
        return bytearray(pack(">HHHH", 5001, 5002, 8 + payload_bytes, 0))
    data_offset = 5 + options // 4
    fixed = pack(">HHIIBBHHH", 5001, 5002, sequence, 77, data_offset << 4, flags, 512, 0, 0)
    return bytearray(fixed + bytes([1]) * options)


def super_frame(
    kind: str,
    payload: bytes,
    gso_size: int,
    *,
    destination: bytes = MAC_B,
    source: bytes = MAC_A,
    flags: int = ACK | PSH,
    sequence: int = 1000,
    options: int = 12,
    vlans: int = 0,
    ecn: bool = False,
    identification: int = 0x1000,
) -> bytes:
    """What the kernel has not cut yet."""
    head, l4_at = _headers(kind, payload, destination, source, flags, sequence, options, vlans, identification, True)
    gso = {"tcp4": GSO_TCPV4, "tcp6": GSO_TCPV6}.get(kind, GSO_UDP) | (0x80 if ecn else 0)
    vnet = pack("<BBHHHH", NEEDS_CSUM, gso, len(head), gso_size, l4_at, 16 if kind.startswith("tcp") else 6)
    return vnet + head + payload


def unfinished(
    kind: str,
    payload: bytes,
    *,
    destination: bytes = MAC_B,
    source: bytes = MAC_A,
    flags: int = ACK | PSH,
    options: int = 12,
    vlans: int = 0,
    identification: int = 0x1000,
    df: bool = True,
) -> bytes:
    """A single packet whose checksum the receiving kernel is to finish."""
    head, l4_at = _headers(kind, payload, destination, source, flags, 1000, options, vlans, identification, df)
    vnet = pack("<BBHHHH", NEEDS_CSUM, 0, 0, 0, l4_at, 16 if kind.startswith("tcp") else 6)
    return vnet + head + payload


def finished(
    kind: str,
    payload: bytes,
    *,
    destination: bytes = MAC_B,
    source: bytes = MAC_A,
    df: bool = True,
    vlans: int = 0,
    identification: int = 0x1000,
) -> bytes:
    """A single packet that is complete."""
    raw = unfinished(
        kind, payload, destination=destination, source=source, df=df, vlans=vlans, identification=identification
    )
    return bytes(VNET_BYTES) + complete(raw)


def plain(ether_type: int, payload: bytes, *, destination: bytes = MAC_B, source: bytes = MAC_A) -> bytes:
    return bytes(VNET_BYTES) + destination + source + ether_type.to_bytes(2, "big") + payload


def complete(raw: bytes) -> bytes:
    """The frame as the receiving kernel completes it: the checksum over everything from csum_start on."""
    flags, _, _, _, start, offset = unpack_from("<BBHHHH", raw)
    frame = bytearray(raw[VNET_BYTES:])
    if flags & NEEDS_CSUM:
        pack_into(">H", frame, start + offset, word_sum(bytes(frame[start:])) ^ 0xFFFF or 0xFFFF)
    return bytes(frame)


def packets(raw: bytes) -> list[bytes]:
    """The packets that a kernel makes of a frame or super-frame, with finished checksums; frames in the end."""
    flags, gso, _, gso_size, start, _ = unpack_from("<BBHHHH", raw)
    if not gso:
        return [complete(raw)]
    assert flags == NEEDS_CSUM
    frame = raw[VNET_BYTES:]
    is_tcp = gso & 0x7F != GSO_UDP
    head_bytes = start + ((frame[start + 12] >> 4) * 4 if is_tcp else 8)
    payload = frame[head_bytes:]
    ip_at = _ip_at(frame)
    cut = []
    for number, at in enumerate(range(0, len(payload), gso_size)):
        piece = payload[at : at + gso_size]
        head = bytearray(frame[:head_bytes])
        _of_packet(head, ip_at, start, len(piece), number)
        if is_tcp:
            pack_into(">I", head, start + 4, (unpack_from(">I", frame, start + 4)[0] + at) & 0xFFFFFFFF)
            head[start + 13] &= 0xFF & ~((0 if at + gso_size >= len(payload) else FIN | PSH) | (CWR if number else 0))
        field = start + (16 if is_tcp else 6)
        l4_bytes = head_bytes - start + len(piece)
        pack_into(">H", head, field, pseudo_sum(bytes(head[ip_at:start]), l4_bytes))
        whole = bytes(head) + piece
        pack_into(">H", head, field, word_sum(whole[start:]) ^ 0xFFFF or 0xFFFF)
        cut.append(bytes(head) + piece)
    return cut


def _of_packet(head: bytearray, ip_at: int, start: int, payload_bytes: int, number: int) -> None:
    l4_bytes = len(head) - start + payload_bytes
    if head[ip_at] >> 4 == 6:
        pack_into(">H", head, ip_at + 4, l4_bytes + start - ip_at - 40)
    else:
        pack_into(">H", head, ip_at + 2, l4_bytes + start - ip_at)
        pack_into(">H", head, ip_at + 4, (unpack_from(">H", head, ip_at + 4)[0] + number) & 0xFFFF)
        pack_into(">H", head, ip_at + 10, 0)
        pack_into(">H", head, ip_at + 10, word_sum(bytes(head[ip_at:start])) ^ 0xFFFF)
    if head[ip_at + (6 if head[ip_at] >> 4 == 6 else 9)] == 17:
        pack_into(">H", head, start + 4, l4_bytes)


def _ip_at(frame: bytes) -> int:
    at = 12
    while frame[at : at + 2] == b"\x81\x00":
        at += 4
    return at + 2


def _headers(
    kind: str,
    payload: bytes,
    destination: bytes,
    source: bytes,
    flags: int,
    sequence: int,
    options: int,
    vlans: int,
    identification: int,
    df: bool,
) -> tuple[bytes, int]:
    l4 = l4_header(kind, len(payload), flags=flags, sequence=sequence, options=options)
    l4_bytes = len(l4) + len(payload)
    ip = ip_header(kind, l4_bytes, identification=identification, df=df)
    pack_into(">H", l4, 16 if kind.startswith("tcp") else 6, pseudo_sum(ip, l4_bytes))
    tags = b"\x81\x00\x00\x05" * vlans
    ethernet = destination + source + tags + (b"\x86\xdd" if kind.endswith("6") else b"\x08\x00")
    return ethernet + ip + bytes(l4), len(ethernet) + len(ip)
