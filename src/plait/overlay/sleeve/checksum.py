"""Sums of 16-bit words for the checksums of RFC 1071, of whole frames and of many payloads at once."""

_FOLDS = tuple((bits, (1 << bits) - 1) for bits in (6144, 3072, 1536))
"""Halves of a frame of 1536 bytes, their halves, and again: adding them costs a fourth of dividing the whole."""

_LARGE = 256


def word_sum(data: bytes | bytearray | memoryview) -> int:
    """Give the sum modulo 0xffff of the big-endian 16-bit words of `data`, padded with a zero byte if odd."""
    total = int.from_bytes(data, "big")
    if len(data) & 1:
        total <<= 8
    if len(data) > _LARGE:
        for bits, mask in _FOLDS:
            total = (total >> bits) + (total & mask)
    return total % 0xFFFF


def word_sums(data: bytes | memoryview, size: int) -> list[int]:
    """Give `word_sum` of each piece of `size` bytes; the last piece may be shorter."""
    return [word_sum(data[at : at + size]) for at in range(0, len(data), size)]
