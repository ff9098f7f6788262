"""A project whose machines are one real OpenSSH server on the loopback, provisioned by the real Ansible."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import structs

from tests.unit.openssh_server import Sshd, free_port
from vmctl import provision, ssh
from vmctl.driver import Address
from vmctl.events import Event, Output, StepDone
from vmctl.layout import ProjectLayout
from vmctl.login import Login
from vmctl.provision import Summary, Target
from vmctl.provision.machine_hosts import MachineHosts
from vmctl.spec import Ansible, BoxRef, MachineSpec, Project, Provisioner


@dataclass
class Bench:
    """A project directory, with what was told during its runs."""

    root: Path
    server: Sshd
    events: list[Event] = field(default_factory=list)
    specs: dict[str, MachineSpec] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    logins: dict[str, Login] = field(default_factory=dict)

    @property
    def layout(self) -> ProjectLayout:
        """Where the project keeps its state."""
        return ProjectLayout(self.root / ".state", self.root / ".vmctl")

    @property
    def project(self) -> Project:
        """The project with all machines so far."""
        return Project(root=self.root, file=self.root / "Vmfile", machines=tuple(self.specs.values()))

    def write(self, name: str, text: str) -> Path:
        """Write a file of the project."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def playbook(self, text: str, name: str = "site.yml", **options: object) -> Ansible:
        """An `ansible` provisioner with this playbook."""
        path = self.write(name, text)
        return Ansible(name=path.stem, playbook=path, **options)  # type: ignore[arg-type]  # the tests name real fields

    def machine(self, name: str, *items: Provisioner, answers: bool = True, group: str = "") -> Target:
        """A machine that needs these provisioners (or the same one, with others)."""
        layout = self.layout.machine(name)
        layout.root.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.server.login.key, layout.key)
        ssh.write_known_hosts(layout.known_hosts, name, (self.server.root / "host_ed25519.pub").read_text())
        address = self.server.login.address if answers else Address(host="127.0.0.1", port=free_port())
        login = structs.replace(
            self.server.login,
            machine=name, address=address, key=layout.key, known_hosts=layout.known_hosts, config=layout.ssh_config,
        )  # fmt: skip
        ssh.write_config(login)
        self.specs[name] = MachineSpec(name=name, box=BoxRef(address="debian-12"), provision=items, group=group)
        self.logins[name] = login
        self.targets[name] = Target.machine(self.specs[name], login, layout)
        return self.targets[name]

    def host_set(self, *running: str) -> MachineHosts:
        """The machines, some of which run (all, without names)."""
        return MachineHosts(self.project, [self.logins[name] for name in running or self.logins], self.layout)

    def run(self, *names: str, **options: Any) -> Summary:
        """Provision these machines (all, without names); options as ``provision.run`` takes them."""
        self.events.clear()
        targets = [target for name, target in self.targets.items() if not names or name in names]
        return provision.run(
            self.host_set(*(target.name for target in targets)),
            targets,
            layout=self.layout,
            report=self.events.append,
            **options,
        )

    def needs(self, name: str) -> list[str]:
        """Names of the provisioners that the machine needs now."""
        target = self.targets[name]
        return [item.name for item in provision.pending(target, target.layout)]

    @property
    def printed(self) -> str:
        """Every line that programs printed."""
        return "\n".join(event.line for event in self.events if isinstance(event, Output))

    @property
    def reported(self) -> str:
        """Every line about steps that ended."""
        return "\n".join(event.text for event in self.events if isinstance(event, StepDone))

    @property
    def leftovers(self) -> list[Path]:
        """What the runs have left in their private directory."""
        return [path for path in self.layout.runner.rglob("*") if not path.name.startswith("lock")]
