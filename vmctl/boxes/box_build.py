"""`vmctl box build`: a recipe becomes a box in the store."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import structs

from vmctl import process
from vmctl.boxes import built_images, debian, image, space, user_namespace
from vmctl.boxes.box import RECIPE, Box, BoxImage, BoxInfo
from vmctl.boxes.box_store import BoxStore, lock_path
from vmctl.boxes.built_images import ContainerImage
from vmctl.boxes.recipe import Recipe, load
from vmctl.boxes.versions import Constraint, Version
from vmctl.driver import CONTAINER
from vmctl.errors import UsageError, VmctlError
from vmctl.events import Report, StepDone, StepStarted, ignore
from vmctl.layout import HomeLayout
from vmctl.process import ProgramMissing
from vmctl.spec import GIB
from vmctl.store import locks

STEP = "build_box"
SPACE = 3 * GIB
LONGEST_EPOCH = 12
CHUNK = 1024**2


def build(name: str, home: HomeLayout, *, constraint: str = "", report: Report = ignore, again: bool = False) -> Box:
    """Build the box ``name`` from its recipe, unless the store has one that this very recipe made.

    Args:
        name: the recipe.
        home: vmctl's data directory.
        constraint: what the version must satisfy.
        report: told of the progress.
        again: build even so, for newer packages.

    Raises:
        ProgramMissing: the host lacks programs; the hint installs all of them.
        VmctlError: the recipe makes no such version, or a program failed. The store is unchanged.
    """
    recipe = load(name)
    if not (box := _built(recipe, home, constraint)) or again:
        check_programs()
        with locks.hold(lock_path(home, "build", name), f"the build of box {name}", report=report):
            known, box = box, _built(recipe, home, constraint)
            if box is None or box == known:  # nobody built it while this process waited
                box = _Build(recipe, BoxStore(home, report), report, _epoch()).run(Constraint.parse(constraint))
    return box


def check_programs() -> None:
    """See that the host has every program that a build takes.

    Raises:
        ProgramMissing: with one command that brings all of them.
    """
    missing: dict[str, str] = {}
    for program, package in {**debian.PROGRAMS, **built_images.PROGRAMS, **user_namespace.needs_programs()}.items():
        try:
            process.find(program)
        except ProgramMissing:
            missing[program] = package
    if missing:
        raise ProgramMissing(
            f"building a box takes programs that are not installed: {', '.join(sorted(missing))}",
            hint=f"sudo apt-get install {' '.join(sorted(set(missing.values())))}",
        )


def _built(recipe: Recipe, home: HomeLayout, constraint: str) -> Box | None:
    allowed = Constraint.parse(constraint)
    made = (box for box in BoxStore(home).boxes(recipe.name) if box.provenance.get("recipe") == recipe.digest)
    return next((box for box in made if allowed.allows(box.order)), None)


def _epoch() -> int:
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not epoch:
        return int(time.time())
    if not epoch.isascii() or not epoch.isdecimal() or len(epoch) > LONGEST_EPOCH:
        raise UsageError(f"SOURCE_DATE_EPOCH: {epoch!r} is not a number of seconds", hint="unset SOURCE_DATE_EPOCH")
    return int(epoch)


@dataclass(frozen=True, slots=True)
class _Build:
    """One build."""

    recipe: Recipe
    store: BoxStore
    report: Report
    epoch: int

    def run(self, allowed: Constraint) -> Box:
        version = self._version()
        if not allowed.allows(Version(version)):
            raise VmctlError(
                f"the recipe for {self.recipe.name} makes version {version}, which does not satisfy the constraint",
                hint="vmctl box list",
            )
        started = time.monotonic()
        text = f"building box {self.recipe.name} from Debian's packages (a minute or two)"
        self.report(StepStarted(step=STEP, text=text))
        with self.store.draft(user_namespace.discard) as draft, space.needed(draft, f"to build {self.recipe.name}"):
            space.require(draft, SPACE, f"to build {self.recipe.name}")
            box = self._make(draft, version)
        self.report(StepDone(step=STEP, seconds=time.monotonic() - started, text=str(box)))
        return box

    def _make(self, draft: Path, version: str) -> Box:
        tree = debian.Debian(self.recipe, draft, self.epoch, self.report).make()
        self.report(StepStarted(step=STEP, text="writing the disk image"))
        target, container = draft / "image", draft / "container"
        built_images.DiskImage(self.recipe, draft, self.epoch).make(tree, target)
        self.report(StepStarted(step=STEP, text="writing the image for containers"))
        ContainerImage(self.recipe, draft, self.epoch).make(tree, container)
        info = self._info(target, container, version, debian.packages(tree))
        directory = draft / "box"
        directory.mkdir(mode=0o755)
        for path, one in zip((target, container), info.files, strict=True):
            path.rename(directory / one.image_name)
        return self.store.take_in(directory, info, numbered=False)[0]

    def _info(self, target: Path, container: Path, version: str, packages: list[str]) -> BoxInfo:
        found = image.inspect(target, str(target))
        disk = BoxImage.of(target, found.format, found.virtual_size)
        data: Mapping[str, Any] = self.recipe.data
        return BoxInfo(
            name=self.recipe.name,
            version=version,
            arch=str(data["arch"]),
            **structs.asdict(disk),
            forms=(BoxImage.of(container, CONTAINER, self.recipe.disk),),
            source=RECIPE + self.recipe.name,
            origin=RECIPE + self.recipe.name,
            user=str(data["user"]),
            seeding=str(data["seeding"]),
            provenance={
                "added": time.time(),
                "recipe": self.recipe.digest,
                "source_date_epoch": self.epoch,
                "sources": list(data["apt"]["sources"]),
                "packages": packages,
            },
        )

    def _version(self) -> str:
        """The day of the build; a second one on that day gets a further number from the store."""
        return time.strftime(f"{self.recipe.data['version']}.%Y%m%d", time.gmtime(self.epoch))
