"""A playbook and all that counts as its inputs, packed for a guest in which it runs (`mode: guest`).

Their places relative to each other stay. What a playbook reads from elsewhere is not sent: it has to be in the guest.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from msgspec import structs

from vmctl.errors import VmctlError
from vmctl.provision import inputs
from vmctl.spec import Ansible

TREE, CONTENT, PRIVATE = "tree", "content", "private"
PLUGIN = "vmctl_events"


@dataclass
class GuestPayload:
    """What goes into a private directory of the guest."""

    item: Ansible
    root: Path
    """The project's directory."""
    content: Path | None
    """Roles and collections that were installed for it."""
    secrets: Mapping[str, str]
    """Vault id → password."""
    base: Path = field(init=False)

    def __post_init__(self) -> None:
        self._files = list(dict.fromkeys(inputs.ansible_files(self.item)))
        self.base = Path(os.path.commonpath([self.root, *(path.parent for path in self._files)]))

    def directory(self, stage: str) -> str:
        """Where ansible-playbook runs: the project's directory."""
        return str(self._there(stage, self.root))

    def translated(self, stage: str) -> Ansible:
        """The entry with the paths that hold in the guest, when everything lies in ``stage``."""
        vault = {name: Path(stage, PRIVATE, f"vault-{name}") for name in self.secrets}
        config = self.item.config_file
        return structs.replace(
            self.item,
            playbook=self._there(stage, self.item.playbook),
            further_playbooks=tuple(self._there(stage, path) for path in self.item.further_playbooks),
            extra_vars_files=tuple(self._there(stage, path) for path in self.item.extra_vars_files),
            config_file=self._there(stage, config) if config else None,
            vault=vault,
        )

    def _there(self, stage: str, path: Path) -> Path:
        return Path(stage, TREE, path.relative_to(self.base))

    def archive(self, inventory: str, extra_vars: object) -> bytes:
        """All of it as a gzipped tar.

        Raises:
            VmctlError: a file cannot be read.
        """
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
            for path in self._files:
                _add_file(archive, f"{TREE}/{path.relative_to(self.base)}", path)
            for path in inputs.everything_below(self.content) if self.content else ():
                _add_file(archive, f"{CONTENT}/{path.relative_to(self.content or path)}", path)
            plugin = resources.files("vmctl_playbooks") / "callback_plugins" / f"{PLUGIN}.py"
            _add(archive, f"plugins/{PLUGIN}.py", plugin.read_bytes(), 0o644)
            _add(archive, f"{PRIVATE}/inventory.yml", inventory.encode(), 0o600)
            _add(archive, f"{PRIVATE}/vars.json", json.dumps(extra_vars).encode(), 0o600)
            for name, secret in self.secrets.items():
                _add(archive, f"{PRIVATE}/vault-{name}", secret.encode() + b"\n", 0o600)
            if not self.root.is_relative_to(self.base) or self.root != self.base:
                _add_directory(archive, f"{TREE}/{self.root.relative_to(self.base)}")
        return buffer.getvalue()


def _add_file(archive: tarfile.TarFile, name: str, path: Path) -> None:
    try:
        data, mode = path.read_bytes(), path.stat().st_mode & 0o777
    except FileNotFoundError:
        return  # a broken link, which nothing can read
    except OSError as error:
        raise VmctlError(f"{path} cannot be read", details=str(error)) from error
    _add(archive, name, data, mode)


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode | 0o600
    archive.addfile(member, io.BytesIO(data))


def _add_directory(archive: tarfile.TarFile, name: str) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, 0o755
    archive.addfile(member)
