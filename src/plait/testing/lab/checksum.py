"""The checksum of IP, ICMP and UDP headers (RFC 1071)."""

import struct


def checksum(data: bytes) -> int:
    """Of data in which the field for it is 0."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
