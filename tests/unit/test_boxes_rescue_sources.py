"""`box rescue --project`: what machines are made from, whatever an alias or the lock puts in a box's place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.harness import Project, Ran
from tests.unit.box_images import qcow2, write
from vmctl.boxes import aliases, finding
from vmctl.boxes.aliases import Alias
from vmctl.layout import HomeLayout
from vmctl.vmfile import load

TABLE = {"org/gone": Alias(target="team/alive", same=True)}


@pytest.fixture
def shop(tmp_path: Path, private_home: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A directory and a store; no server answers, and the table of aliases is ours."""
    monkeypatch.setenv("VMCTL_BOX_SERVER", "http://127.0.0.1:1")
    monkeypatch.setattr(aliases, "proposed", TABLE.get)
    return Project(tmp_path, private_home)


def added(shop: Project, name: str, version: str = "1.0") -> str:
    """Digest of a new box in the store."""
    image = write(shop.root / f"{name.replace('/', '-')}-{version}.img", qcow2(payload=f"{name} {version}".encode()))
    words = ("box", "add", str(image), "--name", name, "--version", version, "--json")
    digest: str = shop.vmctl(*words).answer["box"]["digest"]
    return digest


def rescued(ran: Ran) -> list[tuple[str, Any, bool]]:
    return [(one["what"], one.get("name"), one["rescued"]) for one in ran.answer["boxes"]]


def warnings(ran: Ran) -> list[tuple[str, str]]:
    return [(row["text"], row["hint"]) for row in ran.events("warned")]


def test_what_an_alias_leads_to_is_rescued_and_what_the_vmfile_names_is_told(shop: Project) -> None:
    digest = added(shop, "team/alive")
    (shop.root / "Vmfile").write_text(
        "box: org/gone@~>4.3\nalias: true\nmachines: {a: {}, b: {}, c: {box: team/alive}}\n"
    )
    ran = shop.vmctl("box", "rescue", "--project", "--to", "public", "--json")
    what = "org/gone@~>4.3 (team/alive in its place)"
    assert rescued(ran) == [(what, "team/alive", True), ("team/alive", "team/alive", True)]
    text = (
        "org/gone@~>4.3: team/alive takes its place (alias: true, its publisher's own image),"
        " so --project leaves the box of that name behind"
    )
    assert warnings(ran) == [(text, "vmctl box rescue org/gone")]
    assert (shop.root / "public" / "team" / "alive.json").exists()
    assert not (shop.root / "public" / "org").exists(), "no other box gets the name of one that somebody may still have"
    used = finding.find(load(shop.root / "Vmfile").machines[0].box, HomeLayout(shop.home))
    assert used is not None
    assert used.digest == digest, "what `up` takes without network"


def test_an_alias_that_people_wrote_is_theirs_to_know(shop: Project) -> None:
    added(shop, "team/alive")
    (shop.root / "Vmfile").write_text("box: org/gone\nbox_aliases: {org/gone: team/alive}\n")
    ran = shop.vmctl("box", "rescue", "--project", "--json")
    assert rescued(ran) == [("org/gone (team/alive in its place)", "team/alive", True)]
    assert warnings(ran) == []


def test_images_that_the_lock_names_are_rescued_besides(shop: Project) -> None:
    old = added(shop, "team/web", "1.0")
    (shop.root / "Vmfile").write_text("box: team/web\nmachines: {a: {}, b: {}}\n")
    shop.vmctl("box", "lock")
    assert rescued(shop.vmctl("box", "rescue", "--project", "--json")) == [("team/web", "team/web", True)]
    added(shop, "team/web", "1.1")
    ran = shop.vmctl("box", "rescue", "--project", "--to", "public", "--json")
    assert [(one["what"], one["version"]) for one in ran.answer["boxes"]] == [
        ("team/web", "1.1"), ("team/web, as locked", "1.0"),
    ]  # fmt: skip
    place = next(HomeLayout(shop.home).boxes.rglob(f"{old}*"))
    place.unlink()
    (place.parent / "box.json").unlink()
    (shop.root / "team-web-1.0.img").unlink()
    ran = shop.vmctl("box", "rescue", "--project", "--json", status=1)
    assert rescued(ran) == [("team/web", "team/web", True), ("team/web, as locked", None, False)]


def test_a_lock_that_is_of_no_use_does_not_hold_up_the_rest(shop: Project) -> None:
    added(shop, "team/web")
    (shop.root / "Vmfile").write_text("box: team/web\n")
    (shop.root / "Vmfile.lock").write_text("{")
    ran = shop.vmctl("box", "rescue", "--project", "--json")
    assert rescued(ran) == [("team/web", "team/web", True)]
    ((text, _),) = warnings(ran)
    assert text.startswith("what Vmfile.lock names is not rescued: ")
