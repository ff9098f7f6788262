"""A Debian root file system from packages: mmdebstrap, as root or (in a user namespace) as anyone."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from vmctl import process
from vmctl.boxes.recipe import Recipe
from vmctl.boxes.user_namespace import as_root
from vmctl.errors import VmctlError
from vmctl.events import Output, Report
from vmctl.user_environment import path_from

PROGRAMS = {"mmdebstrap": "mmdebstrap", "tar": "tar", "gpgv": "gpgv", "apt-get": "apt"}
TEMPORARY = "/var/tmp"  # noqa: S108  as mktemp does; /tmp is often RAM, and a file system of 600 MB passes through
# Recipes' files run inside the new system: outside, its root may not even reach the directory they lie in.
CUSTOMIZE = "/customize.sh"


@dataclass(frozen=True, slots=True)
class Debian:
    """One root file system in the making."""

    recipe: Recipe
    work: Path
    epoch: int
    report: Report

    def make(self) -> Path:
        """Fetch, install and customise; a directory with the root file system."""
        archive = self.work / "root.tar"
        self._bootstrap(archive)
        tree = self.work / "tree"
        tree.mkdir()
        process.run(
            as_root(
                process.find("tar"), "--extract", "--file", str(archive), "--directory", str(tree),
                "--same-permissions", "--same-owner", "--numeric-owner", "--xattrs", "--xattrs-include=*",
                "--exclude=./dev/*",
            )
        )  # fmt: skip
        archive.unlink()
        return tree

    def _bootstrap(self, archive: Path) -> None:
        overlay = self.work / "overlay.tar"
        overlay.write_bytes(self.recipe.overlay(self.epoch))
        lines: list[str] = []

        def tell(line: str) -> None:
            lines.append(line)
            self.report(Output(line=line, source="mmdebstrap"))

        temporary = str(path_from("TMPDIR") or TEMPORARY)
        env = {"SOURCE_DATE_EPOCH": str(self.epoch), "TMPDIR": temporary, "LC_ALL": "C.UTF-8"}
        status = process.stream(self._argv(archive, overlay), tell, env=env)
        if status:
            tail = "\n".join(lines[-process.DETAIL_LINES :])
            raise VmctlError(
                f"mmdebstrap could not install Debian's packages (status {status})",
                details=tail,
                hint=_hint(tail),
            )

    def _argv(self, archive: Path, overlay: Path) -> list[str]:
        apt = self.recipe.data["apt"]
        return [
            process.find("mmdebstrap"),
            "--mode=auto",
            "--variant=minbase",
            f"--architectures={apt['architecture']}",
            f"--include={','.join(apt['packages'])}",
            '--aptopt=Apt::Install-Recommends "false"',
            "--format=tar",
            f"--customize-hook=tar-in {shlex.quote(str(overlay))} /",
            f'--customize-hook=chroot "$1" {CUSTOMIZE}',
            f'--customize-hook=rm "$1{CUSTOMIZE}"',
            "--",
            str(self.recipe.data["suite"]),
            str(archive),
            *apt["sources"],
        ]


def packages(tree: Path) -> list[str]:
    """What is installed: "name version", sorted."""
    status = (tree / "var/lib/dpkg/status").read_text(encoding="utf-8")
    fields = (dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != " ")
              for block in status.split("\n\n") if block.strip())  # fmt: skip
    return sorted(f"{one['Package']} {one['Version']}" for one in fields)


def _hint(output: str) -> str:
    if "keyring" in output or "NO_PUBKEY" in output:
        return "sudo apt-get install debian-archive-keyring"
    if "subuid" in output or "unshare" in output or "user namespace" in output:
        return "sudo vmctl box build, or let ordinary users make namespaces: sudo apt-get install uidmap"
    return "vmctl -vv box build debian-12   # shows all that mmdebstrap prints"
