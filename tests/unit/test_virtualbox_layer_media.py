"""Parts of VirtualBox's layers that need no VirtualBox: heads of disks, and the run of a machine that paused."""

from __future__ import annotations

import json
import os
import struct
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import to_builtins

from vmctl.driver import Host, Tag
from vmctl.flock import held
from vmctl_virtualbox import VirtualBoxDriver, machine_mark, vdi
from vmctl_virtualbox.machine_mark import MachineMark

OWN, BELOW = uuid.uuid4(), uuid.uuid4()
MIB = 1024**2
MARK = MachineMark(name="web", tag=Tag(project="0a1b", machine="web", version="0.1.0", root="/p"), complete=True)


def head(parent: uuid.UUID, *, signature: int = 0xBEDA107F, version: int = 0x10001) -> bytes:
    """The first bytes of a disk as the format's description has them, with three blocks of a mebibyte."""
    data = bytearray(512)
    data[:40] = b"<<< Oracle VM VirtualBox Disk Image >>>\n"
    struct.pack_into("<IIII", data, 64, signature, version, 400, 4)
    struct.pack_into("<II", data, 340, MIB, 2 * MIB)
    struct.pack_into("<QIIII", data, 368, 64 * MIB, MIB, 0, 64, 3)
    data[392:408], data[424:440] = OWN.bytes_le, parent.bytes_le
    return bytes(data)


def test_a_disk_says_who_it_is_and_on_what_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "1.vdi"
    path.write_bytes(head(BELOW))
    found = vdi.read(path)
    assert found is not None
    assert (found.uuid, found.parent, found.capacity) == (str(OWN), str(BELOW), 64 * MIB)
    assert not found.is_whole
    os.truncate(path, 5 * MIB)  # the head, the map, and three blocks
    whole = vdi.read(path)
    assert whole is not None
    assert whole.is_whole
    assert whole.allocated < MIB, "of holes"
    path.write_bytes(head(uuid.UUID(int=0)))
    (alone,) = vdi.below(tmp_path)
    assert alone.parent == ""


@pytest.mark.parametrize(
    "data", [b"", head(BELOW)[:300], b"QFI\xfb" * 200, head(BELOW, signature=1), head(BELOW, version=0x2)]
)
def test_what_is_no_disk_of_virtualbox_says_nothing(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "1.vdi"
    assert vdi.read(path) is None
    path.write_bytes(data)
    assert vdi.read(path) is None


def test_a_machine_that_paused_for_a_layer_is_in_the_same_run_until_its_next_start() -> None:
    paused = replace(MARK, since="later", run="first")
    assert paused.run_since("later") == "first"
    assert paused.run_since("next start") == "next start"
    assert MARK.run_since("first") == "first"
    assert MARK.run_since("") == ""


def test_marks_of_an_older_vmctl_are_read() -> None:
    stated = {key: value for key, value in to_builtins(MARK).items() if key not in ("since", "run")}
    key = machine_mark.PREFIX + machine_mark.identifier("web")
    assert machine_mark.parse({key: json.dumps(stated)}) == {machine_mark.identifier("web"): MARK}
    stated = to_builtins(replace(MARK, since="later", run="first"))
    assert machine_mark.parse({key: json.dumps(stated)})[machine_mark.identifier("web")].run == "first"


def test_what_killed_commands_left_of_layers_and_bases_is_removed(tmp_path: Path) -> None:
    driver, root = VirtualBoxDriver(Host(home=tmp_path)), tmp_path / "virtualbox"
    assert driver.remove_leftovers() == ()
    left = {
        "a" * 64: root / "layers" / f".{'a' * 64}.gone" / "1.vdi",
        "b" * 64: root / "layers" / f".{'b' * 64}" / "1.vdi",
    }
    left |= {digit * 64: root / "bases" / f".{digit * 64}.part.vdi" for digit in "cd"}
    for path in left.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(MIB))
    kept = [root / "layers" / ("e" * 64) / "1.vdi", root / "bases" / f"{'e' * 64}.vdi"]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(head(BELOW))
    with held(root / "locks" / ("d" * 64)):
        assert {each.key for each in driver.remove_leftovers()} == left.keys() - {"d" * 64}, "one is being converted"
    (last,) = driver.remove_leftovers()
    assert (last.key, last.size >= MIB) == ("d" * 64, True)
    assert sorted(path for path in root.rglob("*.vdi")) == sorted(kept)
