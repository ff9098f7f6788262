from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from vmctl.provision import inputs, layer_keys
from vmctl.provision.layer_keys import Chain, Surroundings
from vmctl.spec import Ansible, File, Provisioner, Reboot, Shell

GROUND: dict[str, Any] = {
    "box": "b" * 64, "further": [], "seeding": "vmctl", "firmware": "bios", "disk": 2**30, "user": "vmctl",
    "options": {"disk_bus": "virtio", "firmware": "bios"},
}  # fmt: skip
FILES = {
    "Vmfile": "", "ops/site.yml": "- hosts: all\n  roles: [app]\n  vars_files: [settings/one.yml]\n",
    "ops/settings/one.yml": "a: 1\n", "ops/roles/app/tasks/main.yml": "- template: {src: x.j2, dest: /etc/x}\n",
    "ops/roles/app/templates/x.j2": "x\n", "ops/roles/app/vars/main.yml": "b: 1\n", "ops/group_vars/all.yml": "c: 1\n",
    "ops/requirements.yml": "collections: [{name: a.b, version: 1.2.3}]\n", "ops/extra.yml": "d: 1\n",
    "ops/ansible.cfg": "[defaults]\n", "setup.sh": "echo 1\n", "motd": "welcome\n", "tree/a": "a\n",
    "library/ansible_collections/my/own/plugins/x.py": "1\n", "shared_roles/other/tasks/main.yml": "[]\n",
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "shop"
    write(root, FILES)
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(root / "library"))
    monkeypatch.setenv("ANSIBLE_ROLES_PATH", str(root / "shared_roles"))
    return root


