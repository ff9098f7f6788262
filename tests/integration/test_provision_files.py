"""`file` entries, and what `shell` can do besides, on a real sshd."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.integration.provision_bench import Bench
from tests.unit.openssh_server import Sshd, sshd
from vmctl.errors import ProvisionFailed
from vmctl.provision import Mode
from vmctl.spec import File, Shell

__all__ = ["sshd"]

pytestmark = pytest.mark.integration


@pytest.fixture
def bench(tmp_path: Path, sshd: Sshd) -> Bench:
    root = tmp_path / "a project"
    root.mkdir()
    return Bench(root, sshd)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where files go in the guest, which is this host."""
    directory = tmp_path / "the guest"
    directory.mkdir()
    return directory


def put(bench: Bench, **options: object) -> dict[str, int]:
    """Put a file and count."""
    bench.machine("one", File(name="put", become=False, **options))  # type: ignore[arg-type]  # the tests name real fields
    counts = bench.run(force=True).machines["one"].counts
    return {"ok": counts.ok, "changed": counts.changed}


def test_a_file_is_put_whole_and_left_alone_when_it_is_the_same(bench: Bench, place: Path) -> None:
    source = bench.write("motd", "héllo\n")
    target = place / "new dir" / "motd"
    assert put(bench, source=source, destination=str(target), mode=0o640) == {"ok": 1, "changed": 1}
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("héllo\n", 0o640)
    assert target.parent.stat().st_mode & 0o777 == 0o750
    assert put(bench, source=source, destination=str(target), mode=0o640)["changed"] == 0
    target.chmod(0o600)
    assert put(bench, source=source, destination=str(target), mode=0o640)["changed"] == 1
    assert bench.needs("one") == []
    source.write_text("other\n")
    assert bench.needs("one") == ["put"]
    assert put(bench, source=source, destination=f"{target.parent}/", mode=0o640)["changed"] == 1
    assert target.read_text() == "other\n"
    assert bench.printed == f"changed: {target}"


def test_a_directory_is_merged_and_its_templates_are_filled_in(bench: Bench, place: Path) -> None:
    bench.write("etc/plain $x's.conf", "{{ vars.port }}\n")
    bench.write("etc/deep/er.conf.j2", "{{ vars.port }} {{ machine.name }} {{ project.name }}\n")
    (bench.root / "etc" / "run").write_bytes(bytes(range(256)))
    (bench.root / "etc" / "run").chmod(0o755)
    (place / "etc").mkdir()
    (place / "etc" / "mine").write_text("stays")
    options = {"source": bench.root / "etc", "destination": str(place / "etc"), "template": True}
    assert put(bench, **options, variables={"port": 80})["changed"] == 1
    found = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert found == {
        "etc/plain $x's.conf": b"{{ vars.port }}\n", "etc/deep/er.conf": b"80 one a project\n",
        "etc/run": bytes(range(256)), "etc/mine": b"stays",
    }  # fmt: skip
    assert os.access(place / "etc" / "run", os.X_OK)
    assert put(bench, **options, variables={"port": 80})["changed"] == 0
    assert put(bench, **options, variables={"port": 81})["changed"] == 1


def test_a_wrong_template_and_a_directory_in_the_way_are_failures(bench: Bench, place: Path) -> None:
    source = bench.write("x.j2", "{{ vars.nothing }}")
    with pytest.raises(ProvisionFailed) as caught:
        put(bench, source=source, destination=str(place / "x"), template=True)
    assert caught.value.brief == f"one: the template {source} has a fault (provisioner 'put')"
    assert "'dict object' has no attribute 'nothing'" in caught.value.details
    with pytest.raises(ProvisionFailed) as caught:
        put(bench, source=source, destination=str(place))
    assert "is a directory; to put a file into it, end the destination with /" in caught.value.details
    assert bench.needs("one") == ["put"]


def test_an_owner_is_given_and_an_unknown_one_is_a_failure(bench: Bench, place: Path) -> None:
    source = bench.write("x", "x")
    assert put(bench, source=source, destination=str(place / "x"), owner="root", group="root")["changed"] == 1
    with pytest.raises(ProvisionFailed) as caught:
        put(bench, source=source, destination=str(place / "y"), owner="no-such-user")
    assert "no-such-user" in caught.value.details
    assert [path.name for path in place.iterdir()] == ["x"]


def test_a_script_that_creates_something_runs_once(bench: Bench, place: Path) -> None:
    item = Shell(name="s", inline=f"echo ran >> '{place}/log'", creates=str(place / "log"), become=False)
    bench.machine("one", item)
    assert bench.run().changed
    assert not bench.run(force=True).changed
    assert (place / "log").read_text() == "ran\n"


def test_a_script_from_a_url_is_the_promised_one(bench: Bench, place: Path) -> None:
    script = bench.write("s.sh", f"#!/bin/sh\necho $1 > '{place}/said'\n")
    digest = hashlib.sha256(script.read_bytes()).hexdigest()
    url = script.as_uri()
    bench.machine("one", Shell(name="s", url=url, checksum=f"sha256:{digest}", args=("hi",), become=False))
    bench.run()
    assert (place / "said").read_text() == "hi\n"
    script.write_text("#!/bin/sh\necho replaced\n")
    with pytest.raises(ProvisionFailed, match=r"checksum"):
        bench.run(force=True)


def test_a_script_on_the_host_runs_for_each_machine_in_the_project(bench: Bench) -> None:
    text = 'echo "$VMCTL_MACHINE $1 $SAID $(ssh -F "$VMCTL_SSH_CONFIG" "$VMCTL_MACHINE" echo in)" >> log'
    item = Shell(name="s", inline=text, on="host", become=False, args=("a b",), env={"SAID": "x"})
    bench.machine("one", item)
    bench.machine("two", item)
    bench.run()
    assert (bench.root / "log").read_text() == "one a b x in\ntwo a b x in\n"
    bench.machine("one", Shell(name="s", inline="echo bad; exit 3", on="host", become=False))
    with pytest.raises(ProvisionFailed) as caught:
        bench.run("one")
    assert caught.value.brief == "one: the script on the host ended with status 3 (provisioner 's')"
    assert caught.value.details == "bad"


def test_provisioners_can_begin_in_the_middle(bench: Bench) -> None:
    items = [Shell(name=name, inline=f"echo {name} >> log", on="host", become=False) for name in "abc"]
    bench.machine("one", *items)
    bench.run(start="b")
    assert (bench.root / "log").read_text() == "b\nc\n"
    assert bench.needs("one") == ["a"]


def test_check_skips_what_can_not_be_checked(bench: Bench) -> None:
    bench.machine("one", Shell(name="a", inline="echo ran > log", on="host", become=False))
    assert bench.run(mode=Mode(check=True)).machines["one"].not_checked == ["a"]
    assert not (bench.root / "log").exists()
    assert bench.needs("one") == ["a"]
