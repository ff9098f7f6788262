"""`vmctl box publish`: a folder of boxes and catalogues that any web server serves, for vmctl and for Vagrant.

    DIR/team/web.json                                        the catalogue, in Vagrant's format
    DIR/team/web.boxes/1.0/web-1.0-x86_64-0123456789abcdef.box   libvirt's format; its name tells its content

A file is whole and on the disk before a catalogue names it, and never changes or goes away; a catalogue is replaced by
one rename. So whoever reads meanwhile, however slowly, gets what the catalogue promised.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from vmctl import flock
from vmctl.boxes import packing
from vmctl.boxes.address import is_web
from vmctl.boxes.box import Box
from vmctl.boxes.checksum import digest_of
from vmctl.boxes.versions import Version
from vmctl.driver import CONTAINER
from vmctl.errors import UsageError, VmctlError, shell_command
from vmctl.events import Report, StepDone, StepStarted, ignore
from vmctl.store import files

STEP = "publish_box"
PROVIDER = "libvirt"
OURS = "vmctl"
"""Key of a catalogue, and of its entries, for what only vmctl knows; Vagrant passes it over."""
MODE = 0o644
DIRECTORY_MODE = 0o755
PREFERRED = "amd64"


class Published(Struct, frozen=True, kw_only=True):
    """What a box became."""

    catalogue: Path
    file: Path
    url: str
    """Of the catalogue: what goes into a Vmfile."""
    changed: bool


def publish(box: Box, directory: Path, *, url: str = "", report: Report = ignore) -> Published:
    """Write a box into a folder and its catalogue; what is there already stays.

    Args:
        box: in the store.
        directory: the folder; made where it is absent.
        url: where the folder will be on the web; "" = where it was said to be before, else only files of this host.
        report: told of the progress.

    Raises:
        UsageError: the URL is not one, or this version is published with different content.
        VmctlError: a catalogue that is there is damaged, the disk is full, or qemu-img failed.
        Interrupted: the user asked to stop; readers see nothing of it.
    """
    if url and not is_web(url):
        raise UsageError(f"invalid URL {url!r}", hint="vmctl box publish NAME DIR --url https://boxes.example.org")
    if box.format == CONTAINER:
        raise UsageError(
            f"the box {box} is for containers alone, which Vagrant's catalogues cannot tell",
            hint=f"vmctl box push {box.name}@{box.version} oci://REGISTRY/NAME    # or box repackage",
        )
    started = time.monotonic()
    report(StepStarted(step=STEP, text=f"publishing {box} in {directory}"))
    _make(directory)
    with flock.held_directory(directory):
        done = _Publishing(box, directory, url.rstrip("/")).run()
    report(StepDone(step=STEP, seconds=time.monotonic() - started, changed=done.changed, text=str(done.catalogue)))
    return done


class _Publishing:
    """One box on its way into a folder, which is held."""

    def __init__(self, box: Box, directory: Path, url: str) -> None:
        self.box, self.directory = box, directory
        self.catalogue = directory / f"{box.name}.json"
        self.document = self._read()
        self.old_base = str(self.document.get(OURS, {}).get("base", ""))
        self.base = url or (self.old_base if is_web(self.old_base) else directory.absolute().as_uri())

    def run(self) -> Published:
        identity = _identity(self.box)
        file = self._file(identity)
        before = json.dumps(self.document, sort_keys=True)
        entry = self._entry()
        if entry is not None and entry.get(OURS, {}).get("identity") != identity:
            raise UsageError(
                f"{self.box} is published in {self.directory} already, with different content",
                details="Readers may have it, so it stays as it is.",
                hint=f"vmctl box add … --name {self.box.name} --version ANOTHER",
            )
        if entry is None or not file.exists():
            self._write(file)
            self._add(file, identity)
        self._move()
        changed = json.dumps(self.document, sort_keys=True) != before
        if changed:
            files.write_json(self.catalogue, self.document, mode=MODE)
        return Published(catalogue=self.catalogue, file=file, url=self._url(self.catalogue), changed=changed)

    def _read(self) -> dict[str, Any]:
        found: dict[str, Any] | None = files.read_json(self.catalogue)
        if found is None:
            return {"name": self.box.name, "description": f"{self.box.name}, published by vmctl", "versions": []}
        problem = _problem(found, self.box.name)
        if problem:
            raise VmctlError(
                f"{self.catalogue} is not a usable catalogue",
                details=problem,
                hint=shell_command("cat", self.catalogue),
            )
        return found

    def _file(self, identity: str) -> Path:
        base = self.box.name.rpartition("/")[2]
        version = self.directory / f"{self.box.name}.boxes" / self.box.version
        return version / f"{base}-{self.box.version}-{self.box.arch}-{identity}.box"

    def _write(self, file: Path) -> None:
        """Have the file, whole; what a killed vmctl left beside it goes."""
        _make(file.parent)
        for left in [*file.parent.glob(".*"), *self.catalogue.parent.glob(f".{self.catalogue.name}.*")]:
            left.unlink()
        if not file.exists():
            packing.repackage(self.box, file)

    @property
    def _versions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.document["versions"]
        return found

    @property
    def _arch(self) -> str:
        return packing.WORDS.get(self.box.arch, self.box.arch)

    def _entry(self) -> dict[str, Any] | None:
        """What the catalogue says of this version for this architecture."""
        same = (one for one in self._versions if one["version"] == self.box.version)
        providers = (one for version in same for one in version["providers"])
        return next(
            (one for one in providers if (one["name"], one.get("architecture")) == (PROVIDER, self._arch)), None
        )

    def _add(self, file: Path, identity: str) -> None:
        entry = {
            "name": PROVIDER, "url": self._url(file), "checksum_type": "sha256", "checksum": digest_of(file),
            "architecture": self._arch, OURS: {"identity": identity},
        }  # fmt: skip
        version = next((one for one in self._versions if one["version"] == self.box.version), None)
        if version is None:
            version = {"version": self.box.version, "providers": []}
            self.document["versions"] = sorted([*self._versions, version], key=_order, reverse=True)
        others = [
            one for one in version["providers"] if (one["name"], one.get("architecture")) != (PROVIDER, self._arch)
        ]
        version["providers"] = _with_default([*others, entry])

    def _move(self) -> None:
        """Let all that vmctl wrote lead to where the folder is now."""
        for version in self._versions:
            for one in version["providers"]:
                url = str(one["url"])
                if OURS in one and self.old_base and url.startswith(f"{self.old_base}/"):
                    one["url"] = self.base + url.removeprefix(self.old_base)
        self.document[OURS] = {"base": self.base}

    def _url(self, path: Path) -> str:
        return f"{self.base}/{quote(path.relative_to(self.directory).as_posix())}"


def _identity(box: Box) -> str:
    """Changes when anything does that goes into the file."""
    key = hashlib.sha256(box.first_login_key() or b"").hexdigest()
    defining = [[one.digest for one in box.images], box.settings, box.seeding, key, box.first_login_password()]
    return hashlib.sha256(json.dumps(defining).encode()).hexdigest()[:16]


def _with_default(providers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One architecture of the provider is the default; it comes last, where a Vagrant that knows none looks."""
    ours = [one for one in providers if one["name"] == PROVIDER]
    chosen = next((one for one in ours if one.get("architecture") == PREFERRED), ours[0])
    for one in ours:
        one["default_architecture"] = one is chosen
    return [*(one for one in providers if one is not chosen), chosen]


def _order(version: Mapping[str, Any]) -> Version:
    return Version(str(version["version"]))


def _problem(document: Any, name: str) -> str:
    """Why a document is not a catalogue that a version can be added to; "" = it is."""
    if not isinstance(document, dict) or not isinstance(document.get("versions"), list):
        return "it is not a JSON object with versions"
    if document.get("name") != name:
        return f"it is that of {document.get('name')}"
    if not isinstance(document.get(OURS, {}), dict):
        return f"its {OURS!r} is not an object"
    for version in document["versions"]:
        providers = version.get("providers") if isinstance(version, dict) else None
        if not isinstance(providers, list) or not all(map(_is_entry, providers)):
            return f"its version {str(version)[:60]} has no providers with name and url"
        try:
            _order(version)
        except (KeyError, UsageError):
            return f"{str(version)[:60]} has no valid version"
    return ""


def _is_entry(one: Any) -> bool:
    return isinstance(one, dict) and {"name", "url"} <= one.keys() and isinstance(one.get(OURS, {}), dict)


def _make(directory: Path) -> None:
    """As ``mkdir -p``, for directories that everybody may read; on the disk when this returns."""
    missing = [one for one in (directory, *directory.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        files.sync_directory(one.parent)
