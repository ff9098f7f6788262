"""Boxes go to the real Vagrant and come back: what `box repackage` writes, and what `vagrant box repackage` writes."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.harness import Project
from tests.unit.box_images import qcow2, write
from vmctl import process
from vmctl.spec import GIB

pytestmark = pytest.mark.integration


@pytest.fixture
def vagrant() -> str:
    """The real one."""
    found = shutil.which("vagrant")
    if not found:
        pytest.fail(
            "the real Vagrant is missing:  sudo apt-get install --no-install-recommends vagrant vagrant-libvirt"
        )
    return found


def test_a_box_goes_to_vagrant_and_comes_back(
    tmp_path: Path, private_home: Path, vagrant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"VAGRANT_HOME": str(tmp_path / "vagrant"), "VAGRANT_CHECKPOINT_DISABLE": "1"}
    vmctl = Project(tmp_path, private_home).vmctl
    image = tmp_path / "disk.qcow2"
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "2500M"])
    process.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 1G 1M", image])
    vmctl("box", "add", str(image), "--name", "org/mine", "--version", "1.5", "--user", "me", "--arch", "x86_64")
    vmctl("box", "repackage", "org/mine@1.5", "--output", "ours.box")

    process.run([vagrant, "box", "add", "--name", "org/mine", tmp_path / "ours.box"], env=environment, cwd=tmp_path)
    assert "(libvirt, 0" in process.run([vagrant, "box", "list"], env=environment, cwd=tmp_path).stdout
    process.run([vagrant, "box", "repackage", "org/mine", "libvirt", "0"], env=environment, cwd=tmp_path)

    back = vmctl("box", "add", "package.box", "--name", "back", "--json").answer["box"]
    assert (back["user"], back["arch"], back["virtual_size"]) == ("me", "x86_64", 2500 * GIB // 1024)
    assert back["digest"] == hashlib.sha256(image.read_bytes()).hexdigest()
    monkeypatch.setenv("VAGRANT_HOME", environment["VAGRANT_HOME"])
    process.run([vagrant, "box", "add", "--name", "org/two", tmp_path / "ours.box"], env=environment, cwd=tmp_path)
    rescued = vmctl("box", "rescue", "--vagrant", "--to", "rescued", "--json").answer
    assert [(one["what"], one["rescued"]) for one in rescued["boxes"]] == [
        ("org/mine 0 (libvirt)", True), ("org/two 0 (libvirt)", True),
    ]  # fmt: skip
    shown = {one["name"]: one for one in vmctl("box", "list", "--json").answer["boxes"]}
    assert (shown["org/two"]["digest"], shown["org/two"]["user"]) == (back["digest"], "me")
    assert (tmp_path / "rescued" / "org" / "two.json").is_file()

    unpacked = tmp_path / "vagrant" / "boxes" / "org-VAGRANTSLASH-mine" / "0" / "libvirt"
    assert json.loads((unpacked / "metadata.json").read_text())["virtual_size"] == 3


def test_vagrant_reads_a_published_folder(tmp_path: Path, private_home: Path, vagrant: str) -> None:
    """By its catalogue, on the disk and on the web: the newest version, another one, and an update."""
    environment = {"VAGRANT_HOME": str(tmp_path / "vagrant"), "VAGRANT_CHECKPOINT_DISABLE": "1"}
    vmctl = Project(tmp_path, private_home).vmctl
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "public"))

    def added(*words: str) -> str:
        process.run([vagrant, "box", *words], env=environment, cwd=tmp_path)
        return process.run([vagrant, "box", "list"], env=environment, cwd=tmp_path).stdout

    def published(version: str, *words: str) -> str:
        image = write(tmp_path / f"{version}.img", qcow2(payload=version.encode()))
        vmctl("box", "add", str(image), "--name", "team/web", "--version", version, "--arch", "x86_64")
        answer = vmctl("box", "publish", f"team/web@{version}", "public", *words, "--json").answer
        assert answer["changed"] is True
        return str(answer["url"])

    local = published("1.0")
    assert "team/web (libvirt, 1.0" in added("add", local.removeprefix("file://"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = published("1.1", "--url", f"http://127.0.0.1:{server.server_address[1]}")
        published("1.2")
        assert "team/web (libvirt, 1.2" in added("add", url)
        assert "team/web (libvirt, 1.1" in added("add", url, "--box-version", "~>1.0,<1.2")
        published("2.0")
        assert "team/web (libvirt, 2.0" in added("update", "--box", "team/web", "--provider", "libvirt")
        server.shutdown()
