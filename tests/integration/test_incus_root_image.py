"""A container image of a whole system, in layers, from a real registry to a machine of a real LXD."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ProjectDirectory
from tests.unit.oci_servers import docker_registry
from vmctl import process
from vmctl.boxes.box_store import BoxStore
from vmctl.driver import CONTAINER
from vmctl.layout import HomeLayout

pytestmark = pytest.mark.integration

HIDDEN, CHANGED = "usr/share/common-licenses/GPL-3", "etc/motd"


def lower(image: Path, target: Path) -> None:
    """The root file system of our own box, as the layer of a container image."""
    with tarfile.open(image) as source, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as out:
        for member in source:
            if not member.name.startswith("rootfs/"):
                continue
            data = source.extractfile(member) if member.isreg() else None
            member.name = member.name.removeprefix("rootfs/")
            if member.islnk():
                member.linkname = member.linkname.removeprefix("rootfs/")
            member.pax_headers = {k: v for k, v in member.pax_headers.items() if k.startswith("SCHILY")}
            out.addfile(member, data)


def upper(target: Path) -> None:
    """What somebody changed in it: a file, and one that is gone."""
    directory, _, name = HIDDEN.rpartition("/")
    with tarfile.open(target, "w") as out:
        for path, content in ((CHANGED, b"out of layers\n"), (f"{directory}/.wh.{name}", b"")):
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), 0o644
            out.addfile(member, io.BytesIO(content))


def layout(root: Path, *layers: Path) -> None:
    """An OCI layout of an image with these layers."""
    blobs = root / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes | Path, kind: str) -> dict[str, Any]:
        if isinstance(data, Path):
            with data.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            data.rename(blobs / digest)
        else:
            digest = hashlib.sha256(data).hexdigest()
            (blobs / digest).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": (blobs / digest).stat().st_size}

    described = [blob(path, "application/vnd.oci.image.layer.v1.tar") for path in layers]
    rootfs = {"type": "layers", "diff_ids": [one["digest"] for one in described]}
    config = {"architecture": "amd64", "os": "linux", "rootfs": rootfs, "config": {"Cmd": ["/sbin/init"]}}
    manifest = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": described,
        "config": blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
    }  # fmt: skip
    index = {"schemaVersion": 2, "manifests": [blob(json.dumps(manifest).encode(), str(manifest["mediaType"]))]}
    (root / "index.json").write_text(json.dumps(index))
    (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def test_a_machine_of_an_image_in_layers(containers: ProjectDirectory, tmp_path: Path) -> None:
    box = BoxStore(HomeLayout(Path(containers.environment["VMCTL_HOME"]))).find("debian-12")
    assert box is not None
    lower(box.disk([CONTAINER]).path, tmp_path / "lower.tar")
    upper(tmp_path / "upper.tar")
    layout(tmp_path / "image", tmp_path / "lower.tar", tmp_path / "upper.tar")
    with docker_registry(tmp_path / "registry") as registry:
        target = f"docker://{registry.host}/systems/debian:1.0"
        words = ["copy", "--dest-tls-verify=false", f"oci:{tmp_path / 'image'}", target]
        process.run(["skopeo", "--insecure-policy", *words])
        containers.write("Vmfile", f"box: {registry.at('systems/debian:1.0')}\nmemory: 256MiB\n")
        containers.vmctl("up")
    assert containers.ssh(f"cat /{CHANGED}; ls /{HIDDEN} 2>&1; sudo stat -c %a /usr/bin/sudo").splitlines() == [
        "out of layers", f"ls: cannot access '/{HIDDEN}': No such file or directory", "4755",
    ]  # fmt: skip
    assert containers.ssh("systemctl is-system-running --wait || true").strip() == "running"
    containers.vmctl("destroy", "--yes")
    containers.vmctl("box", "remove", "debian")
