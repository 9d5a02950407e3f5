"""Reading what is mounted where."""

from pathlib import Path

import pytest

from plait.host.bpf.bpffs import mounted_kind

MOUNTS = r"""21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
22 21 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw
23 22 0:26 / /sys/fs/bpf rw,nosuid shared:9 master:3 - bpf bpf rw,mode=700
24 21 0:27 / /mnt/with\040space rw - bpf none rw
25 21 0:28 / /covered rw - bpf none rw
26 25 0:29 / /covered rw - tmpfs none rw
a line of another form
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/sys/fs/bpf", "bpf"),
        ("/sys/fs/bpf/plait/maps", "bpf"),
        ("/sys/fs/bpf2", "sysfs"),
        ("/sys/fs", "sysfs"),
        ("/mnt/with space/x", "bpf"),
        ("/covered", "tmpfs"),
        ("/nowhere", "ext4"),
    ],
)
def test_kind_of_file_system_is_that_of_the_innermost_and_last_mount(path: str, kind: str) -> None:
    assert mounted_kind(MOUNTS, Path(path)) == kind


def test_without_mounts_nothing_is_known() -> None:
    assert mounted_kind("", Path("/sys")) is None
