"""A machine's record is believed only as far as it is one: what it says goes to hypervisors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import to_builtins

from vmctl.driver import Forward
from vmctl.errors import VmctlError
from vmctl.layout import MachineLayout
from vmctl.store import records
from vmctl.store.records import BoxUsed, Record

SSH = Forward(name="ssh", guest=22, host=2222, host_ip="127.0.0.1", protocol="tcp")
RECORD = Record(
    name="shop-web-aaaaaaaa", project="a" * 32, machine="web", provider="libvirt", version="1", user="vmctl",
    box=BoxUsed(name="debian-12", version="1", digest="d" * 64, user=""), forwards=(SSH,), uid=1000,
    applied={"cpus": 2}, folders={"/project": "virtiofs"},
)  # fmt: skip


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    layout = MachineLayout(tmp_path)
    records.save(layout, RECORD)
    assert records.load(layout) == RECORD


@pytest.mark.parametrize(
    ("forward", "others"),
    [
        ({"host_ip": "127.0.0.1,guestfwd=tcp:10.0.2.100:1-cmd:/tmp/evil"}, {}),
        ({"protocol": "tcp,x"}, {}),
        ({"name": "ssh,tcp,,1,,2"}, {}),
        ({"host": "2222-:22,guestfwd=tcp:10.0.2.100:1-cmd:/tmp/evil"}, {}),
        ({}, {"user": ["-oProxyCommand=x"]}),
        ({}, {"box": "debian-12"}),
    ],
)
def test_what_is_no_record_is_damaged(tmp_path: Path, forward: dict[str, Any], others: dict[str, Any]) -> None:
    layout = MachineLayout(tmp_path)
    data = to_builtins(RECORD) | {"forwards": [to_builtins(SSH) | forward]} | others
    layout.record.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(VmctlError, match="is damaged"):
        records.load(layout)


def test_what_a_journal_tells_may_hold_what_elsewhere_ends_a_line(tmp_path: Path) -> None:
    journal = records.Journal(tmp_path / "journal")
    journal.write("create", "failed", error="no \u2028room\x85")
    with journal.path.open("a") as stream:
        stream.write('{"step": "cut')
    assert [(one["step"], one["error"]) for one in journal.entries()] == [("create", "no \u2028room\x85")]