def write(root: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def items(root: Path) -> list[Provisioner]:
    return [
        Shell(name="first", script=root / "setup.sh", args=("a", "b"), env={"X": "1", "Y": "2"}),
        File(name="motd", source=root / "motd", destination="/etc/motd", variables={"p": 1, "q": {"r": 2, "s": [3]}}),
        Reboot(name="reboot"),
        Ansible(
            name="site", playbook=root / "ops" / "site.yml", extra_vars={"v": 1, "w": 2}, env={"E": "1", "F": "2"},
            extra_vars_files=(root / "ops" / "extra.yml",), requirements=root / "ops" / "requirements.yml",
        ),
        File(name="tree", source=root / "tree", destination="/srv"),
        Shell(name="last", inline="echo done"),
    ]  # fmt: skip


def chain(root: Path, several: list[Provisioner] | None = None, ground: dict[str, Any] | None = None) -> Chain:
    return layer_keys.chain(several or items(root), ground or GROUND, Surroundings(root=root, name=root.name))


def first_difference(before: Chain, after: Chain) -> int:
    """How many keys are the same; from there on, all must differ."""
    same = [one == other for one, other in zip(before.keys, after.keys, strict=True)]
    kept = same.index(False) if False in same else len(same)
    assert not any(same[kept:])
    return kept


def test_every_provisioner_has_a_key_of_its_own(project: Path) -> None:
    made = chain(project)
    assert (made.reason, made.ended_by) == ("", "")
    assert len(set(made.keys)) == len(items(project)) == len(made.items)
    assert all(re.fullmatch("[0-9a-f]{64}", key) for key in made.keys)


@pytest.mark.parametrize(
    ("name", "kept"),
    [("setup.sh", 0), ("motd", 1), ("tree/a", 4)]
    + [(name, 3) for name in FILES if name.startswith(("ops/", "library/", "shared_roles/"))],
)
def test_a_byte_of_any_file_changes_the_keys_from_there_on(project: Path, name: str, kept: int) -> None:
    before = chain(project)
    write(project, {name: FILES[name].replace("1", "2") + "# \n"})
    if name == "ops/requirements.yml":
        write(project, {name: FILES[name].replace("1.2.3", "1.2.4")})
    assert first_difference(before, chain(project)) == kept


def test_a_change_that_keeps_size_and_time_of_a_large_file_counts(project: Path) -> None:
    path = project / "motd"
    path.write_bytes(b"a" * 2_000_000)
    before, status = chain(project), path.stat()
    path.write_bytes(b"b" * 2_000_000)
    import os

    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert first_difference(before, chain(project)) == 1


OPTIONS: list[tuple[int, Callable[[Any], Any]]] = [
    (0, lambda one: structs.replace(one, args=("b", "a"))),
    (0, lambda one: structs.replace(one, env={"X": "1", "Y": "3"})),
    (0, lambda one: structs.replace(one, become=False)),
    (0, lambda one: structs.replace(one, creates="/x")),
    (1, lambda one: structs.replace(one, destination="/etc/issue")),
    (1, lambda one: structs.replace(one, mode=0o600)),
    (1, lambda one: structs.replace(one, variables={"p": 2})),
    (3, lambda one: structs.replace(one, extra_vars={"v": 2, "w": 2})),
    (3, lambda one: structs.replace(one, tags=("x",))),
    (3, lambda one: structs.replace(one, env={"E": "2"})),
    (3, lambda one: structs.replace(one, groups={"web": ("default",)})),
    (3, lambda one: structs.replace(one, strategy="free")),
    (3, lambda one: structs.replace(one, mode="guest")),
    (5, lambda one: structs.replace(one, inline="echo Done")),
]


@pytest.mark.parametrize(("number", "changed"), OPTIONS)
def test_what_a_provisioner_says_changes_the_keys_from_there_on(
    project: Path, number: int, changed: Callable[[Any], Any]
) -> None:
    several = items(project)
    several[number] = changed(several[number])
    assert first_difference(chain(project), chain(project, several)) == number


def test_the_machine_and_its_box_change_all_keys(project: Path) -> None:
    before = chain(project)
    for name, value in GROUND.items():
        other = {**GROUND, name: [value, "changed"]}
        assert first_difference(before, chain(project, ground=other)) == 0


def test_permissions_count_where_they_are_put_into_the_guest(project: Path) -> None:
    (project / "motd").chmod(0o600)
    before = chain(project)
    (project / "motd").chmod(0o640)
    assert first_difference(before, chain(project)) == 1
    before = chain(project)
    (project / "ops" / "site.yml").chmod(0o600)
    assert chain(project) == before


def test_the_environment_of_ansible_counts_unless_it_only_changes_what_is_shown(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = chain(project)
    monkeypatch.setenv("ANSIBLE_NOCOLOR", "1")
    monkeypatch.setenv("EDITOR", "ed")
    assert chain(project) == before
    monkeypatch.setenv("ANSIBLE_JINJA2_NATIVE", "1")
    assert first_difference(before, chain(project)) == 3


def test_another_version_of_ansible_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = chain(project)
    monkeypatch.setattr(layer_keys, "_version", lambda _command, _root: "another")
    assert first_difference(before, chain(project)) == 3


def test_a_collection_that_is_installed_elsewhere_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = chain(project)
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(project / "none"))
    assert first_difference(before, chain(project)) == 3


def test_order_and_spelling_do_not_count(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shuffled = random.Random(1)  # noqa: S311  not for secrets

    def mixed(value: Any) -> Any:
        if isinstance(value, dict):
            pairs = [(key, mixed(item)) for key, item in value.items()]
            shuffled.shuffle(pairs)
            return dict(pairs)
        return value

    before = chain(project)
    for _ in range(20):
        several = [
            structs.replace(one, **{
                key: mixed(getattr(one, key)) for key in ("env", "variables", "extra_vars") if hasattr(one, key)
            })
            for one in items(project)
        ]  # fmt: skip
        assert chain(project, several, mixed(GROUND)) == before
    renamed = [structs.replace(one, name=f"{one.name}-2") for one in items(project)]
    assert chain(project, renamed).keys == before.keys


def test_a_second_checkout_has_the_same_keys(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = chain(project)
    other = tmp_path / "elsewhere" / "checkout"
    write(other, FILES)
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(other / "library"))
    monkeypatch.setenv("ANSIBLE_ROLES_PATH", str(other / "shared_roles"))
    assert chain(other).keys == before.keys


def test_inserting_and_leaving_out_change_the_rest(project: Path) -> None:
    before = chain(project)
    several = items(project)
    more = chain(project, [*several[:2], Shell(name="new", inline="true"), *several[2:]])
    assert more.keys[:2] == before.keys[:2]
    assert not {*more.keys[2:]} & {*before.keys[2:]}
    less = chain(project, [*several[:2], *several[3:]])
    assert less.keys[:2] == before.keys[:2]
    assert not {*less.keys[2:]} & {*before.keys[2:]}


def test_what_has_no_key_ends_the_chain(project: Path) -> None:
    several = items(project)
    several[1] = structs.replace(several[1], run="always")
    ended = chain(project, several)
    assert ended.keys == chain(project).keys[:1]
    assert (ended.ended_by, ended.reason) == ("motd", "it runs at each `up` (run: always)")


def test_what_never_runs_by_itself_is_no_part_of_it(project: Path) -> None:
    several = [Shell(name="by hand", inline="true", run="never"), *items(project)]
    assert chain(project, several) == chain(project)


def test_machines_of_a_group_part_where_names_matter(project: Path) -> None:
    def keys(name: str, *several: Provisioner) -> tuple[str, ...]:
        return layer_keys.chain(several, GROUND, Surroundings(root=project, names=(name, f"{name}.example"))).keys

    plain: list[Provisioner] = [
        Shell(name="one", inline="echo 1"), Shell(name="two", inline="hostname -f >/etc/who"), Reboot(name="r"),
    ]  # fmt: skip
    first, second = keys("web-1", *plain), keys("web-2", *plain)
    assert [one == other for one, other in zip(first, second, strict=True)] == [True, False, False]
    template = File(name="t", source=project / "motd", destination="/etc/motd", template=True)
    assert keys("web-1", template) != keys("web-2", template)
    for text in ("ip addr", "uname -n", "cat /etc/hosts", "echo $HOSTNAME"):
        own = Shell(name="one", inline=text)
        assert keys("web-1", own) != keys("web-2", own), text
    write(project, {"ops/roles/app/templates/x.j2": "{{ inventory_hostname }}\n", "ops/requirements.yml": "[]\n"})
    playbook = Ansible(name="site", playbook=project / "ops" / "site.yml")
    assert keys("web-1", playbook) != keys("web-2", playbook)


def test_a_kernel_that_is_the_hosts_counts_where_it_may_matter(tmp_path: Path) -> None:
    def keys(kernel: str, *texts: str) -> tuple[str, ...]:
        several = [Shell(name=text, inline=text) for text in texts]
        return layer_keys.chain(several, GROUND, Surroundings(root=tmp_path, kernel=kernel)).keys

    texts = ("echo 1", "apt-get install linux-headers-$(uname -r)", "echo 2")
    first, second = keys("6.1.0-1-amd64", *texts), keys("6.1.0-2-amd64", *texts)
    assert [one == other for one, other in zip(first, second, strict=True)] == [True, False, False]
    write(tmp_path, {"site.yml": '- {hosts: all, tasks: [{apt: {name: "x-{{ ansible_kernel }}"}}]}\n'})
    several = [Ansible(name="site", playbook=tmp_path / "site.yml")]
    found = {
        layer_keys.chain(several, GROUND, Surroundings(root=tmp_path, kernel=kernel)).keys for kernel in ("1", "2", "")
    }
    assert len(found) == 3


TARGETED: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({"site.yml": "- {hosts: leader, tasks: []}\n"}, {"groups": {"leader": ("web-1",)}}),
    ({"site.yml": "- {hosts: web-1, tasks: []}\n"}, {}),
    ({"site.yml": "- {hosts: [all, '!web-1'], tasks: []}\n"}, {}),
    ({"site.yml": "- {hosts: all, tasks: []}\n- {hosts: web-1, tasks: []}\n"}, {}),
    ({"site.yml": '- {hosts: "{{ x }}", tasks: [], vars: {x: web-1}}\n'}, {}),
    ({}, {"limit": "web-1"}),
    ({}, {"host_vars": {"web-1": {"a": 1}}}),
    ({}, {"group_vars": {"leader": {"a": 1}}}),
    ({"host_vars/web-1.yml": "a: 1\n"}, {}),
    ({"group_vars/leader.yml": "a: 1\n"}, {}),
    ({"site.yml": "- import_playbook: b/b.yml\n", "b/b.yml": "[]\n", "b/host_vars/web-1.yml": "a: 1\n"}, {}),
    ({"group_vars/leader/a.yml": "a: 1\n"}, {}),
    ({"wanted.yml": "collections: [{name: a.b, version: 1.2.3}]\n"}, {"requirements": "wanted.yml"}),
    ({"site.yml": "- {hosts: all, roles: [far]}\n", "far/far/tasks/main.yml": "[]\n"}, {}),
]


@pytest.mark.parametrize(("texts", "options"), [*TARGETED, ({}, {}), ({"group_vars/all/a.yml": "a: 1\n"}, {})])
def test_machines_of_a_group_part_where_a_playbook_tells_them_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: dict[str, str], options: dict[str, Any]
) -> None:
    monkeypatch.setenv("ANSIBLE_ROLES_PATH", str(tmp_path / "far"))
    write(tmp_path, {"Vmfile": "", "site.yml": "- {hosts: all, tasks: []}\n", **texts})
    paths = {"requirements": tmp_path / options["requirements"]} if "requirements" in options else {}
    playbook = Ansible(name="site", playbook=tmp_path / "site.yml", **{**options, **paths})
    keys = {
        layer_keys.chain([playbook], GROUND, Surroundings(root=tmp_path, names=(name,))).keys
        for name in ("web-1", "web-2")
    }
    assert all(keys)
    assert len(keys) == (2 if (texts, options) in TARGETED else 1)


