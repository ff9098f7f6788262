"""Nothing secret of a command line is written down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vmctl import process, redaction
from vmctl.store.journal import Journal


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    redaction.learn([])


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["exec", "web", "--", "login", "hunter2"], "vmctl exec web …"),
        (["exec", "web", "login", "hunter2"], "vmctl exec web …"),
        (["ssh", "web", "-c", "login hunter2"], "vmctl ssh web -c …"),
        (["ssh", "web", "-clogin hunter2"], "vmctl ssh web -c…"),
        (["ssh", "web", "--command=login hunter2"], "vmctl ssh web --command=…"),
        (["ssh", "web", "--command", "login hunter2"], "vmctl ssh web --command …"),
        (["--set", "token=hunter2", "up"], "vmctl --set token=… up"),
        (["--set=token=hunter2=3", "up"], "vmctl --set=token=… up"),
        (["box", "add", "https://me:hunter2@host/x.box"], "vmctl box add https://…@host/x.box"),
        (["box", "add", "https://me:hun@ter2@host/x.box"], "vmctl box add https://…@host/x.box"),
        (["box", "add", "https://hunter2@host:8443/a@b"], "vmctl box add https://…@host:8443/a@b"),
        (["-C", "/p", "up", "web"], "vmctl -C /p up web"),
    ],
)
def test_the_command_line_beside_a_lock(words: list[str], shown: str) -> None:
    redaction.learn(words)
    assert redaction.command(words) == shown


def test_what_the_command_line_told_is_hidden_wherever_it_turns_up() -> None:
    redaction.learn(["--set", "token=hunter2", "box", "add", "https://me:s3cret@host/x"])
    assert redaction.text("timed out waiting for `test x = hunter2`; s3cret; ok") == (
        "timed out waiting for `test x = …`; …; ok"
    )
    redaction.learn([])
    assert redaction.text("hunter2, ftp://me:other@host/") == "hunter2, ftp://…@host/"


def test_what_ssh_runs_elsewhere_is_not_logged_and_other_programs_are(caplog: pytest.LogCaptureFixture) -> None:
    ssh = ("/usr/bin/ssh", "-F", "config", "--", "web", "login hunter2")
    assert redaction.program(ssh) == (*ssh[:5], "…")
    assert redaction.program(ssh[:5]) == ssh[:5]
    assert redaction.program(("tar", "-x", "--", "a")) == ("tar", "-x", "--", "a")
    failed = process.CommandFailed(process.Completed(ssh, 1, "", ""))
    assert "hunter2" not in str(failed)
    with caplog.at_level("DEBUG", "vmctl"):
        process.run(["true", "seen"])
    assert "run true seen" in caplog.text


def test_the_journal_does_not_tell_either(tmp_path: Path) -> None:
    redaction.learn(["--set", "token=hunter2"])
    Journal(tmp_path / "journal").write("check", "failed", error="`test hunter2` failed")
    assert Journal(tmp_path / "journal").entries()[0]["error"] == "`test …` failed"
