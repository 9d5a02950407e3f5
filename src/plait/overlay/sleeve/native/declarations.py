"""What C and Python must agree on, read from the headers that the C is compiled with."""

import re
from pathlib import Path

_DIRECTIVE = re.compile(r"^#.*$", re.MULTILINE)


def declarations(*headers: str) -> str:
    """Give the content of headers of this directory as cffi wants it: without directives of the preprocessor."""
    directory = Path(__file__).parent
    return "\n".join(_DIRECTIVE.sub("", (directory / name).read_text()) for name in headers)
