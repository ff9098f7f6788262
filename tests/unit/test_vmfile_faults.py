from pathlib import Path

import pytest

from tests.unit.vmfile_cases import Bad, bad, fill, load
from vmctl.vmfile import VmfileInvalid

CASES = bad()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return fill(tmp_path)


def messages(root: Path, text: str, **options: object) -> list[str]:
    with pytest.raises(VmfileInvalid) as caught:
        load(root, text, **options)
    assert caught.value.exit_code == 2
    return [str(fault).replace(str(root), "{root}") for fault in caught.value.faults]


def test_the_table_is_large_and_its_names_are_unique() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_bad_vmfile_gives_exactly_its_messages(case: Bad, root: Path) -> None:
    assert messages(root, case.text) == list(case.faults)


def test_one_fault_is_the_brief_of_the_error(root: Path) -> None:
    with pytest.raises(VmfileInvalid) as caught:
        load(root, "box: debian-12\nmemroy: 1GiB\n")
    assert caught.value.brief == "Vmfile:2:1: memroy: unknown key, did you mean 'memory'?"
    assert caught.value.details == ""


def test_several_faults_are_the_details(root: Path) -> None:
    with pytest.raises(VmfileInvalid) as caught:
        load(root, "cpus: 0\nmemory: 1\n")
    assert caught.value.brief == "the Vmfile has 3 faults"
    assert len(caught.value.details.splitlines()) == 3


def test_a_control_character_has_its_place(root: Path) -> None:
    assert messages(root, "box: debian-12\nmessage: a\x07b\n") == [
        "Vmfile:2:11: the character U+0007 is not allowed in YAML"
    ]


def test_bytes_that_are_not_utf8_have_their_place(root: Path) -> None:
    (root / "Vmfile").write_bytes(b"box: debian-12\nmessage: \xff\n")
    with pytest.raises(VmfileInvalid, match=r"^Vmfile:2:10: not UTF-8 text$"):
        load_bytes(root)


def load_bytes(root: Path) -> None:
    from vmctl import vmfile

    vmfile.load(root / "Vmfile", environ={})


def test_a_file_that_is_gone_is_named(root: Path) -> None:
    with pytest.raises(VmfileInvalid, match=r"^Vmfile: cannot be read: No such file or directory$"):
        load_bytes(root)


def test_a_huge_file_is_refused(root: Path) -> None:
    with pytest.raises(VmfileInvalid, match=r"^Vmfile:1:1: larger than 8 MiB: not a Vmfile$"):
        load(root, "#" * (8 * 1024**2 + 1))


def test_a_file_elsewhere_is_named_by_its_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root / "src")
    assert messages(root, "cpus: 1\n") == ["../Vmfile:1:1: the key 'box' is missing"]
    monkeypatch.chdir("/")
    assert messages(root, "cpus: 1\n") == [f"{str(root / 'Vmfile')[1:]}:1:1: the key 'box' is missing"]


def test_faults_of_the_users_file_follow_the_projects(root: Path) -> None:
    user = root / "config" / "vmctl" / "Vmfile"
    user.parent.mkdir(parents=True)
    user.write_text("memory: lots\nports: []\nmemroy: 1\n")
    assert messages(root, "box: debian-12\ncpus: 0\n") == [
        "Vmfile:2:7: cpus: 0 is not between 1 and 256",
        "config/vmctl/Vmfile:1:9: memory: expected a size such as 512MiB or 2GiB, got 'lots'",
        "config/vmctl/Vmfile:2:1: ports: belongs to a project's Vmfile, not to the user's own",
        "config/vmctl/Vmfile:3:1: memroy: unknown key, did you mean 'memory'?",
    ]


def test_a_wrong_default_of_a_box_names_the_box(root: Path) -> None:
    assert messages(root, "box: debian-12\n", box_defaults=lambda _box: {"cpus": "many"}) == [
        "box debian-12: cpus: expected a whole number, got 'many'"
    ]


def test_an_override_of_an_unknown_variable_is_a_fault(root: Path) -> None:
    text = "box: debian-12\nvars: {app_port: 80}\n"
    assert messages(root, text, overrides={"ap_port": "81"}) == [
        "--set ap_port: vars: holds no 'ap_port', did you mean 'app_port'?"
    ]


def test_a_wrong_override_names_the_option(root: Path) -> None:
    text = 'box: debian-12\nvars: {n: 1}\ncpus: "{{ vars.n }}"\n'
    assert messages(root, text, overrides={"n": "many"}) == [
        "Vmfile:3:7: cpus: expected a whole number, got 'many' (from {{ vars.n }})"
    ]


def test_the_same_fault_of_many_machines_is_told_once(root: Path) -> None:
    text = 'box: debian-12\nmemory: "{{ machine.memory }}"\nmachines:\n  web: {count: 50}\n'
    assert messages(root, text) == [
        "Vmfile:2:9: memory: {{ machine.memory }}: there is no 'memory'; there are name, group, index"
    ]


def test_a_file_without_end_is_no_vmfile(root: Path) -> None:
    path = root / "Vmfile"
    with path.open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(VmfileInvalid, match=r"^Vmfile:1:1: larger than 8 MiB: not a Vmfile$"):
        load_bytes(root)
