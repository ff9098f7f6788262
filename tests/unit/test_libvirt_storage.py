from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from vmctl import interrupt
from vmctl.driver import Disk
from vmctl.errors import Interrupted, VmctlError
from vmctl_libvirt import storage
from vmctl_libvirt.box_storage import BoxStorage
from vmctl_libvirt.layer_storage import LayerStorage
from vmctl_libvirt.libvirt_connection import Abilities
from vmctl_libvirt.libvirt_errors import library
from vmctl_libvirt.pool import Volume, pool_directory
from vmctl_libvirt.storage import COPY_CHUNK, Storage, copy_into

ABILITIES = Abilities(uri="test:///default", version=9_000_000, is_local=True, is_session=False, runs_guests=False)


@pytest.fixture
def connection() -> Iterator[Any]:
    opened = library().open("test:///default")
    yield opened
    opened.close()


@pytest.fixture
def pool(connection: Any) -> BoxStorage:
    return BoxStorage(connection, ABILITIES)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    path = tmp_path / "box.qcow2"
    path.write_bytes(b"image")
    return Disk(path=path, format="qcow2", digest="d" * 64, virtual_size=1000)


def volumes(connection: Any) -> list[str]:
    return sorted(volume.name() for volume in connection.storagePoolLookupByName("vmctl").listAllVolumes(0))


def test_a_box_is_copied_once(pool: BoxStorage, connection: Any, disk: Disk) -> None:
    first = pool.base(disk)
    assert pool.base(disk) == first
    base, marker = sorted(volumes(connection), key=lambda name: name.endswith(".complete"))
    assert base.startswith(f"base-{disk.digest}-")
    assert marker == base.removesuffix(".qcow2") + ".complete"


def test_a_copy_without_its_marker_is_never_used(pool: BoxStorage, connection: Any, disk: Disk) -> None:
    killed = pool.base(disk)
    marker = next(name for name in volumes(connection) if name.endswith(".complete"))
    connection.storagePoolLookupByName("vmctl").storageVolLookupByName(marker).delete(0)
    assert pool.base(disk) != killed


def test_a_copy_that_fails_is_removed(
    pool: BoxStorage, connection: Any, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object) -> None:
        raise VmctlError("disk full")

    monkeypatch.setattr(Storage, "_fill", refuse)
    with pytest.raises(VmctlError, match="disk full"):
        pool.base(disk)
    assert volumes(connection) == []


def test_removing_a_machine_removes_its_volumes_alone(pool: BoxStorage, connection: Any, disk: Disk) -> None:
    base = pool.base(disk)
    pool.overlay("shop-web", base, "qcow2", 2000)
    pool.overlay("shop-web-2", base, "qcow2", 2000)
    pool.seed("shop-web", disk.path)
    pool.remove("shop-web", used=())
    assert [name for name in volumes(connection) if not name.startswith("base-")] == ["shop-web-2.qcow2"]
    pool.remove("shop-web", used=())


def test_what_others_use_is_no_leftover(pool: BoxStorage, connection: Any, disk: Disk) -> None:
    base = pool.base(disk)
    below = pool.overlay("shop-web", base, "qcow2", 2000)
    middle = pool.overlay("shop-web", below, "qcow2", 2000, number=2)
    pool.overlay("other", middle, "qcow2", 2000)
    attached = pool.overlay("shop-web", base, "qcow2", 2000, number=3)
    pool.overlay("shop-web", base, "qcow2", 2000, number=4)
    before = volumes(connection)
    pool.remove("shop-web", used=[attached])
    assert set(before) - set(volumes(connection)) == {"shop-web-disk4.qcow2"}


