from __future__ import annotations

import stat
from pathlib import Path

import pytest

from vmctl import key_pairs, process
from vmctl.errors import VmctlError


def test_a_new_key_is_private_and_openssh_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "machine" / "id_ed25519"
    line = key_pairs.ensure(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    derived = process.run(["ssh-keygen", "-y", "-f", path])
    assert line.split()[:2] == derived.stdout.split()[:2]
    assert key_pairs.public_path(path).read_text() == line + "\n"


def test_an_existing_key_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "key"
    line = key_pairs.ensure(path)
    before = path.read_bytes()
    assert key_pairs.ensure(path) == line
    assert path.read_bytes() == before


def test_a_lost_public_half_is_derived_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    line = key_pairs.ensure(path)
    key_pairs.public_path(path).unlink()
    assert key_pairs.ensure(path) == line
    assert key_pairs.public_path(path).read_text() == line + "\n"


def test_a_damaged_key_is_an_error_and_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("not a key")
    with pytest.raises(VmctlError, match="holds no private SSH key"):
        key_pairs.ensure(path)
    assert path.read_text() == "not a key"


@pytest.mark.parametrize("written", [b"", b"\xff\xfe", b"ssh-ed25519 half", b"not a key\n", b"a\nb\n"])
def test_a_damaged_public_half_is_made_again_from_the_key(tmp_path: Path, written: bytes) -> None:
    path = tmp_path / "key"
    line = key_pairs.ensure(path)
    private = path.read_bytes()
    key_pairs.public_path(path).write_bytes(written)
    assert key_pairs.ensure(path) == line
    assert key_pairs.public_path(path).read_text() == line + "\n"
    assert path.read_bytes() == private
