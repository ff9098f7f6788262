"""What the entries of `provision:` say, as frozen values. ``vmctl.spec`` has them too; import them from there.

Two entries are the same provisioner when all that they say is the same, wherever they were written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import field

from vmctl.source_location import Located, SourceLocation

Run = Literal["once", "always", "never"]
Side = Literal["guest", "host"]
Install = Literal["auto", "bundle", "package", "pip", "never"]

DEFAULT_REBOOT_TIMEOUT = 300.0


class Entry(Located, frozen=True, kw_only=True):
    """What all provisioners have."""

    name: str
    run: Run = "once"
    sensitive: bool = False
    """Whether it puts secrets into the guest, which no layer may hold."""
    inputs: tuple[Path, ...] | None = None
    """Paths of the host that count as well; not None = they are all that it takes from shared folders."""
    remotes: tuple[str, ...] | None = None
    """The targets of servers that it is for; None = all, () = machines only."""
    place: SourceLocation | None = None


class Shell(Entry, frozen=True, kw_only=True):
    """A script: exactly one of ``inline``, ``script`` (a file on the host) or ``url`` (with its checksum)."""

    inline: str | None = None
    script: Path | None = None
    url: str | None = None
    checksum: str = ""
    """ALGORITHM:HEX of what ``url`` gives."""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    become: bool = True
    on: Side = "guest"
    creates: str = ""
    """A path (where the script runs) whose presence says that it has been done; "" = none."""


class File(Entry, frozen=True, kw_only=True):
    """A file or a directory of the host that is put into the guest; what is the same already is left alone."""

    source: Path
    destination: str
    mode: int | None = None
    """Permission bits of files (a directory is searchable where it is readable); None = those of the source."""
    owner: str = ""
    group: str = ""
    become: bool = True
    template: bool = False
    """Whether files are Jinja2 templates (in a directory: those named ``*.j2``, which lose that ending)."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """``vars`` in the templates: the project's, with the entry's own above them."""


class Reboot(Entry, frozen=True, kw_only=True):
    """Restart the guest and wait until it is back, with its folders."""

    timeout: float = DEFAULT_REBOOT_TIMEOUT


class Ansible(Entry, frozen=True, kw_only=True):
    """An Ansible provisioner: one run over every machine that it applies to (``mode`` guest: one inside each)."""

    playbook: Path
    further_playbooks: tuple[Path, ...] = ()
    mode: Side = "host"
    install: Install = "auto"
    """``mode`` guest: how a guest without Ansible gets it."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    group_vars: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    host_vars: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    inventory: tuple[Path, ...] = ()
    """Further inventory sources, below vmctl's own."""
    extra_vars: Mapping[str, Any] = field(default_factory=dict)
    extra_vars_files: tuple[Path, ...] = ()
    limit: str = ""
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()
    start_at_task: str = ""
    become: bool = False
    become_user: str = ""
    ask_become_pass: bool = False
    vault: Mapping[str, Path | None] = field(default_factory=dict)
    """Vault id → file with its password (or a program that prints it); None = the user is asked."""
    forks: int | None = None
    strategy: str = ""
    check: bool = False
    diff: bool = False
    verbosity: int = 0
    raw_arguments: tuple[str, ...] = ()
    config_file: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    python_interpreter: str = ""
    playbook_command: str = ""
    """The program; "" = the one of vmctl's own environment, else the one in PATH."""
    requirements: Path | None = None
    """Roles and collections to install for the project."""

    @property
    def playbooks(self) -> tuple[Path, ...]:
        """All playbooks, in order."""
        return (self.playbook, *self.further_playbooks)

    @property
    def title(self) -> str:
        """The playbooks in messages."""
        return ", ".join(path.name for path in self.playbooks)


Provisioner = Shell | Ansible | File | Reboot
