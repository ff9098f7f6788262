"""A provider for tests: the fake driver, whose machines have a real OpenSSH server where the guest's would answer.

Announced as a plug-in by ``conftest.py``, through a real entry point. What runs in the "guest" runs on this host.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from tests.unit.openssh_server import KEYS_ONLY
from vmctl import process
from vmctl.driver import Definition, Disk, Host, Tag
from vmctl.errors import WrongState
from vmctl.lifecycle import etc_hosts
from vmctl.powers import Layer
from vmctl.store import port_leases
from vmctl.testing import FakeDriver

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.password_server import PasswordServer

OLD: dict[str, PasswordServer] = {}
"""Running guests with a password, by the machine's name."""
PATIENCE = 10.0  # seconds for sshd to end
SUDO = """\
#!/bin/sh
while :; do
    case $1 in --) shift; break ;; -*) shift ;; *) break ;; esac
done
exec "$@"
"""
CONFIG = (
    """\
ListenAddress 127.0.0.1:{port}
HostKey "{host_key}"
AuthorizedKeysFile "{authorized}"
SetEnv HOME={home} PATH={bin}:/usr/local/bin:/usr/bin:/bin
PidFile "{pid}"
Subsystem sftp internal-sftp
"""
    + KEYS_ONLY
)


class FakeGuests(FakeDriver):
    """Fake machines with real SSH servers; state is shared by all processes that use the directory."""

    place = "fake"

    def __init__(self, host: Host) -> None:
        super().__init__(host, directory=host.home / self.place)
        self._directory.mkdir(parents=True, exist_ok=True)
        first = 22000 + zlib.crc32(str(host.home).encode()) % 900
        port_leases.SSH_RANGE = range(first, 23000)  # tests in other directories at the same time take others
        hosts = host.home / "hosts"
        etc_hosts.HOSTS = str(hosts)  # never the /etc/hosts of whoever runs the tests
        if not hosts.exists():
            hosts.write_text("127.0.0.1 localhost\n")

    def create(self, definition: Definition, base: Disk) -> None:
        super().create(definition, base)
        self._write(definition)

    def clone(self, definition: Definition, source: str, tag: Tag) -> None:
        super().clone(definition, source, tag)
        machines = definition.console.parent.parent
        self._write(definition, keys=machines / definition.tag.machine.partition(".")[0])

    def update(self, definition: Definition) -> None:
        super().update(definition)
        self._write(definition)

    def start(self, name: str, tag: Tag) -> None:
        super().start(name, tag)
        if (self.host.home / "guests" / "password").exists():
            self._start_old(name)
        elif not self._pid(name).exists() and not (self.host.home / "no-sshd").exists():
            program = process.find("sshd", package="openssh-server")
            with (self._directory / f"{name}.log").open("ab") as log:
                subprocess.run([program, "-f", self._config(name), "-E", os.devnull], check=True, stderr=log)

    def stop(self, name: str, tag: Tag, *, force: bool = False) -> None:
        super().stop(name, tag, force=force)
        self._end(name)

    def suspend(self, name: str, tag: Tag) -> None:
        super().suspend(name, tag)
        self._end(name)

    def restore_snapshot(self, name: str, tag: Tag, snapshot: str) -> None:
        super().restore_snapshot(name, tag, snapshot)
        self._end(name)

    def destroy(self, name: str, tag: Tag) -> None:
        super().destroy(name, tag)
        self._end(name)

    def _start_old(self, name: str) -> None:
        """Start the server of a guest that has a password (the file's content)."""
        from tests.unit.password_server import Account, PasswordServer  # paramiko is slow to load

        home = self.host.home / "guests"
        port = int(self._config(name).read_text().split(maxsplit=2)[1].rpartition(":")[2])
        path = f"{_programs(self.host.home / 'fake' / 'home')}:{os.environ['PATH']}"
        account = Account(home, (home / "password").read_text(), environment={"PATH": path})
        OLD[name] = PasswordServer(account, home / "host_key", port)

    @property
    def _directory(self) -> Path:
        return self.host.home / self.place

    def _config(self, name: str) -> Path:
        return self._directory / f"{name}.sshd"

    def _pid(self, name: str) -> Path:
        return self._directory / f"{name}.pid"

    def _write(self, definition: Definition, keys: Path | None = None) -> None:
        """Configure its server: as a guest that took the seed, or (``guests`` is a directory) as one that did not."""
        port = next(forward.host for forward in definition.forwards if forward.name == "ssh")
        machine = keys or definition.console.parent
        home = self.host.home / "guests"
        seeded = not home.is_dir()
        quiet = self._directory / "home"  # never the home of whoever runs the tests
        quiet.mkdir(exist_ok=True)
        text = CONFIG.format(
            port=port,
            pid=self._pid(definition.name),
            home=quiet if seeded else home,
            bin=_programs(quiet),
            host_key=machine / "host_ed25519" if seeded else home / "host_key",
            authorized=machine / "id_ed25519.pub" if seeded else home / ".ssh" / "authorized_keys",
        )
        self._config(definition.name).write_text(text)

    def _end(self, name: str) -> None:
        if name in OLD:
            OLD.pop(name).close()
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            _end_process(int(self._pid(name).read_text()))
        self._pid(name).unlink(missing_ok=True)


class OtherGuests(FakeGuests):
    """A second hypervisor on the same host."""

    name = "otherguests"
    place = "other"


class MemoryGuests(FakeGuests):
    """One that keeps memory; a file for each key says whose it is."""

    place = "kept"

    def layers(self) -> tuple[Layer, ...]:
        return tuple(self._with_memory(one) for one in super().layers())

    def _with_memory(self, layer: Layer) -> Layer:
        if not self._memory(layer.key).exists():
            return layer
        facts = self._memory(layer.key).stat()
        return structs.replace(layer, memory=True, seal=f"{facts.st_size} {facts.st_mtime_ns}")

    def remove_layer(self, key: str) -> bool:
        gone = super().remove_layer(key)
        if gone:
            self._memory(key).unlink(missing_ok=True)
        return gone

    def memory_key(self, definition: Definition, base: Disk) -> str:
        return f"{definition.spec.cpus} {definition.mac} {base.digest}"

    def keep_memory(self, name: str, tag: Tag, key: str) -> bool:
        self._begin("keep_memory", name)
        self._memory(key).write_text(f"{tag.project} {tag.machine}")
        return self.freeze(name, tag, key)

    def thaw(self, definition: Definition, key: str, word: Callable[[], bytes]) -> bool:
        self._begin("thaw", definition.name)
        if self._memory(key).read_text() != f"{definition.tag.project} {definition.tag.machine}":
            raise WrongState(f"that memory is not of {definition.name}", hint="vmctl cache list")
        image = self._directory / "image"
        image.touch()
        self.create(definition, Disk(path=image, format="raw", digest="", virtual_size=1, layer=key))
        self.start(definition.name, definition.tag)
        return False

    def _memory(self, key: str) -> Path:
        return self._directory / f"{key}.memory"


def _programs(home: Path) -> Path:
    """A directory with a ``sudo`` that changes nobody."""
    directory = home / "bin"
    directory.mkdir(exist_ok=True)
    (directory / "sudo").write_text(SUDO)
    (directory / "sudo").chmod(0o755)
    return directory


def _end_process(pid: int) -> None:
    """End a process and wait until it is gone, or its port would still be taken for a moment."""
    process_descriptor = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGTERM)
        select.select([process_descriptor], [], [], PATIENCE)
    finally:
        os.close(process_descriptor)
