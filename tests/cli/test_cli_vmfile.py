"""`vmctl init`, `validate`, `config` and `schema`, as a user or a program meets them."""

import json
from pathlib import Path

import jsonschema
import pytest

from tests.cli.harness import Project
from vmctl import vmfile


def test_init_writes_a_valid_vmfile_and_the_schema_that_it_names(project: Project) -> None:
    ran = project.vmctl("init", "tiny")
    assert ran.out == f"wrote {project.root}/Vmfile; next: vmctl up\n"
    text = (project.root / "Vmfile").read_text()
    assert text.splitlines()[0] == "# yaml-language-server: $schema=.vmctl/Vmfile.schema.json"
    assert len(text.splitlines()) <= 30
    schema = json.loads((project.root / ".vmctl" / "Vmfile.schema.json").read_text())
    assert schema == vmfile.schema()
    assert (project.root / ".vmctl" / ".gitignore").read_text() == "*\n"
    assert (project.root / ".vmctl").stat().st_mode & 0o777 == 0o700
    assert (project.root / "Vmfile").stat().st_mode & 0o777 == 0o644
    assert project.vmctl("validate").out == f"{project.root}/Vmfile is valid: 1 machine\n"


def test_init_never_replaces_a_vmfile_unasked(project: Project) -> None:
    (project.root / "Vmfile").write_text("box: mine\n")
    ran = project.vmctl("init", status=2)
    assert f"error: {project.root}/Vmfile exists already" in ran.err
    assert f"hint: mv -n -- {project.root}/Vmfile {project.root}/Vmfile.old && vmctl init" in ran.err
    assert (project.root / "Vmfile").read_text() == "box: mine\n"
    project.vmctl("init", "--force")
    assert "box: debian-12\n" in (project.root / "Vmfile").read_text()


def test_init_refuses_what_is_no_box(project: Project) -> None:
    assert "invalid box name 'debian 12'" in project.vmctl("init", "debian 12", status=2).err
    assert not (project.root / "Vmfile").exists()
    assert not (project.root / ".vmctl").exists()


def test_validate_shows_all_faults(project: Project) -> None:
    (project.root / "Vmfile").write_text("box: tiny\nmemroy: 1GiB\ncpus: 0\n")
    ran = project.vmctl("validate", status=2)
    lines = ran.err.splitlines()
    assert lines[0] == "error: the Vmfile has 2 faults"
    assert lines[1].endswith("Vmfile:2:1: memroy: unknown key, did you mean 'memory'?")
    assert lines[2].endswith("Vmfile:3:7: cpus: 0 is not between 1 and 256")
    assert ran.out == ""


def test_validate_tells_a_program_every_place(project: Project) -> None:
    (project.root / "Vmfile").write_text("box: tiny\ncpus: 0\n")
    (fault,) = project.vmctl("validate", "--json", status=2).answer["faults"]
    assert Path(fault.pop("file")).name == "Vmfile"
    assert fault == {"line": 2, "column": 7, "path": "cpus", "message": "0 is not between 1 and 256"}


def test_validate_tells_a_program_that_all_is_well(project: Project) -> None:
    (project.root / "Vmfile").write_text("box: tiny\nmachines: {a: , b: }\n")
    answer = project.vmctl("validate", "--json").answer
    assert answer == {
        "valid": True, "file": str(project.root / "Vmfile"), "machines": ["a", "b"], "remotes": [], "faults": [],
    }  # fmt: skip


def test_every_command_refuses_an_invalid_vmfile(project: Project) -> None:
    (project.root / "Vmfile").write_text("box: tiny\ncpus: 0\n")
    for command in ("up", "status", "config", "destroy"):
        assert "cpus: 0 is not between 1 and 256" in project.vmctl(command, status=2).err


def test_config_is_a_vmfile(project: Project) -> None:
    (project.root / "Vmfile").write_text("box: tiny\nvars: {mem: 2GiB}\nmemory: '{{ vars.mem }}'\n")
    before = project.vmctl("config").out
    assert "    memory: 2GiB\n" in before
    (project.root / "Vmfile").write_text(before)
    assert project.vmctl("config").out == before


def test_config_shows_where_values_come_from(project: Project) -> None:
    (project.root / "Vmfile").write_text("box: tiny\nvars: {mem: 2GiB}\nmemory: '{{ vars.mem }}'\n")
    ran = project.vmctl("--set", "mem=3GiB", "config", "--origins")
    assert "    memory: 3GiB  # " in ran.out
    assert "Vmfile:3\n" in ran.out
    assert "  mem: 3GiB  # --set mem\n" in ran.out
    answer = project.vmctl("config", "--origins", "--json").answer
    assert answer["machines"]["default"]["memory"] == "2GiB"
    assert answer["origins"]["machines.default.cpus"] in {"built-in default", "box tiny"}


def test_schema_is_json_schema(project: Project) -> None:
    schema = json.loads(project.vmctl("schema").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert project.vmctl("schema", "--json").answer == schema


def test_schema_can_be_written_for_a_fresh_clone(project: Project) -> None:
    (project.root / "Vmfile").write_text("box: tiny\n")
    project.vmctl("schema", "--write")
    assert json.loads((project.root / ".vmctl" / "Vmfile.schema.json").read_text()) == vmfile.schema()


@pytest.mark.parametrize("how", ["found", "above", "-f", "$VMCTL_VMFILE", "the user's own", "lock"])
def test_a_vmfile_that_others_may_write_is_not_obeyed(
    project: Project, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project.vmfile("")
    loose, words = project.root / "Vmfile", ["validate"]
    below = project.root / "below"
    below.mkdir()
    if how == "above":
        words = ["-C", str(below), *words]
    elif how == "-f":
        words = ["-C", str(below), "-f", str(loose), *words]
    elif how == "$VMCTL_VMFILE":
        monkeypatch.setenv("VMCTL_VMFILE", str(loose))
    elif how == "the user's own":
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        loose = tmp_path / "config" / "vmctl" / "Vmfile"
        loose.parent.mkdir(parents=True)
        loose.write_text("cpus: 1\n")
    elif how == "lock":
        loose, words = project.root / "Vmfile.lock", ["up", "--locked"]
        loose.write_text("{}")
    loose.chmod(0o666)
    ran = project.vmctl(*words, status=2)
    assert f"{loose} is not obeyed: every user may write {loose}" in ran.err
    assert f"hint: chmod o-w {loose}" in ran.err
    loose.chmod(0o600)
    assert "not obeyed" not in project.vmctl(*words, status=None).err
