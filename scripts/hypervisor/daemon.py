"""Start and stop a libvirtd where no init system does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from scripts.hypervisor.answers import answers, running_machines
from scripts.hypervisor.place import Place
from tests.host import private_dev

REPOSITORY = Path(__file__).parents[2]
AS_ROOT = str(REPOSITORY / "scripts" / "as-root")
START_SECONDS = 30.0
STOP_SECONDS = 20.0


def start() -> None:
    """Start libvirtd detached from this terminal, and return when it answers."""
    place = Place.mine()
    _make_runtime_directory(place)
    place.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(place):
        if answers(place.uri):
            return
        print(f"==> nothing manages libvirtd here: starting {_whose(place)} under tini", flush=True)
        place.log.touch()
        place.pid_file.write_text(_launch(place))
        _await(place)
    print(f"    its log: {place.log}\n    to stop it: make libvirt-stop")


def stop() -> int:
    """End the libvirtd that ``start`` started; refuse while machines run in it."""
    place = Place.mine()
    pid = place.pid()
    if pid is None:
        print("==> no libvirtd that was started here runs")
        return 0
    if machines := running_machines(place.uri):
        print(f"machines still run: {', '.join(machines)}\nStop them first; see: vmctl list", file=sys.stderr)
        return 1
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while place.pid() == pid:
        if time.monotonic() > deadline:
            print(f"libvirtd (process {pid}) does not end; see {place.log}", file=sys.stderr)
            return 1
        time.sleep(0.05)
    place.pid_file.unlink(missing_ok=True)
    print("==> libvirtd is stopped")
    return 0


def _whose(place: Place) -> str:
    return "the system's" if place.uid == 0 else "your own"


def _make_runtime_directory(place: Place) -> None:
    """Logins make $XDG_RUNTIME_DIR, but a bare machine may have only the variable; libvirt needs the directory."""
    runtime = place.runtime
    if runtime.exists():
        if not os.access(runtime, os.W_OK):
            sys.exit(
                f"XDG_RUNTIME_DIR is {runtime}, which you may not write to. Without it, libvirt does:\n"
                "  unset XDG_RUNTIME_DIR"
            )
        return
    if "XDG_RUNTIME_DIR" not in os.environ:
        runtime.mkdir(parents=True, mode=0o700)
        return
    print(f"==> making {runtime}, which XDG_RUNTIME_DIR names", flush=True)
    owner = ["-o", str(os.geteuid()), "-g", str(os.getegid())]
    subprocess.run([AS_ROOT, "install", "-d", "-m", "0700", *owner, str(runtime)], check=True)


@contextlib.contextmanager
def _locked(place: Place) -> Iterator[None]:
    with (place.directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _launch(place: Place) -> str:
    """Start the daemon, in a mount namespace of its own where it needs one; its process id."""
    launcher = [sys.executable, "-B", "-m", "scripts.hypervisor.launch", str(place.log)]
    hides_kvm = private_dev.kvm_lies() and os.access(private_dev.DEV / "kvm", os.R_OK | os.W_OK)
    if hides_kvm or place.uid == 0:
        if hides_kvm:
            print("    /dev/kvm does not really work here: hidden from it, so machines are emulated (slow)", flush=True)
        if _may_unshare():
            as_whom = [
                f"--uid={os.geteuid()}",
                *(f"--env={name}={value}" for name, value in place.environment().items()),
            ]
            launcher = [AS_ROOT, "unshare", "--mount", "--", *launcher, "--namespace", *as_whom]
        else:
            print("    (not possible: this host allows no mount namespaces; expect trouble)", flush=True)
    done = subprocess.run(launcher, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)
    return done.stdout


def _may_unshare() -> bool:
    return subprocess.run([AS_ROOT, "unshare", "--mount", "--", "true"], check=False).returncode == 0


def _await(place: Place) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not answers(place.uri):
        if place.pid() is None or time.monotonic() > deadline:
            last = "\n".join(place.log.read_text(errors="replace").splitlines()[-15:])
            sys.exit(f"libvirtd did not start; the end of {place.log}:\n{last}")
        time.sleep(0.1)
