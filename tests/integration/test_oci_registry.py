"""Boxes to Debian's docker-registry and back: anonymous, with a password, with tokens, over TLS; skopeo reads them."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tests.cli.harness import Project
from tests.integration.registry_fixtures import no_logins, registry
from tests.unit import oci_servers
from tests.unit.box_archives import tarred
from tests.unit.box_images import MIB, qcow2, write
from tests.unit.box_stores import mine, theirs
from tests.unit.oci_servers import PASSWORD, USER, Registry, TokenServer, docker_registry, wire
from vmctl import process, vmfile
from vmctl.boxes import ensure, find, locking, obtaining, packing, updating
from vmctl.boxes.adding import add
from vmctl.boxes.box import Box, BoxImage, BoxInfo
from vmctl.boxes.box_store import BoxStore
from vmctl.boxes.oci import windows
from vmctl.boxes.oci.challenge import Denied
from vmctl.boxes.oci.pushing import push
from vmctl.boxes.oci.registry_client import Lying
from vmctl.boxes.oci.transport import RegistryError
from vmctl.boxes.request import Order, Request
from vmctl.boxes.web import Access
from vmctl.driver import CONTAINER
from vmctl.errors import UsageError, VmctlError
from vmctl.events import Event, Warned
from vmctl.layout import HomeLayout

__all__ = ["mine", "no_logins", "registry", "theirs"]

CREDENTIALS = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOW", MIB)


def boxed(home: HomeLayout, data: bytes, *, name: str = "team/web", version: str = "1.0") -> Box:
    path = write(home.root / f"{version}.img", data)
    return add(Request(address=str(path), name=name, version=version), home)[0]


def obtained(address: str, home: HomeLayout, **options: Any) -> Box:
    return obtaining.obtain(Order(address=address, **options), home)[0]


def with_container(home: HomeLayout, box: Box, tree: Path) -> Box:
    """The box, with its system as a container's image as well."""
    (tree / "metadata.yaml").write_text("{}")
    image = tree / "image"
    process.run(["tar", "--create", "--file", image, "--directory", tree, "metadata.yaml"])
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    form = BoxImage(digest=digest, format=CONTAINER, virtual_size=box.virtual_size, size=image.stat().st_size)
    store = BoxStore(home)
    with store.draft() as draft:
        shutil.copytree(box.directory, draft / "box")
        image.rename(draft / "box" / form.image_name)
        fields = {name: getattr(box, name) for name in BoxInfo.__struct_fields__}
        info = BoxInfo(**{**fields, "version": "1.1", "forms": (form,)})
        return store.take_in(draft / "box", info, same=lambda _box: False, numbered=False)[0]


def content(box: Box, tmp_path: Path, disk: int = 0) -> bytes:
    """What a guest sees of a box's disk, as QEMU reads it."""
    source, target = box.directory / box.images[disk].image_name, tmp_path / "content.raw"
    if source.suffix == ".qcow2":
        process.run(["qemu-img", "check", "-q", "--", source])
    process.run(["qemu-img", "convert", "-O", "raw", "--", source, target])
    return target.read_bytes()


