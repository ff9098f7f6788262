"""Removals that are killed, on libvirt's own fake hypervisor: at whatever moment, the next prune finds what is left."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tests.contract.contract_parts import make_definition, make_disk
from tests.contract.test_contract_libvirt_test import NODE
from vmctl.driver import Definition, Disk, Host
from vmctl.errors import VmctlError
from vmctl.flock import held
from vmctl.layout import HomeLayout
from vmctl.lifecycle import layer_cache
from vmctl.spec import GIB, Cache
from vmctl_libvirt import LibvirtDriver, libvirt_errors
from vmctl_libvirt.box_storage import UPLOADED
from vmctl_libvirt.building import ATTEMPTS
from vmctl_libvirt.layer_keeper import HALF_MADE, ROOT
from vmctl_libvirt.layer_storage import LayerStorage
from vmctl_libvirt.pool import PoolVolume, pool_volume
from vmctl_libvirt.storage import Storage

FIRST, SECOND = "a" * 64, "b" * 64
PLENTY = Cache(size=GIB * 1000)
MOST = 40
"""Steps that a removal has at the very most."""


class Killed(BaseException):
    """The end of a vmctl."""


class Pool:
    """The fake's pool, with a machine of two disks that comes and goes."""

    def __init__(self, driver: LibvirtDriver, definition: Definition, disk: Disk, home: Path) -> None:
        self.driver, self.definition, self.home = driver, definition, HomeLayout(home)
        self.disk = structs.replace(disk, further=(disk,))
        self.changed = time.time()
        """When all its volumes were changed last; the fake does not tell."""

    def make(self, key: str = "") -> None:
        self.driver.create(self.definition, structs.replace(self.disk, layer=key))

    def destroy(self) -> None:
        self.driver.destroy(self.definition.name, self.definition.tag)

    def freeze(self, key: str) -> None:
        self.driver.freeze(self.definition.name, self.definition.tag, key)

    def names(self) -> list[str]:
        return sorted(self.driver._connection.run(self._names, "look"))

    def _names(self, connection: Any) -> list[str]:
        pools = connection.listAllStoragePools(0)
        return [volume.name() for pool in pools if pool.name() == "vmctl" for volume in pool.listAllVolumes(0)]

    def prune(self, budget: Cache | None = None) -> list[str]:
        removed = layer_cache.prune("libvirt", self.driver, self.home, budget or PLENTY, everybodys=True)
        return [layer.key for layer in removed]


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    (tmp_path / "node.xml").write_text(NODE)
    driver = LibvirtDriver(Host(home=tmp_path / "home", options={"uri": f"test://{tmp_path / 'node.xml'}"}))
    made, real = Pool(driver, make_definition(tmp_path), make_disk(tmp_path), tmp_path / "home"), pool_volume

    def told(volume: Any) -> PoolVolume:
        return replace(real(volume), allocation=1, changed=made.changed)

    monkeypatch.setattr("vmctl_libvirt.pool.pool_volume", told)
    yield made
    driver.close()


def killed_at(step: int, act: Callable[[], object]) -> bool:
    """Whether ``act`` came to its ``step``-th change of the pool; it is killed there, before that one."""
    changes = itertools.count()

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def change(*words: Any) -> Any:
            if next(changes) >= step:
                raise Killed
            return real(*words)

        return change

    with pytest.MonkeyPatch.context() as patch:
        for name in ("delete", "_create"):
            patch.setattr(Storage, name, dying(getattr(Storage, name)))
        try:
            act()
        except Killed:
            return True
        return False


def test_a_removal_that_is_killed_anywhere_is_finished_by_the_next_prune(pool: Pool) -> None:
    for step in range(MOST):
        pool.make()
        pool.freeze(FIRST)
        pool.freeze(SECOND)
        pool.destroy()
        was_killed = killed_at(step, lambda: pool.prune(Cache(size=0)))
        pool.prune(Cache(size=0))
        assert pool.names() == [], f"killed before change {step}"
        if not was_killed:
            break
    assert step > 8, "there are several changes"
    assert not was_killed


