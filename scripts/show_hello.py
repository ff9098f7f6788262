"""Bring examples/hello up, and prove that its folder is live: fetch the page, edit it on the host, fetch again."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
EXAMPLE = REPOSITORY / "examples" / "hello"
PAGE = EXAMPLE / "site" / "index.html"
VMCTL = REPOSITORY / ".venv" / "bin" / "vmctl"
PORT = 8080
"""What the example's Vmfile forwards unless told otherwise."""
HEADING = "Hello from your VM"
FETCH_SECONDS = 15.0


def main() -> None:
    """The demonstration."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the page is put back even so
    _choose_port()
    _show("up")
    address = f"http://127.0.0.1:{_ask('port', '--guest', '80').strip()}/"
    kinds = json.loads(_ask("sync", "--json").splitlines()[-1])["machines"]["default"]
    copied = kinds["/project"] == "rsync"
    _expect(address, HEADING)
    edited = f"{HEADING}, edited on the host at {time.strftime('%H:%M:%S')}"
    with _edited(PAGE, HEADING, edited):
        print(f"\n==> edited {PAGE.relative_to(REPOSITORY)} on the host", flush=True)
        _send(copied=copied)
        _expect(address, edited)
    print("\n==> put the file back as it was", flush=True)
    _send(copied=copied)
    _expect(address, HEADING)
    _tell_next(address)


def _choose_port() -> None:
    """Somebody else's server on the example's port is no reason to fail."""
    if _is_taken(PORT) and not _is_ours():
        print(f"==> port {PORT} of this host is taken: the example gets another (VMCTL_VAR_port=auto)", flush=True)
        os.environ["VMCTL_VAR_port"] = "auto"  # noqa: SIM112  named after the Vmfile's variable


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_ours() -> bool:
    done = subprocess.run([VMCTL, "port", "--guest", "80"], cwd=EXAMPLE, capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == str(PORT)


def _show(*words: str) -> None:
    """Run vmctl for all to see; where it fails, its own words are the last."""
    print(f"\n$ vmctl {' '.join(words)}", flush=True)
    done = subprocess.run([VMCTL, *words], cwd=EXAMPLE, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)


def _ask(*words: str) -> str:
    done = subprocess.run([VMCTL, *words], cwd=EXAMPLE, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)
    return done.stdout


def _send(*, copied: bool) -> None:
    if copied:
        print("    here the folder is a copy (rsync), which vmctl sync brings up to date", flush=True)
        _show("sync")


def _expect(address: str, heading: str) -> None:
    """Fetch the page until its heading is this one.

    Raises:
        SystemExit: it does not become that.
    """
    print(f"\n$ curl {address}", flush=True)
    deadline = time.monotonic() + FETCH_SECONDS
    page = _fetch(address)
    while f"<h1>{heading}</h1>" not in page:
        if time.monotonic() > deadline:
            sys.exit(
                f"{page}\n{address} does not say {heading!r}. In examples/hello: vmctl ssh -c 'journalctl -u hello'"
            )
        time.sleep(0.2)
        page = _fetch(address)
    print(page.rstrip())


def _fetch(address: str) -> str:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310  our own http:// address
            return str(answer.read().decode())
    except (OSError, http.client.HTTPException) as error:
        return str(error)


@contextmanager
def _edited(path: Path, old: str, new: str) -> Iterator[None]:
    """``path`` with ``old`` replaced inside the block; as before after it, however that ends."""
    before = path.read_bytes()
    path.write_bytes(before.replace(old.encode(), new.encode()))
    try:
        yield
    finally:
        path.write_bytes(before)


def _tell_next(address: str) -> None:
    prepare = "" if shutil.which("vmctl") else "  . .venv/bin/activate      # puts vmctl on the PATH of this shell\n"
    print(f"""
==> The machine is up and serves {address}  Next:
{prepare}  cd examples/hello
  vmctl ssh                 # a shell in the machine
  vmctl status
  vmctl destroy             # removes it without a trace""")


if __name__ == "__main__":
    main()