def test_what_a_template_includes_counts(tmp_path: Path) -> None:
    write(tmp_path, {"a.j2": "{% include 'b.j2' %}\n", "b.j2": "{%- from 'sub/c.j2' import x -%}\n"})
    write(tmp_path, {"sub/c.j2": "c\n", "d.j2": "d\n"})
    item = File(name="t", source=tmp_path / "a.j2", destination="/x", template=True)

    def both() -> tuple[Any, ...]:
        return inputs.digest(item), chain(tmp_path, [item]).keys

    for name, counts in (("b.j2", True), ("sub/c.j2", True), ("d.j2", False)):
        before = both()
        (tmp_path / name).write_text((tmp_path / name).read_text() + "more\n")
        assert [one != other for one, other in zip(before, both(), strict=True)] == [counts, counts], name
    (tmp_path / "a.j2").write_text("{% include vars.which %}\n")
    before = both()
    (tmp_path / "d.j2").write_text("other\n")
    assert before[0] != both()[0]
    assert before[1] != both()[1]


def test_where_the_project_is_counts_for_templates_that_say_so(tmp_path: Path) -> None:
    def keys(directory: str, text: str) -> tuple[str, ...]:
        write(tmp_path / directory, {"a.j2": "{% include 'b.j2' %}", "b.j2": text})
        item = File(name="t", source=tmp_path / directory / "a.j2", destination="/x", template=True)
        return chain(tmp_path / directory, [item]).keys

    assert keys("one", "{{ vars.x }}") == keys("two", "{{ vars.x }}")
    assert keys("one", "{{ project.name }}") != keys("two", "{{ project.name }}")


