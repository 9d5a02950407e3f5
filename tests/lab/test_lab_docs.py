"""The first example of docs/lab.md runs."""

import re
from pathlib import Path
from typing import Any

from plait.testing.lab import Lab

TEXT = (Path(__file__).parents[2] / "docs" / "lab.md").read_text()


def test_example(lab: Lab) -> None:
    example = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[0]
    names: dict[str, Any] = {}
    exec(compile(example, "docs/lab.md", "exec"), names)
    names["test_a_cut_link_and_a_small_mtu"](lab)
