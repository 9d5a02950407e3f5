"""Test frames and an independent look at them."""

from dataclasses import dataclass

ETHERNET = bytes.fromhex("aabbcc000002aabbcc000001")


def checksum_is_right(data: bytes) -> bool:
    """A checksum field inside `data` makes the ones' complement sum 0xffff."""
    total = sum(int.from_bytes(data[at : at + 2].ljust(2, b"\x00"), "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


def ipv4(
    payload: bytes,
    *,
    df: bool = False,
    flags_offset: int | None = None,
    protocol: int = 17,
    options: bytes = b"",
    source: str = "10.32.0.1",
    destination: str = "10.32.0.2",
    trailer: bytes = b"",
) -> bytes:
    """An IPv4 packet in an Ethernet frame; the header checksum is left zero."""
    fields = bytes([0x45 + len(options) // 4, 0]) + (20 + len(options) + len(payload)).to_bytes(2, "big") + b"\x12\x34"
    fields += (flags_offset if flags_offset is not None else 0x4000 * df).to_bytes(2, "big")
    fields += bytes([64, protocol, 0, 0]) + bytes(map(int, source.split("."))) + bytes(map(int, destination.split(".")))
    return ETHERNET + b"\x08\x00" + fields + options + payload + trailer


def ipv6(payload: bytes, *, source: bytes = b"\xfd" + bytes(14) + b"\x01", next_header: int = 17) -> bytes:
    destination = b"\xfd" + bytes(14) + b"\x02"
    header = b"\x60\x00\x00\x00" + len(payload).to_bytes(2, "big") + bytes([next_header, 64]) + source + destination
    return ETHERNET + b"\x86\xdd" + header + payload


@dataclass(frozen=True, slots=True)
class Ipv4Packet:
    header: bytes
    total: int
    flags: int
    offset: int
    payload: bytes

    @classmethod
    def of(cls, frame: bytes) -> "Ipv4Packet":
        packet = frame[14:]
        header_bytes = (packet[0] & 15) * 4
        flags_offset = int.from_bytes(packet[6:8], "big")
        total = int.from_bytes(packet[2:4], "big")
        return cls(
            packet[:header_bytes], total, flags_offset >> 13, (flags_offset & 0x1FFF) * 8, packet[header_bytes:total]
        )
