"""Boxes that stand on others, to Debian's docker-registry and back: what moves is what changed, counted on the wire."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.integration.registry_fixtures import no_logins, registry
from tests.unit import oci_servers
from tests.unit.box_archives import tarred
from tests.unit.box_images import MIB, write
from tests.unit.box_stores import mine, theirs
from tests.unit.oci_servers import Registry, Wire, docker_registry, wire
from vmctl import process
from vmctl.boxes import obtaining
from vmctl.boxes.adding import add
from vmctl.boxes.box import Box, BoxImage, BoxInfo
from vmctl.boxes.box_store import BoxStore
from vmctl.boxes.oci import artifact, windows
from vmctl.boxes.oci.pushing import Pushed, push
from vmctl.boxes.request import Order, Request
from vmctl.boxes.web import Access
from vmctl.driver import CONTAINER
from vmctl.events import Event, Notice
from vmctl.layout import HomeLayout

__all__ = ["mine", "no_logins", "registry", "theirs"]

BLOCK = 4096


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOW", MIB)


def boxed(home: HomeLayout, image: bytes | Path, name: str, version: str = "1.0", *, base: Box | None = None) -> Box:
    """A box of a raw disk, as `vmctl package` makes it of a machine that was made from ``base``."""
    raw = image if isinstance(image, Path) else write(home.root / "image.raw", image)
    disk = home.root / "box.img"
    process.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "--", raw, disk])
    size = -(-raw.stat().st_size // 1024**3)
    stated: dict[str, Any] = {"provider": "libvirt", "format": "qcow2", "virtual_size": size}
    stated |= {"vmctl": {"base": base.digest}} if base else {}
    members = {"metadata.json": json.dumps(stated).encode(), "box.img": disk.read_bytes()}
    packed = write(home.root / "packed.box", tarred(members))
    return add(Request(address=str(packed), name=name, version=version), home)[0]


def content(box: Box, tmp_path: Path) -> bytes:
    process.run(["qemu-img", "check", "-q", "--", box.path])
    process.run(["qemu-img", "convert", "-O", "raw", "--", box.path, tmp_path / "content.raw"])
    return (tmp_path / "content.raw").read_bytes()


def obtained(address: str, home: HomeLayout, **options: Any) -> Box:
    return obtaining.obtain(Order(address=address, **options), home)[0]


def changed(data: bytes, *blocks: int, seed: int = 1) -> bytes:
    """A disk with other blocks."""
    out, dice = bytearray(data), random.Random(seed)  # noqa: S311  no secret
    for block in blocks:
        out[block * BLOCK : (block + 1) * BLOCK] = dice.randbytes(BLOCK)
    return bytes(out)


def root_file_system(byte: int) -> bytes:
    """A container's image, of 3 MiB, with a file of this byte."""
    out = io.BytesIO()
    big = random.Random(7).randbytes(3 * MIB)  # noqa: S311  no secret
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in (("metadata.yaml", b"{}"), ("rootfs/big", big), ("rootfs/small", bytes([byte]) * 100)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def with_root(home: HomeLayout, box: Box, root: bytes) -> Box:
    """The box, with its system as a container's image as well."""
    digest, store = hashlib.sha256(root).hexdigest(), BoxStore(home)
    form = BoxImage(digest=digest, format=CONTAINER, virtual_size=box.virtual_size, size=len(root))
    with store.draft() as draft:
        shutil.copytree(box.directory, draft / "box")
        write(draft / "box" / form.image_name, root)
        fields = {name: getattr(box, name) for name in BoxInfo.__struct_fields__}
        info = BoxInfo(**{**fields, "version": "1.1", "forms": (form,)})
        made = store.take_in(draft / "box", info, same=lambda _box: False, numbered=False)[0]
    store.remove(box, {})
    return made


def wired(registry: Registry, line: Wire, repository: str) -> str:
    """A repository behind a wire that counts."""
    return f"oci://{line.host}/{repository}"


@pytest.mark.usefixtures("small")
class TestWhatChanged:
    def pushed(self, registry: Registry, home: HomeLayout, repository: str, *blocks: int) -> tuple[Box, Box, Pushed]:
        """A base in the registry, and a child of it with other blocks."""
        data = oci_servers.disk()
        base = boxed(home, data, "team/base")
        push(base, registry.at("kid/base"), home, Access())
        child = boxed(home, changed(data, *blocks), "team/web", base=base)
        return base, child, push(child, registry.at(repository), home, Access())

    def test_it_comes_back_whole_without_its_parent(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout, tmp_path: Path
    ) -> None:
        _, child, done = self.pushed(registry, mine, "kid/whole", 3, 4, 700)
        assert done.parent == "team/base 1.0 (x86_64)"
        assert done.sent < 3 * BLOCK + 2048 < done.size
        got = obtained(registry.at("kid/whole:1.0"), theirs)
        assert content(got, tmp_path) == content(child, tmp_path)
        assert list(theirs.downloads.iterdir()) == []
        assert list(mine.downloads.iterdir()) == []

    def test_who_has_the_parent_gets_what_changed(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout, tmp_path: Path
    ) -> None:
        _, child, _ = self.pushed(registry, mine, "kid/some", 3, 4, 700)
        with wire(registry.port) as line:
            obtained(wired(registry, line, "kid/base:1.0"), theirs)
            before = line.came
            got = obtained(wired(registry, line, "kid/some:1.0"), theirs)
            assert line.came - before < 3 * BLOCK + 10000
        assert content(got, tmp_path) == content(child, tmp_path)
        flat = obtained(registry.at("kid/some:1.0"), HomeLayout(theirs.root / "another"))
        assert got.digest == flat.digest, "the same file for everybody"

    def test_a_parent_that_was_damaged_is_not_believed(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout, tmp_path: Path
    ) -> None:
        _, child, _ = self.pushed(registry, mine, "kid/damaged", 3)
        base = obtained(registry.at("kid/base:1.0"), theirs)
        base.path.chmod(0o644)
        with base.path.open("r+b") as stream:
            stream.seek(2 * 65536 + 100)
            stream.write(b"another byte")
        got = obtained(registry.at("kid/damaged:1.0"), theirs)
        assert content(got, tmp_path) == content(child, tmp_path)

    def test_a_base_that_is_not_there_goes_along_once(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout, tmp_path: Path
    ) -> None:
        data = oci_servers.disk()
        base = boxed(mine, data, "team/lonely")
        events: list[Event] = []
        child = boxed(mine, changed(data, 5), "team/web", base=base)
        first = push(child, registry.at("kid/once"), mine, Access(), report=events.append)
        assert any("this once all of that" in one.text for one in events if isinstance(one, Notice))
        assert first.sent > 3 * MIB
        second = push(
            boxed(mine, changed(data, 6), "team/web", "1.1", base=base), registry.at("kid/once"), mine, Access()
        )
        assert second.sent < BLOCK + 2048
        assert content(obtained(registry.at("kid/once:1.1"), theirs), tmp_path) == changed(data, 6)

    def test_grandchildren(self, registry: Registry, mine: HomeLayout, theirs: HomeLayout, tmp_path: Path) -> None:
        """Until a window was changed so often that it goes whole."""
        data = oci_servers.disk()
        below, sent = boxed(mine, data, "team/line", "0"), []
        for number in range(1, 12):
            data = changed(data, 3, 10 + number, seed=number)
            below = boxed(mine, data, "team/line", str(number), base=below)
            sent.append(push(below, registry.at("kid/line"), mine, Access()).sent)
        assert max(sent[1:7]) < 2 * BLOCK + 2048
        assert sent[7] > MIB > sent[8], "whole again"
        assert content(obtained(registry.at("kid/line"), theirs), tmp_path) == data

    def test_more_layers_than_anybody_reads(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(artifact, "MOST_LAYERS", 4)
        _, child, done = self.pushed(registry, mine, "kid/many", 3, 300, 700)
        assert done.sent > 2 * MIB
        assert content(obtained(registry.at("kid/many"), theirs), tmp_path) == content(child, tmp_path)

    def test_skopeo_takes_all_of_it_elsewhere(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout, tmp_path: Path
    ) -> None:
        _, child, _ = self.pushed(registry, mine, "kid/there", 3, 300)
        with docker_registry(tmp_path / "another") as other:
            process.run([
                "skopeo", "--insecure-policy", "copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false",
                f"docker://{registry.host}/kid/there:1.0", f"docker://{other.host}/here:1.0",
            ])  # fmt: skip
            got = obtained(other.at("here:1.0"), theirs)
        assert content(got, tmp_path) == content(child, tmp_path)

    def test_what_became_zeros_and_what_was(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout, tmp_path: Path
    ) -> None:
        data = oci_servers.disk()
        base = boxed(mine, data, "team/base")
        zeros = next(at for at in range(0, len(data), MIB) if not any(data[at : at + MIB]))
        full = next(at for at in range(MIB, len(data), MIB) if any(data[at : at + MIB]))
        new = bytearray(data) + bytes(MIB) + b"grown".ljust(MIB // 2, b"!")
        new[full : full + MIB] = bytes(MIB)
        new[zeros + 5000 : zeros + 5010] = b"0123456789"
        new[BLOCK * 8 : BLOCK * 9] = bytes(BLOCK)
        child = boxed(mine, bytes(new), "team/grown", base=base)
        done = push(child, registry.at("kid/grown"), mine, Access())
        obtained(registry.at("kid/base"), theirs)
        assert done.parent
        assert content(obtained(registry.at("kid/grown"), theirs), tmp_path) == bytes(new)

    def test_a_window_that_is_another_goes_whole(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout, tmp_path: Path
    ) -> None:
        """What stands on the parent's for nothing would have to be pulled twice."""
        data = oci_servers.disk()
        base = boxed(mine, data, "team/base")
        push(base, registry.at("kid/other-base"), mine, Access())
        new = changed(data, *range(1, MIB // BLOCK))
        done = push(boxed(mine, new, "team/web", base=base), registry.at("kid/other"), mine, Access())
        assert done.sent < 1.05 * MIB
        with wire(registry.port) as line:
            got = obtained(wired(registry, line, "kid/other:1.0"), theirs)
            assert line.came < 1.05 * 3 * MIB + 20_000
        assert content(got, tmp_path) == new

    def test_containers_stand_on_containers(self, registry: Registry, mine: HomeLayout, theirs: HomeLayout) -> None:
        """Of a box that has a disk as well; the machine that was packaged was made of its other form."""
        base = with_root(mine, boxed(mine, oci_servers.disk(), "team/both"), root_file_system(0))
        push(base, registry.at("kid/both"), mine, Access())
        stated = {"provider": "incus", "format": CONTAINER, "virtual_size": 7, "vmctl": {"base": base.digest}}
        members = {"metadata.json": json.dumps(stated).encode(), "rootfs.container": root_file_system(1)}
        packed = write(mine.root / "container.box", tarred(members))
        child = add(Request(address=str(packed), name="team/inner", version="1"), mine)[0]
        done = push(child, registry.at("kid/inner"), mine, Access())
        assert done.parent == "team/both 1.1 (x86_64)"
        assert done.sent < 3 * BLOCK + 2048
        obtained(registry.at("kid/both:1.1"), theirs)
        with wire(registry.port) as line:
            got = obtained(wired(registry, line, "kid/inner:1"), theirs)
            assert line.came < 3 * BLOCK + 10000
        assert (got.digest, got.virtual_size, got.format) == (child.digest, 7 * 1024**3, CONTAINER)

    def test_pushed_on_by_a_colleague(self, registry: Registry, mine: HomeLayout, theirs: HomeLayout) -> None:
        self.pushed(registry, mine, "kid/on", 3, 700)
        obtained(registry.at("kid/base:1.0"), theirs)
        got = obtained(registry.at("kid/on:1.0"), theirs)
        assert push(got, registry.at("kid/on-and-on"), theirs, Access()).sent < 4096, "nothing but configs"

    def test_boxes_that_say_to_stand_on_each_other(self, registry: Registry, mine: HomeLayout) -> None:
        data = oci_servers.disk()
        one = boxed(mine, data, "team/one")
        two = boxed(mine, changed(data, 3), "team/two", base=one)
        path = one.directory / "box.json"
        stated = json.loads(path.read_text())
        stated["provenance"]["base"] = two.digest
        path.write_text(json.dumps(stated))
        assert push(two, registry.at("kid/circle"), mine, Access()).parent == "team/one 1.0 (x86_64)"

    def test_a_killed_pull_goes_on(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout, tmp_path: Path
    ) -> None:
        _, child, _ = self.pushed(registry, mine, "kid/killed", 3, 300, 700)
        with wire(registry.port) as line:
            line.cut_after = [MIB + 100_000, MIB, 300_000]
            got = obtained(wired(registry, line, "kid/killed:1.0"), theirs)
        assert content(got, tmp_path) == content(child, tmp_path)
        assert list(theirs.downloads.iterdir()) == []


def ext4(path: Path, files: Path, size: int) -> Path:
    """A file system with these files, which begins as a disk that boots does."""
    process.run(["truncate", "--size", str(size), path])
    process.run(["mke2fs", "-q", "-t", "ext4", "-d", files, path])
    with path.open("r+b") as stream:
        stream.seek(510)
        stream.write(b"\x55\xaa")
    return path


def test_a_provisioned_machine_costs_its_changes(
    registry: Registry, mine: HomeLayout, theirs: HomeLayout, tmp_path: Path, record_property: Any
) -> None:
    """Files of many sizes in an ext4 that has some already: at most 1.1 times of what changed, up and down."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(400):
        (tree / f"old-{number}").write_bytes(random.Random(number).randbytes(100_000))  # noqa: S311  no secret
    before = ext4(tmp_path / "before.raw", tree, 400 * MIB)
    after = Path(shutil.copyfile(before, tmp_path / "after.raw"))
    commands = []
    for number in range(300):
        source = write(tmp_path / f"new-{number}", os.urandom(500 * 3 ** (number % 7)))
        commands += [f"write {source} new-{number}"]
    commands += [f"rm old-{number}" for number in range(0, 400, 40)]
    write(tmp_path / "commands", "\n".join(commands).encode())
    process.run(["debugfs", "-w", "-f", tmp_path / "commands", after])
    old, new = before.read_bytes(), after.read_bytes()
    size = sum(BLOCK for at in range(0, len(new), BLOCK) if new[at : at + BLOCK] != old[at : at + BLOCK])
    assert size > 10 * MIB

    base = boxed(mine, before, "team/base")
    push(base, registry.at("real/base"), mine, Access())
    child = boxed(mine, after, "team/web", base=base)
    with wire(registry.port) as line:
        target = wired(registry, line, "real/web")
        # the base is known by the registry's name on the wire, too
        BoxStore(mine).annotate(base, stamps={f"oci://{line.host}/real/base:1.0": ""})
        up = line.sent
        push(child, target, mine, Access())
        up = line.sent - up
        obtained(wired(registry, line, "real/base"), theirs)
        down = line.came
        got = obtained(target, theirs)
        down = line.came - down
    record_property("changed, up, down", (size, up, down))
    print(f"changed {size}, up {up} ({up / size:.3f}), down {down} ({down / size:.3f})")  # noqa: T201  with -s
    assert up <= 1.1 * size
    assert down <= 1.1 * size
    assert content(got, tmp_path) == new
