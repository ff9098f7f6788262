from __future__ import annotations

import pytest

from vmctl.boxes import checksum
from vmctl.errors import VmctlError

A, B, LONG = "a" * 64, "b" * 64, "c" * 128


@pytest.mark.parametrize(
    ("text", "where", "expected"),
    [
        (f"{A}  disk.img\n{B}  other.img\n", "SHA256SUMS", f"sha256:{A}"),
        (f"{A} *disk.img\n", "SHA256SUMS", f"sha256:{A}"),
        (f"{A.upper()}  ./images/disk.img\n", "SHA256SUMS", f"sha256:{A}"),
        (f"# disk.img: 5 bytes\nSHA256 (disk.img) = {A}\nSHA256 (other) = {B}\n", "CHECKSUM", f"sha256:{A}"),
        (f"SHA256 (disk.img) = {A}\nSHA512 (disk.img) = {LONG}\n", "CHECKSUM", f"sha512:{LONG}"),
        (f"{LONG}\n", "https://x/disk.img.sha512", f"sha512:{LONG}"),
        (f"{A}  disk-20260101.img\n", "https://x/disk.img.SHA256", f"sha256:{A}"),
    ],
)
def test_lists(text: str, where: str, expected: str) -> None:
    assert str(checksum.in_list(text, "disk.img", where=where)) == expected


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        (f"{A}  other.img\n", "SHA256SUMS", "SHA256SUMS has no checksum of disk.img\nit has 1 others"),
        (f"{A}  old-disk.img\n", "SHA256SUMS", "has no checksum"),
        (f"{A}\n{B}\n", "x/disk.img.sha256", "has no checksum"),
        ("<html>", "SHA256SUMS", "it is not a list of checksums"),
        (f"{A}  disk.img\n{B}  disk.img\n", "SHA256SUMS", "two different checksums of disk.img"),
    ],
)
def test_a_file_that_is_not_in_the_list(text: str, where: str, words: str) -> None:
    with pytest.raises(VmctlError) as caught:
        checksum.in_list(text, "disk.img", where=where)
    assert words in str(caught.value)