def test_what_a_killed_removal_left_goes_without_anything_else_to_remove(pool: Pool) -> None:
    pool.make()
    pool.freeze(FIRST)
    pool.destroy()
    before = len(pool.names())
    assert killed_at(3, lambda: pool.driver.remove_layer(FIRST))
    assert pool.driver.layers() == ()
    assert 0 < len(pool.names()) <= before
    assert pool.prune() == [FIRST]
    assert pool.prune() == []


def test_a_machine_is_made_anew_while_its_disks_of_then_are_being_removed(pool: Pool) -> None:
    pool.make()
    pool.freeze(FIRST)
    pool.destroy()
    for step in range(2, MOST):
        if not killed_at(step, lambda: pool.driver.remove_layer(FIRST)):
            break
        pool.make()
        machine = [name for name in pool.names() if not name.startswith(("base-", "gone-", "layer-"))]
        pool.prune()
        pool.freeze(FIRST)  # its disks are there
        assert set(machine) & set(pool.names())
        pool.destroy()
        assert [layer.key for layer in pool.driver.layers()] == [FIRST]


def test_a_layer_whose_removal_had_not_begun_is_used_and_removed_like_others(pool: Pool) -> None:
    pool.make()
    pool.freeze(FIRST)
    pool.destroy()
    assert killed_at(1, lambda: pool.driver.remove_layer(FIRST)), "after the tombstone, before the layer"
    assert pool.prune() == []
    pool.make(FIRST)
    assert not pool.driver.remove_layer(FIRST)
    pool.destroy()
    assert [layer.needed for layer in pool.driver.layers()] == [False]
    assert pool.prune(Cache(size=0)) == [FIRST, pool.disk.digest]
    assert pool.names() == []


