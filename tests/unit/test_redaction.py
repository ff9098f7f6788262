"""Nothing secret of a command line is written down."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmctl import process, redaction
from vmctl.console import Console, error_object, error_text
from vmctl.errors import VmctlError
from vmctl.events import Notice, Output, Warned
from vmctl.layout import ProjectLayout
from vmctl.provision import provision_history
from vmctl.store.records import Journal


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


def test_what_a_vmfile_names_is_logged_without_arguments(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", "vmctl"):
        process.run(["true", "hunter2"], named=True)
        process.stream(["true", "hunter2"], print, named=True)
        with pytest.raises(process.CommandFailed) as failed:
            process.run(["false", "hunter2"], named=True)
    assert "hunter2" not in caplog.text + str(failed.value)
    assert caplog.text.count("run true '…'") == 2


SECRETS = [
    ("https://me:hunter2@host/x", "https://…@host/x"),
    ("http://hunter2@host:8080/x?a=b", "http://…@host:8080/x?a=b"),
    ("qemu+ssh://root@host/system", "qemu+ssh://root@host/system"),
    ("qemu+ssh://root:hunter2@host/system", "qemu+ssh://root:…@host/system"),
    ("https://host/x?v=1&access_token=hunter2&w=2", "https://host/x?v=1&access_token=…&w=2"),
    ("https://host/x?X-Amz-Signature=hunter2#f", "https://host/x?X-Amz-Signature=…#f"),
    ("https://host/x?author=me", "https://host/x?author=me"),
    ("mail me@host", "mail me@host"),
]


@pytest.mark.parametrize(("url", "shown"), SECRETS)
@pytest.mark.parametrize("part", ["brief", "details", "hint"])
def test_no_error_shows_a_secret_of_a_url(url: str, shown: str, part: str) -> None:
    texts = {"brief": "x", part: f"cannot reach '{url}', {url}: gone"}
    error = VmctlError(texts.pop("brief"), **texts)
    assert getattr(error, part) == f"cannot reach '{shown}', {shown}: gone"
    assert "hunter2" not in repr(error) + str(error) + error_text(error, color=False) + str(error_object(error))


def test_another_program_that_is_given_a_url_fails_without_showing_its_secret() -> None:
    completed = process.Completed(("curl", "https://me:hunter2@host/x"), 22, "", "curl: https://me:hunter2@host/x: 404")
    failed = process.CommandFailed(completed)
    assert failed.details == "$ curl https://…@host/x\ncurl: https://…@host/x: 404"


@pytest.mark.parametrize("json", [True, False])
def test_no_event_shows_a_secret_of_a_url_and_output_of_programs_stays(*, json: bool) -> None:
    out, err = io.StringIO(), io.StringIO()
    console = Console(json=json, out=out, err=err)
    for event in (Notice(text="from https://me:hunter2@host/x"), Warned(text="x", hint="get ftp://me:hunter2@host/")):
        console.report(event)
    assert "hunter2" not in out.getvalue() + err.getvalue()
    assert (out.getvalue() + err.getvalue()).count("…@host") == 2
    console.report(Output(line="https://me:pw@host"))
    assert "https://me:pw@host" in out.getvalue() + err.getvalue()


@pytest.mark.parametrize("value", ["step", "phase", "done", "time", "error", '": "'])
def test_a_set_value_that_is_a_word_of_the_journal_does_not_damage_it(tmp_path: Path, value: str) -> None:
    redaction.learn(["--set", f"a={value}"])
    Journal(tmp_path / "journal").write("create", "done", error=f"it was {value}")
    (entry,) = Journal(tmp_path / "journal").entries()
    assert (entry["step"], entry["phase"], entry["error"]) == ("create", "done", "it was …")


def test_the_history_tells_no_secret_of_a_url(tmp_path: Path) -> None:
    layout = ProjectLayout(tmp_path / "p", tmp_path / "t")
    redaction.learn(["--set", "run=machines"])
    run = provision_history.begin(layout, {"hosts": ["web"]})
    provision_history.end(
        layout, run, {"result": "failed", "machines": {"web": {"failure": {"brief": "ftp://a:hunter2@h"}}}}
    )
    (row,) = provision_history.read(layout)
    assert row["machines"] == {"web": {"failure": {"brief": "ftp://…@h"}}}


@pytest.mark.parametrize("piece", ["a.", "a-", "a://", "?a", "?token", "://a@", "a:"])
def test_no_text_of_a_guest_keeps_it_busy(piece: str) -> None:
    started = time.process_time()
    redaction.urls(piece * 200_000 + "://")
    assert time.process_time() - started < 5