@pytest.mark.parametrize(
    ("text", "counts"),
    [("copy: {src: app}", 0), ("copy: {src: app, mode: preserve}", 1), ("synchronize: {src: app}", 1)],
)
def test_permissions_count_where_a_playbook_keeps_them(tmp_path: Path, text: str, counts: int) -> None:
    write(tmp_path, {"Vmfile": "", "site.yml": f"- {text}\n", "app/x": "x\n"})
    item = Ansible(name="site", playbook=tmp_path / "site.yml")
    before = chain(tmp_path, [item])
    (tmp_path / "app" / "x").chmod(0o600)
    assert (chain(tmp_path, [item]) != before) == bool(counts)
    assert chain(tmp_path, [item]).keys


def test_all_that_a_role_may_put_into_the_guest_counts(project: Path) -> None:
    for name in ("files/app/node_modules/x.js", "files/app/new/"):
        before = chain(project)
        place = project / "ops" / "roles" / "app" / name
        place.mkdir(parents=True) if name.endswith("/") else write(place.parent, {place.name: "1\n"})
        assert first_difference(before, chain(project)) == 3, name
    (project / "shared").mkdir()
    (project / "ops" / "roles" / "app" / "files" / "a").symlink_to(project / "ops" / "roles" / "app" / "files" / "app")
    before = chain(project)
    (project / "ops" / "roles" / "app" / "files" / "b").symlink_to(project / "ops" / "roles" / "app" / "files" / "app")
    assert first_difference(before, chain(project)) == 3