def test_a_full_pool_has_no_room_for_a_tombstone_and_gets_it_by_the_removal(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.make()
    pool.freeze(FIRST)
    pool.destroy()

    def full(_self: Storage, what: str, path: str, backing_format: str) -> None:
        """No tombstone."""

    monkeypatch.setattr(Storage, "condemn", full)
    assert pool.driver.remove_layer(FIRST)
    assert [name for name in pool.names() if not name.startswith("base-")] == []


def test_what_somebody_may_be_freezing_just_now_stays(pool: Pool) -> None:
    pool.make()
    assert killed_at(3, lambda: pool.freeze(FIRST)), "the second disk's volume is there, the root disk's is not"
    made = pool.names()
    assert any(name.startswith("layer-") for name in made)
    assert pool.prune() == []
    assert pool.names() == made
    pool.changed -= HALF_MADE + 1
    assert pool.prune(Cache(size=GIB, age=math.inf)) == [FIRST]
    assert pool.driver.layers() == ()
    pool.freeze(SECOND)  # the machine has its disks


def test_a_copy_of_a_box_whose_removal_is_killed_goes_by_the_next_prune(pool: Pool) -> None:
    for step in range(MOST):
        pool.make()
        pool.destroy()
        assert pool.names()
        was_killed = killed_at(step, lambda: pool.driver.remove_box_copy(pool.disk.digest))
        is_whole = bool(pool.driver.box_copies())
        pool.prune()
        assert bool(pool.driver.box_copies()) == is_whole
        assert pool.driver.remove_box_copy(pool.disk.digest)
        assert pool.names() == [], f"killed before change {step}"
        if not was_killed:
            break
    assert not was_killed


def test_a_copy_whose_upload_was_killed_goes_once_nobody_makes_it(pool: Pool) -> None:
    pool.make()
    pool.destroy()
    copy, marker = sorted(pool.names(), key=lambda name: name.endswith(".complete"))
    pool.driver._connection.run(
        lambda connection: connection.storagePoolLookupByName("vmctl").storageVolLookupByName(marker).delete(0), "kill"
    )
    assert pool.prune() == [], "somebody else may be uploading it"
    pool.changed -= UPLOADED + 1
    with held(pool.home.locks / f"libvirt-{pool.disk.digest}"):
        assert pool.prune() == [], "this user does"
    assert pool.names() == [copy]
    assert pool.prune() == [pool.disk.digest]
    assert pool.names() == []


@pytest.mark.parametrize("key", [FIRST, ""])
def test_what_a_machine_is_put_on_in_the_last_moment_stays(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    pool.make()
    pool.freeze(FIRST)
    pool.destroy()
    if not key:
        assert pool.driver.remove_layer(FIRST)
    before, real = pool.names(), Storage.condemn

    def condemn(*words: Any) -> None:
        real(*words)
        monkeypatch.setattr(Storage, "condemn", real)
        other = LibvirtDriver(Host(home=pool.home.root / "other", options={"uri": pool.driver.where}))
        monkeypatch.setattr(other._connection, "run", lambda act, _doing: act(opened[0]))
        other.create(pool.definition, structs.replace(pool.disk, layer=key))

    opened = [pool.driver._connection.run(lambda connection: connection, "look")]
    monkeypatch.setattr(Storage, "condemn", condemn)
    gone = pool.driver.remove_layer(FIRST) if key else pool.driver.remove_box_copy(pool.disk.digest)
    assert not gone
    assert set(before) <= set(pool.names())
    assert not [name for name in pool.names() if name.startswith("gone-")]
    pool.freeze(SECOND)


def test_a_machine_is_made_though_others_remove_the_copies_of_its_box(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    times, real = iter(range(ATTEMPTS)), Storage.overlay

    def overlay(own: Storage, *words: Any, **more: Any) -> str:
        if next(times) < ATTEMPTS - 1:
            pool.driver.remove_box_copy(pool.disk.digest)  # libvirt's fake does not mind what an overlay stands on
        return real(own, *words, **more)

    monkeypatch.setattr(Storage, "overlay", overlay)
    single = structs.replace(pool.disk, further=())
    pool.driver.create(pool.definition, single)
    assert list(times) == []
    pool.freeze(FIRST)
    pool.destroy()
    assert pool.driver.remove_layer(FIRST)
    monkeypatch.setattr(Storage, "overlay", lambda *_words, **_more: pool.driver.remove_box_copy(pool.disk.digest))
    with pytest.raises(VmctlError):
        pool.driver.create(pool.definition, single)
    assert pool.driver.states() == {}


def test_a_tombstone_that_another_vmctl_is_making_is_left_to_it(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool.make()
    pool.freeze(FIRST)
    pool.destroy()
    real = Storage.delete

    def delete(own: Storage, path: str) -> None:
        if "/gone-" in path:
            raise libvirt_errors.library().libvirtError("still being allocated")
        real(own, path)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "delete", delete)
        assert pool.driver.remove_layer(FIRST)
        assert pool.driver.remove_box_copy(pool.disk.digest)
    assert {name[:5] for name in pool.names()} == {"gone-"}
    pool.prune()
    assert pool.names() == []


def test_a_freeze_that_fails_says_why_also_where_it_cannot_be_undone(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.make()
    real = LayerStorage.layer

    def layer(own: LayerStorage, key: str, number: int, disk: str) -> str:
        if number == ROOT:
            raise VmctlError("the pool is full")
        return real(own, key, number, disk)

    def delete(_own: Storage, _path: str) -> None:
        raise VmctlError("it is in use")

    with monkeypatch.context() as patch:
        patch.setattr(LayerStorage, "layer", layer)
        patch.setattr(Storage, "delete", delete)
        with pytest.raises(VmctlError, match="the pool is full"):
            pool.freeze(FIRST)
    assert pool.driver.layers() == ()
    pool.destroy()
    pool.prune(Cache(size=0))
    assert [name for name in pool.names() if name.startswith("layer-")] == []
