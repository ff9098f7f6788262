"""How to get into a machine over SSH: everything that ssh, paramiko and Ansible need to know."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from vmctl.driver import Address


class Login(Struct, frozen=True, kw_only=True):
    """Where a machine's SSH answers, as whom to log in, and which keys prove both sides."""

    machine: str
    """The machine's name in the Vmfile; also the SSH host alias, and the name in ``known_hosts`` (HostKeyAlias)."""
    address: Address
    user: str
    key: Path
    """Private user key (0600)."""
    known_hosts: Path
    """Exactly the guest's host key, under the alias ``machine``. Checking is strict, always."""
    config: Path
    """The ``ssh_config`` file written for this machine (OpenSSH and Ansible use ``-F`` with it)."""
    first_key: Path | None = None
    """What lets in besides ``key`` on a guest's first boot, where it took no seed. Then the host key is not known
    either: without ``known_hosts``, the one that the guest shows is taken."""
    first_password: Path | None = None
    """A private file with a password that lets in as well then; only beside ``first_key``."""

    @property
    def is_root(self) -> bool:
        """Whether it leads straight to root, so that nothing needs sudo."""
        return self.user == "root"