class TestAnonymous:
    def test_a_box_comes_back_as_it_was(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout, tmp_path: Path
    ) -> None:
        data = oci_servers.disk() + b"end".ljust(3 * 512, b"\0")
        pushed = push(boxed(mine, data), registry.at("a/web"), mine, Access())
        assert pushed.tags == ("1.0", "latest")
        assert pushed.sent == pushed.size > 3 * MIB
        box = obtained(registry.at("a/web"), theirs)
        assert content(box, tmp_path) == data
        assert (box.name, box.version, box.user, box.source) == (
            "team/web", "1.0", "vmctl", registry.at("a/web:latest"),
        )  # fmt: skip
        assert box.size < len(data) + 3 * 65536, "zeros are stored"
        assert list(theirs.downloads.iterdir()) == []
        assert list(mine.downloads.iterdir()) == []

    def test_everybody_gets_the_same_file(self, registry: Registry, mine: HomeLayout, theirs: HomeLayout) -> None:
        push(boxed(mine, oci_servers.disk()), registry.at("same/web"), mine, Access())
        one = obtained(registry.at("same/web"), theirs)
        two = obtained(registry.at("same/web"), mine)
        assert one.digest == two.digest == hashlib.sha256(one.path.read_bytes()).hexdigest()

    def test_the_first_login_goes_along_and_that_is_told(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout
    ) -> None:
        path = write(mine.root / "x.img", oci_servers.disk(windows=1, holes=()))
        stated = Request(address=str(path), name="old", version="1", user="me", cloud_init=False, password="sesame")  # noqa: S106
        events: list[Event] = []
        push(add(stated, mine)[0], registry.at("login:1"), mine, Access(), report=events.append)
        assert ["whoever may pull it" in one.text for one in events if isinstance(one, Warned)] == [True]
        assert "sesame" not in repr(events)
        box = obtained(registry.at("login:1"), theirs)
        assert (box.first_login_password(), box.user, box.first_key) == ("sesame", "me", "published")
        assert obtaining.obtain(Order(address=registry.at("login:1")), theirs) == (box, False)

    def test_the_form_for_containers_goes_along(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout, tmp_path: Path
    ) -> None:
        box = with_container(mine, boxed(mine, oci_servers.disk()), tmp_path)
        push(box, registry.at("forms"), mine, Access())
        pulled = obtained(registry.at("forms:1.1"), theirs)
        assert pulled.forms == box.forms
        assert len(pulled.images) == 1
        path = pulled.disk([CONTAINER]).path
        assert hashlib.sha256(path.read_bytes()).hexdigest() == box.forms[0].digest
        assert push(pulled, registry.at("forms"), theirs, Access()).sent < MIB

    def test_what_is_there_is_not_sent_again(self, registry: Registry, mine: HomeLayout) -> None:
        data = oci_servers.disk()
        box = boxed(mine, data)
        first = push(box, registry.at("again/web"), mine, Access())
        assert push(box, registry.at("again/web"), mine, Access()).sent == 0
        changed = data[: 2 * MIB] + b"x" + data[2 * MIB + 1 :]
        second = push(boxed(mine, changed, version="1.1"), registry.at("again/web"), mine, Access())
        assert second.sent < MIB * 1.1, "one of three windows has changed"
        assert first.reference != second.reference

    def test_another_repository_of_the_registry_gives_what_it_has(self, registry: Registry, mine: HomeLayout) -> None:
        box = boxed(mine, oci_servers.disk())
        push(box, registry.at("mount/one"), mine, Access())
        there = next(one for one in BoxStore(mine).boxes() if one.version == "1.0")
        assert push(there, registry.at("mount/two"), mine, Access()).sent < 2048, "all but the config is mounted"

    def test_qcow2_raw_and_several_disks(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout, tmp_path: Path
    ) -> None:
        second = write(tmp_path / "second.img", qcow2(payload=b"second" * 1000, size=5 * MIB))
        first = write(tmp_path / "first.img", qcow2(payload=b"first" * 1000))
        metadata = {"provider": "libvirt", "disks": [{"path": "a.img"}, {"path": "b.img"}]}
        members = {
            "metadata.json": json.dumps(metadata).encode(), "a.img": first.read_bytes(), "b.img": second.read_bytes(),
            "Vagrantfile": b'Vagrant.configure("2") { |c| c.vm.provider(:libvirt) { |v| v.memory = 700 } }\n',
        }  # fmt: skip
        packed = write(tmp_path / "two.box", tarred(members))
        box = add(Request(address=str(packed), name="two", version="3"), mine)[0]
        push(box, registry.at("two:x"), mine, Access())
        got = obtained(registry.at("two:x"), theirs, name="mine")
        assert [one.virtual_size for one in got.images] == [64 * MIB, 5 * MIB]
        assert content(got, tmp_path)[:5000] == b"first" * 1000
        assert content(got, tmp_path, 1)[:6000] == b"second" * 1000
        assert (got.name, got.first_key, got.defaults) == ("mine", "published", box.defaults)

    def test_what_qemu_made_is_what_qemu_reads(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout, tmp_path: Path
    ) -> None:
        """Compressed clusters, clusters marked as zeros, holes, and an end in the middle of a window."""
        plain, image = tmp_path / "plain.qcow2", tmp_path / "image.qcow2"
        process.run(["qemu-img", "create", "-q", "-f", "qcow2", plain, "9728K"])
        writes = (
            "write -P 1 0 64k",
            "write -P 2 3M 1M",
            "write -z 3500k 100k",
            "write -P 3 9700k 28k",
            "write -P 0 5M 1M",
        )
        process.run(["qemu-io", *(word for one in writes for word in ("-c", one)), plain])
        process.run(["qemu-img", "convert", "-c", "-O", "qcow2", "--", plain, image])
        for number, path in enumerate((plain, image)):
            box = add(Request(address=str(path), name=f"qemu-{number}", version="1"), mine)[0]
            push(box, registry.at(f"qemu/{number}:1"), mine, Access())
            got = obtained(registry.at(f"qemu/{number}:1"), theirs)
            process.run(["qemu-img", "check", "-q", "--", got.path])
            process.run(["qemu-img", "compare", "-q", "--", plain, got.path])
        assert len({box.digest for box in BoxStore(theirs).boxes()}) == 1, "the same content is the same file"

    def test_another_content_than_the_digest_says_is_refused(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout
    ) -> None:
        push(boxed(mine, oci_servers.disk()), registry.at("spoilt"), mine, Access())
        blobs = (registry.root / "data" / "docker" / "registry" / "v2" / "blobs").glob("**/data")
        window = max(blobs, key=lambda path: path.stat().st_mtime_ns * (path.stat().st_size > MIB // 2))
        with window.open("r+b") as stream:
            stream.seek(1000)
            stream.write(b"spoilt")
        with pytest.raises(RegistryError, match="is not what it should be"):
            obtained(registry.at("spoilt"), theirs)
        with pytest.raises(RegistryError, match="there is no"):
            obtained(registry.at(f"spoilt@sha256:{'0' * 64}"), theirs)
        assert not list(theirs.boxes.glob("*"))

    def test_a_tag_that_moved_is_told_and_taken(self, registry: Registry, mine: HomeLayout, theirs: HomeLayout) -> None:
        push(boxed(mine, oci_servers.disk()), registry.at("moves:stable"), mine, Access())
        old = obtained(registry.at("moves:stable"), theirs)
        assert updating.newer_than(old, Access()).newer == ""
        push(boxed(mine, oci_servers.disk(), version="1.1"), registry.at("moves:stable"), mine, Access())
        finding = updating.newer_than(old, Access())
        assert finding.newer.startswith("another image, sha256:")
        new = updating.update(finding, Access(), theirs)
        assert (new.version, updating.newer_than(new, Access()).newer) == ("1.1", "")
        assert new.digest != old.digest

    def test_a_lock_means_a_digest_whatever_the_tag_does(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout
    ) -> None:
        push(boxed(mine, oci_servers.disk()), registry.at("locked:stable"), mine, Access())
        locked = locking.Locked.of(obtained(registry.at("locked:stable"), theirs))
        push(boxed(mine, oci_servers.disk(), version="1.1"), registry.at("locked:stable"), mine, Access())
        assert locked.source.startswith(registry.at("locked@sha256:"))
        third = HomeLayout(theirs.root / "third")
        assert obtained(locked.source, third, named=False).digest == locked.digest

    def test_a_locked_project_starts_from_the_locked_box(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout, tmp_path: Path
    ) -> None:
        push(boxed(mine, oci_servers.disk()), registry.at("project:stable"), mine, Access())
        project = vmfile.load(write(tmp_path / "Vmfile", f"box: {registry.at('project:stable')}\n".encode()))
        (ref,) = {machine.box for machine in project.machines}
        locking.write(locking.path_for(project.file), {str(ref): ensure(ref, theirs)})
        push(boxed(mine, oci_servers.disk(), version="1.1"), registry.at("project:stable"), mine, Access())
        third = HomeLayout(theirs.root / "third")
        pinned = locking.pinned(ref, locking.read(locking.path_for(project.file)))
        locking.provide([pinned], project, third)
        box = find(pinned, third)
        assert box is not None
        assert (box.version, box.named) == ("1.0", False)

    def test_architectures_share_a_tag(self, registry: Registry, mine: HomeLayout, theirs: HomeLayout) -> None:
        for arch in ("x86_64", "aarch64"):
            path = write(mine.root / f"{arch}.img", oci_servers.disk(windows=2, holes=()))
            box = add(Request(address=str(path), name="both", version="1", arch=arch), mine)[0]
            push(box, registry.at("both:1"), mine, Access())
        got = {arch: obtained(registry.at("both:1"), theirs, arch=arch).digest for arch in ("x86_64", "aarch64")}
        assert len(set(got.values())) == 2
        with pytest.raises(UsageError, match="is not for riscv64") as caught:
            obtained(registry.at("both:1"), theirs, arch="riscv64")
        assert caught.value.details == "it is for aarch64, x86_64"

    def test_skopeo_copies_it_and_it_is_read_back(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout, tmp_path: Path
    ) -> None:
        data = oci_servers.disk()
        push(boxed(mine, data), registry.at("copied:1"), mine, Access())
        source = f"docker://{registry.host}/copied:1"
        skopeo = ["skopeo", "--insecure-policy", "copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false"]
        process.run([*skopeo, source, f"oci:{tmp_path}/directory:x"])
        process.run([*skopeo, f"oci:{tmp_path}/directory:x", f"docker://{registry.host}/other/place:2"])
        box = obtained(registry.at("other/place:2"), theirs)
        assert content(box, tmp_path) == data
        described = json.loads(process.run(["skopeo", "inspect", "--tls-verify=false", "--raw", source]).stdout)
        assert described["manifests"][0]["platform"] == {"architecture": "amd64", "os": "linux"}

    def test_a_tag_that_is_no_box_is_not_replaced(self, registry: Registry, mine: HomeLayout, tmp_path: Path) -> None:
        layout = tmp_path / "image"
        layout.mkdir()
        process.run(["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", _image(layout),
                     f"docker://{registry.host}/app:1"])  # fmt: skip
        with pytest.raises(UsageError, match="the tag 1 of app is not a box"):
            push(boxed(mine, oci_servers.disk(windows=1, holes=())), registry.at("app:1"), mine, Access())

    def test_two_pushes_of_one_tag_leave_one_of_them_whole(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout, tmp_path: Path
    ) -> None:
        found = [boxed(mine, oci_servers.disk(), version=f"1.{number}") for number in range(2)]
        disks = [content(box, tmp_path) for box in found]
        threads = [threading.Thread(target=push, args=(box, registry.at("race:1"), mine, Access())) for box in found]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert content(obtained(registry.at("race:1"), theirs), tmp_path) in disks

    def test_what_is_not_there_is_absent(self, registry: Registry, theirs: HomeLayout) -> None:
        with pytest.raises(RegistryError, match="there is no oci://"):
            obtained(registry.at("nothing:1"), theirs)
        assert not theirs.boxes.exists()

    def test_the_names_of_own_boxes_are_not_given_away(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout
    ) -> None:
        path = write(mine.root / "x.img", oci_servers.disk(windows=1, holes=()))
        box = add(Request(address=str(path), name="evil", version="1"), mine)[0]
        push(structs.replace(box, name="debian-12"), registry.at("evil"), mine, Access())
        with pytest.raises(UsageError, match="belongs to a box of vmctl's own"):
            obtained(registry.at("evil"), theirs)
        assert obtained(registry.at("evil"), theirs, name="mine").name == "mine"


class TestContainerDisks:
    def push(self, registry: Registry, layout: Path, layer: bytes, **settings: Any) -> str:
        """Have a container image in the registry, named after its directory; the address."""
        layout.mkdir()
        source = _image(layout, layer, settings=settings)
        target = f"docker://{registry.host}/disks/{layout.name}:24.04"
        process.run(["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", source, target])
        return registry.at(f"disks/{layout.name}:24.04")

    def test_a_disk_as_kubevirt_keeps_it(self, registry: Registry, theirs: HomeLayout, tmp_path: Path) -> None:
        data = qcow2(payload=b"cloud image" * 100)
        address = self.push(registry, tmp_path / "ubuntu", tarred({"disk/ubuntu.qcow2": data}))
        box = obtained(address, theirs)
        assert (box.name, box.version, box.arch, box.user, box.seeding) == (
            "ubuntu", "24.04", "x86_64", "vmctl", "cloud-init",
        )  # fmt: skip
        assert box.path.read_bytes() == data
        assert obtaining.obtain(Order(address=address), theirs) == (box, False)
        assert updating.newer_than(box, Access()).newer == ""
        assert list(theirs.downloads.iterdir()) == []

    @pytest.mark.parametrize("case", ["app", "files", "junk"])
    def test_images_of_programs_are_refused(
        self, case: str, registry: Registry, theirs: HomeLayout, tmp_path: Path
    ) -> None:
        layers = {
            "app": (tarred({"disk/x.img": qcow2()}), {"Entrypoint": ["/sh"]}),
            "files": (tarred({"bin/sh": b"x", "etc/passwd": b"root"}), {}),
            "junk": (b"junk" * 1000, {}),
        }
        layer, settings = layers[case]
        address = self.push(registry, tmp_path / case, layer, **settings)
        with pytest.raises(VmctlError):
            obtained(address, theirs)
        assert not list(theirs.boxes.glob("[a-z]*"))
        assert not theirs.downloads.exists() or list(theirs.downloads.iterdir()) == []


class TestRootFileSystems:
    """Container images of whole systems, in layers, as boxes in the form for containers."""

    def push(self, registry: Registry, layout: Path, *layers: bytes, **settings: Any) -> str:
        layout.mkdir()
        source = _image(layout, *layers, settings=settings)
        target = f"docker://{registry.host}/systems/{layout.name}:1.0"
        process.run(["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", source, target])
        return registry.at(f"systems/{layout.name}:1.0")

    def test_layers_become_a_box(self, registry: Registry, theirs: HomeLayout, tmp_path: Path) -> None:
        lower = tarred({"sbin/init": b"#!/bin/sh\n", "etc/motd": b"old", "opt/gone": b"x"})
        upper = tarred({"etc/motd": b"new", "opt/.wh.gone": b""})
        address = self.push(registry, tmp_path / "web", lower, upper, Cmd=["/sbin/init"])
        box = obtained(address, theirs)
        assert (box.name, box.version, box.arch, box.format) == ("web", "1.0", "x86_64", CONTAINER)
        assert (box.seeding, box.user, box.first_key, box.virtual_size) == ("none", "vagrant", "published", 10 * 2**30)
        with tarfile.open(box.path) as archive:
            assert json.loads(archive.extractfile("metadata.yaml").read())["architecture"] == "x86_64"  # type: ignore[union-attr]
            assert archive.extractfile("rootfs/etc/motd").read() == b"new"  # type: ignore[union-attr]
            assert "rootfs/opt/gone" not in archive.getnames()
        assert box.disk([CONTAINER]).path == box.path
        assert not box.has_form(["qcow2", "raw"])
        assert obtaining.obtain(Order(address=address), theirs) == (box, False)
        assert updating.newer_than(box, Access()).newer == ""
        assert list(theirs.downloads.iterdir()) == []

    def test_it_travels_on_as_a_box(
        self, registry: Registry, mine: HomeLayout, theirs: HomeLayout, tmp_path: Path
    ) -> None:
        layer = tarred({"sbin/init": b"#!", "usr/lib/vmctl/seed": b"#!", "x": b"y" * 3 * MIB})
        box = obtained(self.push(registry, tmp_path / "seeded", layer), mine)
        assert (box.seeding, box.user, box.first_key) == ("vmctl", "vmctl", "")
        push(box, registry.at("systems/again:1"), mine, Access())
        got = obtained(registry.at("systems/again:1"), theirs)
        assert (got.images, got.seeding, got.user) == (box.images, "vmctl", "vmctl")
        packing.repackage(got, tmp_path / "x.box")
        small = add(Request(address=str(tmp_path / "x.box"), name="x", version="2"), mine)[0]
        assert small.digest == box.digest
        store = BoxStore(mine)
        with store.draft() as draft:  # for machines of another size, as `package` makes it
            shutil.copytree(small.directory, draft / "box")
            fields = {name: getattr(small, name) for name in BoxInfo.__struct_fields__}
            info = BoxInfo(**{**fields, "version": "3", "virtual_size": 7 * 2**30})
            seven = store.take_in(draft / "box", info, same=lambda _box: False, numbered=False)[0]
        push(seven, registry.at("systems/seven:1"), mine, Access())
        assert obtained(registry.at("systems/seven:1"), theirs).virtual_size == 7 * 2**30

    @pytest.mark.parametrize(
        "members", [{"../sbin/init": b"x"}, {"/sbin/init": b"x"}, {"sbin/init": b"x", "sbin/init/x": b"y"}]
    )
    def test_hostile_layers_leave_nothing(
        self, members: dict[str, bytes], registry: Registry, theirs: HomeLayout, tmp_path: Path
    ) -> None:
        address = self.push(registry, tmp_path / f"evil-{len(str(members))}", tarred(members))
        with pytest.raises(Lying):
            obtained(address, theirs)
        assert not list(theirs.boxes.glob("[a-z]*"))
        assert list(theirs.downloads.iterdir()) == []

    def test_a_bomb(
        self, registry: Registry, theirs: HomeLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("vmctl.boxes.streams.UNQUESTIONED", 4 * MIB)
        monkeypatch.setattr("vmctl.boxes.streams.RATIO", 2)
        address = self.push(registry, tmp_path / "bomb", tarred({"sbin/init": bytes(64 * MIB)}))
        with pytest.raises(Lying, match="not a usable box") as caught:
            obtained(address, theirs)
        assert "unpacks to too much" in caught.value.details
        assert list(theirs.downloads.iterdir()) == []


def _image(layout: Path, *contents: bytes, settings: dict[str, Any] | None = None) -> str:
    """A container image of some layers."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    layers = [blob(data, "application/vnd.oci.image.layer.v1.tar+gzip") for data in contents or (bytes(1024),)]
    rootfs = {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}
    config = {"architecture": "amd64", "os": "linux", "rootfs": rootfs, "config": settings or {}}
    manifest: dict[str, Any] = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": layers,
        "config": blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
    }  # fmt: skip
    index = {"schemaVersion": 2, "manifests": [blob(json.dumps(manifest).encode(), manifest["mediaType"])]}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return f"oci:{layout}"


class TestPassword:
    @pytest.fixture(scope="class")
    @classmethod
    def guarded(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
        root = tmp_path_factory.mktemp("guarded")
        with docker_registry(root, auth=oci_servers.htpasswd(root)) as one:
            yield one

    def test_nobody_gets_in_without_a_login(self, guarded: Registry, mine: HomeLayout) -> None:
        with pytest.raises(Denied) as caught:
            obtained(guarded.at("web"), mine)
        assert "docker login" in caught.value.hint

    @pytest.fixture(params=["docker", "podman", "variable", "json", "path", "helper"])
    def login(
        self, request: pytest.FixtureRequest, guarded: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The login, in one of the places where people have it."""
        where, logins = request.param, {"auths": {guarded.host: {"auth": CREDENTIALS}}}
        docker, podman = tmp_path / "docker" / "config.json", tmp_path / "config" / "containers" / "auth.json"
        for path in (docker, podman):
            path.parent.mkdir(parents=True)
        if where == "docker":
            docker.write_text(json.dumps(logins))
        elif where == "podman":
            podman.write_text(json.dumps({"auths": {f"{guarded.host}/team": {"auth": CREDENTIALS}}}))
        elif where == "helper":
            docker.write_text(json.dumps({"credHelpers": {guarded.host: "test"}}))
            _helper(tmp_path / "bin", guarded.host)
            monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
        else:
            path = write(tmp_path / "logins.json", json.dumps(logins).encode())
            stated = {"variable": f"{guarded.host}={USER}:{PASSWORD}", "json": json.dumps(logins), "path": str(path)}
            monkeypatch.setenv("VMCTL_REGISTRY_AUTH", stated[where])

    @pytest.mark.usefixtures("login")
    def test_logins_are_found_where_people_have_them(
        self, guarded: Registry, mine: HomeLayout, theirs: HomeLayout
    ) -> None:
        push(boxed(mine, oci_servers.disk(windows=2, holes=())), guarded.at("team/web"), mine, Access())
        assert obtained(guarded.at("team/web"), theirs).version == "1.0"

    def test_a_wrong_password_is_denied_and_not_shown(
        self, guarded: Registry, mine: HomeLayout, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("VMCTL_REGISTRY_AUTH", f"{guarded.host}={USER}:sesame")
        with pytest.raises(Denied) as caught:
            obtained(guarded.at("web"), mine)
        assert "sesame" not in str(caught.value)


def _helper(directory: Path, host: str) -> None:
    directory.mkdir()
    answer = json.dumps({"Username": USER, "Secret": PASSWORD, "ServerURL": host})
    script = f"#!/bin/sh\nread host\n[ \"$1 $host\" = 'get {host}' ] && echo '{answer}' && exit 0\nexit 1\n"
    write(directory / "docker-credential-test", script.encode()).chmod(0o755)


class TestTokens:
    @pytest.fixture(scope="class")
    @classmethod
    def tokens(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
        with oci_servers.token_server(tmp_path_factory.mktemp("tokens")) as one:
            yield one

    @pytest.fixture(scope="class")
    @classmethod
    def guarded(cls, tmp_path_factory: pytest.TempPathFactory, tokens: TokenServer) -> Iterator[Registry]:
        with docker_registry(tmp_path_factory.mktemp("guarded"), auth=tokens.auth) as one:
            yield one

    def test_who_is_known_pushes_and_anybody_pulls(
        self, guarded: Registry, tokens: TokenServer, mine: HomeLayout, theirs: HomeLayout,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        box = boxed(mine, oci_servers.disk())
        with pytest.raises(Denied):
            push(box, guarded.at("public/web"), mine, Access())
        monkeypatch.setenv("VMCTL_REGISTRY_AUTH", f"{guarded.host}={USER}:{PASSWORD}")
        tokens.lifetime = 1  # tokens end in the middle
        push(box, guarded.at("public/web"), mine, Access())
        monkeypatch.delenv("VMCTL_REGISTRY_AUTH")
        assert obtained(guarded.at("public/web"), theirs).version == "1.0"
        monkeypatch.setenv("VMCTL_REGISTRY_AUTH", f"{guarded.host}={USER}:{PASSWORD}")
        push(box, guarded.at("private/web"), mine, Access())
        assert obtained(guarded.at("private/web"), theirs, name="x").version == "1.0"
        monkeypatch.delenv("VMCTL_REGISTRY_AUTH")
        with pytest.raises(Denied):
            obtained(guarded.at("private/web"), mine)

    def test_nobody_else_sees_the_login(
        self, guarded: Registry, tokens: TokenServer, mine: HomeLayout, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tokens.asked.clear()
        monkeypatch.setenv("VMCTL_REGISTRY_AUTH", f"{guarded.host}={USER}:{PASSWORD}")
        with wire(guarded.port) as other, pytest.raises(RegistryError):
            obtained(f"oci://{other.host}/public/none", mine)
        assert [authorization for _, authorization in tokens.asked] == [""] * len(tokens.asked)


class TestTls:
    @pytest.fixture(scope="class")
    @classmethod
    def authority(cls, tmp_path_factory: pytest.TempPathFactory) -> oci_servers.Authority:
        return oci_servers.authority(tmp_path_factory.mktemp("ca"))

    @pytest.fixture(scope="class")
    @classmethod
    def safe(cls, tmp_path_factory: pytest.TempPathFactory, authority: oci_servers.Authority) -> Iterator[Registry]:
        certificate, key = authority.issue("registry")
        tls = {"certificate": str(certificate), "key": str(key)}
        with docker_registry(tmp_path_factory.mktemp("safe"), tls=tls) as one:
            yield one

    def test_with_its_authority(
        self, safe: Registry, authority: oci_servers.Authority, mine: HomeLayout, theirs: HomeLayout
    ) -> None:
        access = Access(ca=authority.path)
        push(boxed(mine, oci_servers.disk()), safe.at("web"), mine, access)
        assert obtained(safe.at("web"), theirs, access=access).version == "1.0"

    def test_a_stranger_is_not_believed(self, safe: Registry, mine: HomeLayout) -> None:
        with pytest.raises(RegistryError, match="cannot be asked"):
            obtained(safe.at("web"), mine)


def test_the_command_line(registry: Registry, tmp_path: Path, private_home: Path) -> None:
    shop = Project(tmp_path, private_home)
    image = write(tmp_path / "web.img", oci_servers.disk())
    shop.vmctl("box", "add", str(image), "--name", "team/web", "--version", "1.0")
    answer = shop.vmctl("box", "push", "team/web", registry.at("cli/web"), "--json").answer
    assert (answer["tags"], answer["sent"], answer["changed"]) == (["1.0", "latest"], answer["bytes"], True)
    added = shop.vmctl("box", "add", registry.at("cli/web"), "--name", "again", "--json").answer
    assert (added["box"]["source"], added["changed"]) == (registry.at("cli/web:latest"), True)
    assert shop.vmctl("box", "add", registry.at("cli/web"), "--name", "again", "--json").answer["changed"] is False
    (tmp_path / "Vmfile").write_text(f"box: {registry.at('cli/web:1.0')}\nmachines: {{web: {{}}}}\n")
    shop.vmctl("box", "lock")
    lock = json.loads((tmp_path / "Vmfile.lock").read_text())
    entry = lock["boxes"][registry.at("cli/web:1.0")]["x86_64"]
    assert entry["source"] == answer["reference"]
    assert "no machine" not in shop.vmctl("box", "outdated").out
    rescued = shop.vmctl("box", "rescue", "team/web", "--to", registry.at("kept"), "--json").answer["boxes"]
    assert [(one["what"], one["place"]) for one in rescued] == [
        ("team/web 1.0 (x86_64)", registry.at("kept/team/web:1.0")),
    ]  # fmt: skip
    bad = shop.vmctl("box", "push", "again", "oci://Upper/CASE", status=2).err
    assert "invalid address" in bad
