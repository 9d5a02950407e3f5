"""TCP and UDP packets and super-frames for tests, put together field by field with plain loops."""

from dataclasses import dataclass

TCP, UDP = 6, 17
FIN, SYN, PSH, ACK, ECE, CWR = 0x01, 0x02, 0x08, 0x10, 0x40, 0x80


def ones_sum(data: bytes, total: int = 0) -> int:
    """The folded sum of 16-bit words of RFC 1071, word by word."""
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\x00"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


@dataclass(frozen=True)
class Packet:
    """A packet and what its headers say; the defaults are a segment of a usual stream."""

    payload: bytes
    is_ipv6: bool = False
    protocol: int = TCP
    sequence: int = 1000
    flags: int = ACK
    identification: int = 7
    df: bool = True
    ports: tuple[int, int] = (5201, 40000)
    acknowledgement: int = 77
    window: int = 501
    options: bytes = b""
    vlan: bytes = b""
    ip_options: bytes = b""
    ttl: int = 64
    macs: bytes = bytes.fromhex("aabbcc000002aabbcc000001")

    @property
    def addresses(self) -> bytes:
        if self.is_ipv6:
            return b"\xfd" + bytes(14) + b"\x01\xfd" + bytes(14) + b"\x02"
        return bytes([10, 32, 0, 1, 10, 32, 0, 2])

    @property
    def ip_at(self) -> int:
        return 14 + len(self.vlan)

    @property
    def l4_at(self) -> int:
        return self.ip_at + (40 if self.is_ipv6 else 20 + len(self.ip_options))

    @property
    def checksum_offset(self) -> int:
        return 16 if self.protocol == TCP else 6

    def frame(self, partial: bool = False) -> bytes:
        """The frame; `partial` leaves the sum of the pseudo header in the checksum, as a kernel does that offloads."""
        l4 = self._l4_header()
        length = len(l4) + len(self.payload)
        pseudo = ones_sum(self.addresses + length.to_bytes(4, "big") + self.protocol.to_bytes(4, "big"))
        value = pseudo if partial else (ones_sum(l4 + self.payload, pseudo) ^ 0xFFFF) or 0xFFFF
        at = self.checksum_offset
        l4 = l4[:at] + value.to_bytes(2, "big") + l4[at + 2 :]
        ether_type = b"\x86\xdd" if self.is_ipv6 else b"\x08\x00"
        return self.macs + self.vlan + ether_type + self._ip_header(length) + l4 + self.payload

    def raw(self) -> bytes:
        """A single packet with an unfinished checksum, as a tap gives it."""
        return self._vnet(0, 0) + self.frame(partial=True)

    def super_frame(self, gso_size: int, ecn: int = 0) -> bytes:
        """The packet as a super-frame of `gso_size` bytes of payload each."""
        kind = 5 if self.protocol == UDP else (4 if self.is_ipv6 else 1) | ecn
        return self._vnet(kind, gso_size) + self.frame(partial=True)

    def _vnet(self, kind: int, gso_size: int) -> bytes:
        header = self.l4_at + len(self._l4_header()) if kind else 0
        numbers = (header, gso_size, self.l4_at, self.checksum_offset)
        return bytes([1, kind]) + b"".join(number.to_bytes(2, "little") for number in numbers)

    def _ip_header(self, length: int) -> bytes:
        if self.is_ipv6:
            return b"\x60\x01\x23\x45" + length.to_bytes(2, "big") + bytes([self.protocol, self.ttl]) + self.addresses
        size = 20 + len(self.ip_options)
        fields = bytes([0x40 + size // 4, 0]) + (size + length).to_bytes(2, "big")
        fields += self.identification.to_bytes(2, "big") + (b"\x40\x00" if self.df else b"\x00\x00")
        fields += bytes([self.ttl, self.protocol])
        rest = self.addresses + self.ip_options
        return fields + (ones_sum(fields + rest) ^ 0xFFFF).to_bytes(2, "big") + rest

    def _l4_header(self) -> bytes:
        ports = b"".join(port.to_bytes(2, "big") for port in self.ports)
        if self.protocol == UDP:
            return ports + (8 + len(self.payload)).to_bytes(2, "big") + bytes(2)
        numbers = self.sequence.to_bytes(4, "big") + self.acknowledgement.to_bytes(4, "big")
        fields = bytes([(5 + len(self.options) // 4) << 4, self.flags]) + self.window.to_bytes(2, "big")
        return ports + numbers + fields + bytes(4) + self.options
