"""What the IP and UDP headers around a datagram cost on the way between two hosts, by the version of IP."""

UDP_BYTES = 8
IPV4_BYTES, IPV6_BYTES = 20, 40
"""Headers without options or extension headers, which nodes never send."""

IPV6_EXTRA_BYTES = IPV6_BYTES - IPV4_BYTES


def is_ipv6(ip: str) -> bool:
    """Say whether an address is of IPv6."""
    return ":" in ip


def ip_udp_bytes(*, is_ipv6: bool) -> int:
    """Give the bytes of the IP and UDP headers of a datagram: 28, or 48 with IPv6."""
    return UDP_BYTES + (IPV6_BYTES if is_ipv6 else IPV4_BYTES)
