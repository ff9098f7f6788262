from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec import structs

from tests.unit.scripted_link import ScriptedLink
from vmctl.errors import UsageError
from vmctl.events import Event, Warned
from vmctl.provision import copyable, file_provisioner, inputs
from vmctl.provision.target import Target
from vmctl.spec import File


def test_files_come_wherever_links_lead_and_the_rest_is_named(tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    (conf / "releases" / "1").mkdir(parents=True)
    (conf / "releases" / "1" / "app").touch()
    (conf / "current").symlink_to("releases/1")
    (conf / "a link").symlink_to("releases/1/app")
    (conf / ".#app").symlink_to("me@host.1234:5")
    (conf / "self").symlink_to(".")
    (conf / "round").symlink_to("round")
    os.mkfifo(conf / "pipe")
    found = copyable.contents(conf)
    assert [str(path.relative_to(conf)) for path in found.files] == ["a link", "current/app", "releases/1/app"]
    assert {path.name: why for path, why in found.skipped.items()} == {
        ".#app": copyable.NOWHERE, "round": copyable.NOWHERE, "self": copyable.CIRCLE, "pipe": copyable.NO_FILE,
    }  # fmt: skip


def test_an_editors_lock_is_no_change_and_is_told(tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    conf.mkdir()
    (conf / "app.conf").write_text("one")
    item = File(name="conf", source=conf, destination="/etc/app")
    before = inputs.digest(item)
    (conf / ".#app.conf").symlink_to("me@host.1234:5")
    assert inputs.digest(item) == before
    reported: list[Event] = []
    link = ScriptedLink(lambda _words: (0, "/etc/app/app.conf\n"))
    target = Target(name="web", provision=(item,), connect=lambda: link)
    (outcome,) = file_provisioner.provision(item, [target], tmp_path, reported.append)
    assert (outcome.failure, outcome.counts.changed) == (None, 1)
    assert reported[0] == Warned(text=f"conf: {conf / '.#app.conf'} is left out: {copyable.NOWHERE}")


def test_a_source_that_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    item = File(name="pipe", source=pipe, destination="/etc/app")
    with pytest.raises(UsageError, match="neither a file nor a directory"):
        file_provisioner.check(item)


def test_a_script_that_no_system_can_start_is_told(tmp_path: Path) -> None:
    script = tmp_path / "job"
    script.write_bytes(b"#!/bin/sh\r\necho\r\n")
    item = File(name="job", source=script, destination="/usr/local/bin/job", mode=0o755)
    reported: list[Event] = []
    target = Target(name="web", provision=(item,), connect=lambda: ScriptedLink(lambda _words: (0, "")))
    file_provisioner.provision(item, [target], tmp_path, reported.append)
    assert [event.text for event in reported if isinstance(event, Warned)] == [
        f"job: {script} starts with #! and has CRLF line ends, with which it cannot start"
    ]
    reported.clear()
    file_provisioner.provision(structs.replace(item, template=True), [target], tmp_path, reported.append)
    assert reported == []