def test_volumes_that_others_remove_while_they_are_listed_are_no_hindrance(
    pool: BoxStorage, connection: Any, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    libvirt = library()
    base = pool.base(disk)
    pool.base(Disk(path=disk.path, format="qcow2", digest="e" * 64, virtual_size=1000))
    for name in ("shop-web", "shop-api"):
        pool.overlay(name, base, "qcow2", 2000)
    list_all = libvirt.virStoragePool.listAllVolumes

    def slow(self: Any, flags: int) -> list[Any]:
        others = pool._create(
            pool._pool(), Volume("shop-db.qcow2", "qcow2", 2000, backing=base, backing_format="qcow2")
        )
        listed: list[Any] = list_all(self, flags)
        others.delete(0)
        return listed

    monkeypatch.setattr(libvirt.virStoragePool, "listAllVolumes", slow)
    pool.remove("shop-web", used=())
    assert pool.remove_copies("e" * 64, in_domains=())
    assert pool.base(disk) == base
    monkeypatch.undo()
    copies = [PurePosixPath(base).name, PurePosixPath(base).stem + ".complete"]
    assert volumes(connection) == sorted([*copies, "shop-api.qcow2"])


def test_a_box_is_no_leftover(pool: BoxStorage, connection: Any, disk: Disk) -> None:
    base = pool.base(disk)
    pool.remove(PurePosixPath(base).name.removesuffix(".qcow2"), used=())
    assert connection.storageVolLookupByPath(base)


def test_removing_without_a_pool_does_nothing(pool: BoxStorage, connection: Any) -> None:
    pool.remove("shop-web", used=())
    assert list(pool.copies(in_domains=())) == []
    assert pool.remove_copies("d" * 64, in_domains=())
    assert "vmctl" not in connection.listStoragePools()


def test_copies_that_nobody_uses_can_be_pruned(pool: BoxStorage, connection: Any, disk: Disk, tmp_path: Path) -> None:
    base = pool.base(disk)
    unused = Disk(path=disk.path, format="qcow2", digest="e" * 64, virtual_size=1000)
    pool.base(unused)
    pool.overlay("shop-web", base, "qcow2", 2000)
    assert {copy.key: copy.needed for copy in pool.copies(in_domains=())} == {disk.digest: True, unused.digest: False}
    assert all(copy.needed for copy in pool.copies(in_domains=[pool.base(unused)]))
    assert not pool.remove_copies(disk.digest, in_domains=())
    assert not pool.remove_copies(unused.digest, in_domains=[pool.base(unused)])
    assert pool.remove_copies(unused.digest, in_domains=())
    assert [copy.key for copy in pool.copies(in_domains=())] == [disk.digest]
    assert pool.base(disk) == base


def test_the_size_of_an_overlay_is_known(pool: BoxStorage, disk: Disk) -> None:
    assert pool.size("/no/such/volume") is None
    assert pool.size(pool.overlay("shop-web", pool.base(disk), "qcow2", 2000)) == 2000


def test_the_pool_lies_with_the_mode(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert pool_directory(is_session=False) == Path("/var/lib/libvirt/images/vmctl")
    assert pool_directory(is_session=True) == tmp_path / "libvirt" / "images" / "vmctl"


def test_a_copy_is_exact_read_only_and_keeps_its_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.write(b"head")
        file.seek(3 * COPY_CHUNK)
        file.write(os.urandom(COPY_CHUNK + 1))
        file.truncate(8 * COPY_CHUNK)
    target.touch()
    copy_into(source, target, 0o444)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o444
    assert target.stat().st_blocks * 512 < 4 * COPY_CHUNK


def test_an_empty_file_can_be_copied(tmp_path: Path) -> None:
    for name in ("source", "target"):
        (tmp_path / name).touch()
    copy_into(tmp_path / "source", tmp_path / "target", 0o600)
    assert (tmp_path / "target").stat().st_size == 0


def test_a_copy_ends_when_the_user_says_so(tmp_path: Path, clean_interrupt: None) -> None:
    (tmp_path / "source").write_bytes(b"x")
    (tmp_path / "target").touch()
    interrupt.request()
    with pytest.raises(Interrupted):
        copy_into(tmp_path / "source", tmp_path / "target", 0o600)


def test_an_image_that_is_gone_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    with pytest.raises(VmctlError, match="cannot copy"):
        copy_into(tmp_path / "absent", tmp_path / "target", 0o600)


def test_what_layers_stand_on_is_not_replaced_and_not_removed(pool: BoxStorage, connection: Any, disk: Disk) -> None:
    keeper = LayerStorage(connection, ABILITIES)
    first = pool.overlay("web", pool.base(disk), "qcow2", 1000)
    assert pool.overlay("web", pool.base(disk), "qcow2", 1000) == first, "a half-made one is"
    layer = keeper.layer("a" * 64, 1, first)
    assert pool.pinned("web") == {first}
    second = pool.overlay("web", layer, "qcow2", 1000)
    assert PurePosixPath(second).name != PurePosixPath(first).name
    pool.remove("web", used=())
    assert {PurePosixPath(path).name for path in (first, layer)} <= set(volumes(connection))
    assert PurePosixPath(second).name not in volumes(connection)
    pool.delete(layer)
    pool.remove("web", used=())
    assert PurePosixPath(first).name not in volumes(connection)


def test_a_stream_that_libvirt_has_ended_says_why() -> None:
    class Stream:
        def finish(self) -> None:
            raise library().libvirtError("no space left on device")

        def abort(self) -> None:
            raise library().libvirtError("the stream is not open")

    with pytest.raises(library().libvirtError, match="no space left"), storage._finished(Stream()):
        pass
