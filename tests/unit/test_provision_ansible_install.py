"""How a guest without Ansible gets it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.unit.scripted_link import ScriptedLink
from vmctl.events import Event
from vmctl.provision import ansible_install
from vmctl.spec import Ansible

ENOUGH = ".".join(map(str, ansible_install.own_bundle().python))
"""The oldest Python that runs the Ansible that vmctl itself has here: a newer one for Python 3.12 than for 3.11."""


class Guest:
    """A guest with a Python, perhaps with an Ansible, and a package manager that works or not."""

    def __init__(self, *, has: str = "", python: str = ENOUGH, installs: bool = True) -> None:
        self.has, self.python, self.installs = has, python, installs
        self.link = ScriptedLink(self.reply)
        self.events: list[Event] = []

    def reply(self, command: str) -> tuple[int, str]:
        if command.startswith("python3 -c"):
            return (0, self.python.replace(".", " ")) if self.python else (127, "")
        if "tar -xzf" in command:
            return 0, "/home/me/.cache/vmctl/x/ansible-playbook\n"
        if "apt-get" in command or "pip" in command:
            self.has = "/usr/bin/ansible-playbook" if self.installs else ""
            return (0 if self.installs else 100), ""
        if "command -v ansible-playbook" in command:
            return (0, f"{self.has}\n") if self.has else (1, "")
        return 1, ""

    def ensure(self, **options: Any) -> str:
        item = Ansible(name="site", playbook=Path("site.yml"), mode="guest", **options)
        return ansible_install.ensure(item, "web", self.link, self.events.append)


def test_what_is_there_is_used() -> None:
    assert Guest(has="/usr/bin/ansible-playbook").ensure() == "/usr/bin/ansible-playbook"
    assert Guest().ensure(playbook_command="/opt/ansible") == "/opt/ansible"


def test_vmctl_brings_its_own_where_the_guests_python_runs_it() -> None:
    guest = Guest()
    assert guest.ensure().endswith("/ansible-playbook")
    (sent,) = guest.link.sent
    with tarfile.open(fileobj=io.BytesIO(sent)) as archive:
        names = archive.getnames()
    needed = {"ansible-playbook", "lib/ansible/cli/playbook.py", "lib/jinja2/__init__.py", "lib/yaml/__init__.py"}
    assert needed <= set(names)
    assert [name for name in names if name.endswith((".so", ".pyc")) or "ansible_test" in name or ".." in name] == []
    assert not any(command.startswith("sudo") for command in guest.link.asked)


def test_an_old_python_means_the_guests_package() -> None:
    guest = Guest(python="3.9")
    assert guest.ensure() == "/usr/bin/ansible-playbook"
    assert any(command.startswith("sudo") and "apt-get" in command for command in guest.link.asked)
    with pytest.raises(ansible_install.NoAnsible, match="needs Python 3"):
        Guest(python="3.9").ensure(install="bundle")


def test_pip_is_used_where_it_is_wanted_and_without_root() -> None:
    guest = Guest()
    guest.ensure(install="pip")
    assert any("pip" in command and not command.startswith("sudo") for command in guest.link.asked)


def test_no_ansible_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ansible_install.NoAnsible) as caught:
        Guest(python="3.9", installs=False).ensure()
    assert caught.value.brief == "there is no Ansible in the guest, and it could not be installed"
    assert "it said no" in caught.value.details
    assert caught.value.hint == "write install: bundle in the Vmfile, which needs no network"
    with pytest.raises(ansible_install.NoAnsible, match="there is no ansible-playbook in the guest"):
        Guest().ensure(install="never")


def test_the_bundle_is_named_for_what_is_in_it() -> None:
    assert ansible_install.own_bundle() == ansible_install.own_bundle()
    assert ansible_install.own_bundle().name.startswith("ansible-2.")
    assert ansible_install.own_bundle().python >= (3, 9)
