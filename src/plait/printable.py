"""Text of others, such as what a peer says of itself, made harmless for a terminal or a log."""

# C0, DEL and C1: an escape sequence in a nickname is somebody's mischief.
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "?")


def printable(text: str) -> str:
    """Give the text with a question mark for each control character, line ends too."""
    return text.translate(_CONTROLS)
