"""An inventory in three forms, each read back by Ansible itself: all must say the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from vmctl import process
from vmctl.provision import inventory_formats
from vmctl.provision.inventory_formats import Listing
from vmctl.provision.inventory_groups import Group
from vmctl.spec import Project

LISTING = Listing(
    hosts={
        "web-1": {
            "ansible_port": 2222, "text": "2222", "said": "it's \"so\" # yes; no", "yes": "yes", "empty": "",
            "args": "-F '/a project {{ x }} 100%/c' -o A=b", "deep": {"a": [1, "b", None, True]}, "on": True,
        },
        "db": {},
        "lone": {"nothing": None},
    },
    groups={"web": Group(("web-1", "gone")), "site": Group(("db",), ("web",)), "none": Group()},
    variables={"vmctl_project": "a shop", "number": "1"},
)  # fmt: skip


def read(path: Path) -> dict[str, Any]:
    """What Ansible makes of an inventory: groups, and the variables of each host."""
    argv = [str(Path(sys.executable).with_name("ansible-inventory")), "-i", str(path), "--list"]
    output: dict[str, Any] = json.loads(process.run(argv, env={"ANSIBLE_LOCALHOST_WARNING": "0"}).stdout)
    return output


def groups(output: dict[str, Any]) -> dict[str, tuple[list[str], list[str]]]:
    """Members of each group that has any."""
    plain = {name: (sorted(row.get("hosts", ())), sorted(row.get("children", ()))) for name, row in output.items()
             if name != "_meta"}  # fmt: skip
    return {name: members for name, members in plain.items() if any(members)}


def variables(output: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Variables of each host, those of all hosts included."""
    common = output["all"].get("vars", {})
    hosts = sorted({host for name, row in output.items() if name != "_meta" for host in row.get("hosts", ())})
    found = {host: {**common, **output["_meta"]["hostvars"].get(host, {})} for host in hosts}
    plain: dict[str, dict[str, Any]] = json.loads(
        json.dumps(found), object_hook=lambda row: row.get("__ansible_unsafe", row)
    )
    return plain


def agrees(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    mine = groups(ours)
    mine["all"] = (mine["all"][0], sorted({*mine["all"][1], "ungrouped"}))
    assert {name: row for name, row in groups(theirs).items() if name != "all"} == {
        name: row for name, row in mine.items() if name != "all"
    }
    assert variables(theirs) == variables(ours)


def test_every_form_says_the_same_to_ansible(tmp_path: Path) -> None:
    project = Project(root=tmp_path / "a shop", file=tmp_path / "Vmfile", machines=())
    shim = tmp_path / "shim"
    (tmp_path / "told.json").write_text(json.dumps(LISTING.as_object()))
    shim.write_text(f"#!/bin/sh\ncat '{tmp_path}/told.json'\n")
    shim.chmod(0o755)
    (tmp_path / "hosts.yml").write_text(
        inventory_formats.render(project, LISTING.hosts, LISTING.groups, {"number": "1"})
    )
    for path in (shim, tmp_path / "hosts.yml"):
        agrees(LISTING.as_object(), read(path))


def test_ini_says_the_same_but_for_templates(tmp_path: Path) -> None:
    plain = {key: value for key, value in LISTING.hosts["web-1"].items() if key != "args"}
    listing = Listing(hosts={**LISTING.hosts, "web-1": plain}, groups=LISTING.groups, variables=LISTING.variables)
    (tmp_path / "hosts.ini").write_text(listing.as_ini())
    agrees(listing.as_object(), read(tmp_path / "hosts.ini"))


def test_a_host_alone() -> None:
    assert LISTING.host("db") == {"vmctl_project": "a shop", "number": "1"}
    assert LISTING.host("gone") is None


def test_text_that_looks_like_a_template_is_marked(tmp_path: Path) -> None:
    project = Project(root=tmp_path, file=tmp_path / "Vmfile", machines=())
    text = inventory_formats.render(project, {"a": {"x": "{{ y }}", "z": "yes"}}, {})
    assert "x: !unsafe '{{ y }}'" in text
    assert "z: 'yes'" in text
