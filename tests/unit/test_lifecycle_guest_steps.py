"""What the guest runs for `ready: http`, on this host, with each of the programs that it may have."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from vmctl.lifecycle import guest_steps


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = int(self.path.strip("/") or 200)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/200")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *words: object) -> None:  # noqa: A002  the base class's name
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def ask(url: str, directory: Path, *programs: str) -> tuple[int, str]:
    """Exit status and answer of the probe, where only these programs are in PATH."""
    for program in (*programs, "sed", "head"):
        (directory / program).symlink_to(str(shutil.which(program)))
    sh = str(shutil.which("sh"))
    done = subprocess.run(
        [sh, "-c", guest_steps.HTTP_PROBE, "sh", url], check=False, capture_output=True, text=True,
        env={"PATH": str(directory), "http_proxy": "http://127.0.0.1:1", "HOME": os.environ["HOME"]},
    )  # fmt: skip
    return done.returncode, done.stdout.strip()


@pytest.mark.parametrize("program", ["curl", "wget"])
@pytest.mark.parametrize("status", ["200", "302", "404", "503"])
def test_the_status_is_told_whatever_it_is(site: str, tmp_path: Path, program: str, status: str) -> None:
    assert ask(f"{site}/{status}", tmp_path, program)[1] == status


@pytest.mark.parametrize("program", ["curl", "wget"])
def test_nobody_answers(tmp_path: Path, program: str) -> None:
    assert not guest_steps._fits(ask("http://127.0.0.1:1/", tmp_path, program)[1], None)


def test_a_guest_without_either_says_so(tmp_path: Path) -> None:
    assert ask("http://127.0.0.1:1/", tmp_path)[0] == guest_steps.NO_PROGRAM


@pytest.mark.parametrize(
    ("status", "wanted", "fits"),
    [("200", None, True), ("399", None, True), ("404", None, False), ("404", 404, True), ("200", 404, False),
     ("000", None, False), ("", None, False)],
)  # fmt: skip
def test_which_status_is_fine(status: str, wanted: int | None, fits: bool) -> None:  # noqa: FBT001  a table of cases
    assert guest_steps._fits(status, wanted) is fits
