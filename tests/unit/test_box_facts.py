"""What is remembered of a box, in the store, in records and in locks: the same facts, in files of three formats."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.test_boxes_locking import put, two_disks
from vmctl.boxes import locking
from vmctl.layout import HomeLayout
from vmctl.lifecycle.steps import box_used
from vmctl.store import records
from vmctl.store.records import Record

FACTS = {"name", "version", "digest", "user", "firmware", "cloud_init"}


def test_the_formats_of_files_that_hold_facts_of_a_box(tmp_path: Path) -> None:
    home = HomeLayout(tmp_path / "home")
    box = put(home, two_disks(tmp_path / "two.box", b"one"), "1")
    written = json.loads((box.directory / "box.json").read_text())
    assert set(written) == FACTS | {
        "schema", "arch", "format", "virtual_size", "size", "source", "seeding", "first_key", "first_password",
        "further", "forms", "defaults", "provenance", "origin", "named",
    }  # fmt: skip
    assert [set(disk) for disk in written["further"]] == [{"digest", "format", "virtual_size", "size"}]
    locking.write(tmp_path / "Vmfile.lock", {"two": box})
    entry = json.loads((tmp_path / "Vmfile.lock").read_text())["boxes"]["two"][box.arch]
    assert set(entry) == FACTS | {"source", "further", "settings"}
    layout = home.project("p", tmp_path).machine("web")
    record = Record(
        name="n", project="p", machine="web", provider="fake", box=box_used(box), version="1", user="u",
    )  # fmt: skip
    records.save(layout, record)
    remembered = json.loads(layout.record.read_text())["box"]
    assert set(remembered) == FACTS | {"seeding", "virtual_size", "further", "mac"}
    assert {name: written[name] for name in FACTS} == {name: entry[name] for name in FACTS}
    assert {name: written[name] for name in FACTS} == {name: remembered[name] for name in FACTS}
    assert remembered["further"] == entry["further"] == [disk["digest"] for disk in written["further"]]
    assert records.load(layout) == record
