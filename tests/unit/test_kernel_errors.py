"""What the kernel's error numbers are for people."""

import errno

import pytest

from plait.errors import AddressInUse, KernelLacks, KernelRefused, PermissionNeeded, PlaitError
from plait.host.kernel_errors import NoSuchLink, kernel_error, lacks_link_kind


@pytest.mark.parametrize("kind", ["veth", "bridge"])
def test_a_kernel_without_a_kind_of_link_is_told_with_the_module(kind: str) -> None:
    error = lacks_link_kind(kind, f"create the {kind} x")
    assert (type(error), error.exit_code) == (KernelLacks, 8)
    assert f"cannot create the {kind} x: this kernel has no {kind}; load it with 'modprobe {kind}'" in str(error)


@pytest.mark.parametrize(
    ("number", "kind", "word"),
    [
        (errno.EPERM, PermissionNeeded, "root"),
        (errno.EROFS, PermissionNeeded, "privileged container"),
        (errno.ENODEV, NoSuchLink, "does not exist"),
        (errno.EADDRINUSE, AddressInUse, "ss -lunpt"),
        (errno.EOPNOTSUPP, KernelLacks, "does not support"),
        (errno.EINVAL, KernelRefused, "Invalid argument"),
    ],
)
def test_each_number_says_what_was_tried(number: int, kind: type[PlaitError], word: str) -> None:
    error = kernel_error(number, "make the link x")
    assert type(error) is kind
    assert str(error).startswith("cannot make the link x: ")
    assert word in str(error)


def test_the_kernels_own_text_is_kept() -> None:
    assert "veth name too long" in str(kernel_error(errno.EINVAL, "make it", "veth name too long"))