def test_a_directory_that_a_playbook_names_counts_with_the_names_in_it(tmp_path: Path) -> None:
    write(tmp_path, {"Vmfile": "", "site.yml": "- copy: {src: app/, dest: /x}\n", "app/one/x": "x\n"})
    item = Ansible(name="site", playbook=tmp_path / "site.yml")
    before = chain(tmp_path, [item])
    (tmp_path / "app" / "one").rename(tmp_path / "app" / "two")
    assert chain(tmp_path, [item]).keys != before.keys


@pytest.mark.parametrize(
    ("variables", "configuration", "place"),
    [
        ({"ANSIBLE_HOME": "own"}, "", "own/roles/far/tasks/main.yml"),
        ({"ANSIBLE_HOME": "own"}, "", "own/collections/ansible_collections/a/b/x"),
        ({}, "ansible.cfg", "own/roles/far/tasks/main.yml"),
        ({}, "ansible.cfg", "own/plugins/filter/x.py"),
        ({"ANSIBLE_CONFIG": "conf"}, "conf/ansible.cfg", "conf/own/roles/far/tasks/main.yml"),
        ({"ANSIBLE_CONFIG": "none"}, "ansible.cfg", "own/roles/far/tasks/main.yml"),
    ],
)
def test_the_home_and_configuration_of_ansible_are_where_it_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], configuration: str, place: str
) -> None:
    write(tmp_path, {"Vmfile": "", "site.yml": "- {hosts: all, roles: [far]}\n", place: "1\n"})
    write(tmp_path, {configuration: "[defaults]\nhome = own\n"} if configuration else {})
    for name, value in variables.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    item = Ansible(name="site", playbook=tmp_path / "site.yml")
    before = chain(tmp_path, [item])
    write(tmp_path, {place: "2\n"})
    assert chain(tmp_path, [item]).keys != before.keys


def test_the_search_paths_are_those_of_the_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANSIBLE_COLLECTIONS_PATH")
    write(project, {"conf/own.cfg": "[defaults]\ncollections_path = ../library\nfilter_plugins = plug\n"})
    write(project, {"conf/plug/x.py": "1\n"})
    several = items(project)
    several[3] = structs.replace(several[3], config_file=project / "conf" / "own.cfg")
    for name in ("library/ansible_collections/my/own/plugins/x.py", "conf/plug/x.py"):
        before = chain(project, several)
        write(project, {name: "2\n"})
        assert first_difference(before, chain(project, several)) == 3, name


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        ("ANSIBLE_LIBRARY", "plug"), ("ANSIBLE_FILTER_PLUGINS", "plug"), ("ANSIBLE_MODULE_UTILS", "plug"),
        ("HOME", "plug/.ansible/plugins/modules"), ("ANSIBLE_HOME", "plug/plugins/filter"),
    ],
)  # fmt: skip
def test_plugins_count_wherever_they_are(
    project: Path, monkeypatch: pytest.MonkeyPatch, variable: str, place: str
) -> None:  # fmt: skip
    write(project, {f"{place}/x.py": "1\n"})
    monkeypatch.setenv(variable, str(project / "plug"))
    before = chain(project)
    write(project, {f"{place}/__pycache__/x.pyc": "made by a run\n"})
    assert chain(project) == before
    write(project, {f"{place}/x.py": "2\n"})
    assert first_difference(before, chain(project)) == 3


def test_what_python_leaves_beside_plugins_of_a_collection_does_not_count(project: Path) -> None:
    before = chain(project)
    write(project, {"library/ansible_collections/my/own/plugins/__pycache__/x.pyc": "made by a run\n"})
    assert chain(project) == before


def test_the_version_of_ansible_has_the_package_of_the_community(tmp_path: Path) -> None:
    program = tmp_path / "ansible-playbook"
    program.write_text(
        f"#!/bin/sh\necho 'ansible-playbook [core 2.15.1]'; echo '  config file = /x/ansible.cfg'\n"
        f"echo '  ansible python module location = {tmp_path}/site/ansible'\n"
    )
    program.chmod(0o755)
    (tmp_path / "site" / "ansible-8.1.0.dist-info").mkdir(parents=True)
    (tmp_path / "site" / "ansible_core-2.15.1.dist-info").mkdir()
    assert layer_keys._version(str(program), tmp_path) == "ansible-playbook [core 2.15.1] ansible-8.1.0.dist-info"
