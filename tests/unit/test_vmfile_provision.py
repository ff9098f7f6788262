"""Which machine has which provisioners, in which order, and what they come to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.vmfile_cases import fill, load
from vmctl import vmfile
from vmctl.spec import Ansible, File, MachineSpec, Project, Reboot, Shell

TEXT = (Path(__file__).parents[1] / "data" / "vmfile_good" / "provisioners.yml").read_text()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return fill(tmp_path)


def machine(project: Project, name: str) -> MachineSpec:
    return next(spec for spec in project.machines if spec.name == name)


def names(project: Project, name: str) -> list[str]:
    return [item.name for item in machine(project, name).provision]


def test_each_machine_has_what_is_for_it_in_its_order(root: Path) -> None:
    project = load(root, TEXT)
    common = ["first", "play", "tree", "short", "inside"]
    assert names(project, "db") == ["first", "last", *common[1:]]
    assert names(project, "web-1") == ["first", "last", "only-web", "one", *common[1:]]
    assert names(project, "web-2") == ["first", "last", "only-web", *common[1:]]


def test_a_playbook_has_every_option(root: Path) -> None:
    (item,) = [item for item in machine(load(root, TEXT), "db").provision if item.name == "play"]
    assert isinstance(item, Ansible)
    site = root / "site.yml"
    assert item.playbooks == (site, site)
    assert item.groups == {"webservers": ("web-1", "web-2"), "servers": ("db", "webservers"), "nothing": ()}
    assert item.group_vars == {"servers": {"port": 80}}
    assert item.host_vars == {"web-1": {"a": 1}, "web-2": {"a": 1, "b": "red"}}
    assert (item.extra_vars, item.extra_vars_files) == ({"c": {"d": [1, 2]}}, (site,))
    assert item.vault == {"dev": root / "no-such-file-yet", "prod": None}


def test_files_reboots_and_scripts(root: Path) -> None:
    found = {item.name: item for item in machine(load(root, TEXT), "web-1").provision}
    tree, short, reboot, script = found["tree"], found["short"], found["one"], found["last"]
    assert isinstance(tree, File)
    assert (tree.mode, tree.variables) == (0o640, {"colour": "green", "first_only": True})
    assert isinstance(short, File)
    assert (short.source, short.destination, short.variables) == (root / "site.yml", "/etc/site.yml", {})
    assert isinstance(reboot, Reboot)
    assert reboot.timeout == 600
    assert isinstance(script, Shell)
    assert (script.args, script.on, script.become) == (("1", "true"), "host", False)


def test_what_it_comes_to_is_a_vmfile_that_means_the_same(root: Path) -> None:
    project = load(root, TEXT)
    written = vmfile.to_yaml(vmfile.effective(project))
    again = load(root, written)
    assert {spec.name: spec.provision for spec in again.machines} == {
        spec.name: spec.provision for spec in project.machines
    }


def test_names_come_from_files_and_urls_and_are_unique(root: Path) -> None:
    url = "{shell: {url: 'https://example.org/a/get-it.sh?x=1', checksum: 'sha256:" + "0" * 64 + "'}}"
    entries = [url, "{file: 'src:/a'}", "{file: 'src:/b'}", "{reboot: true}", "{reboot: true}"]
    text = f"box: debian-12\nprovision: [{', '.join(entries)}]\n"
    assert names(load(root, text), "default") == ["get-it", "src", "src-2", "reboot", "reboot-2"]


def test_a_machines_own_entry_can_come_before_the_top_levels(root: Path) -> None:
    text = """\
box: debian-12
provision: [{shell: bootstrap.sh}, {ansible: site.yml}]
machines:
  one: {provision: [{reboot: true, before: site}]}
  two: {}
"""
    project = load(root, text)
    assert names(project, "one") == ["bootstrap", "reboot", "site"]
    assert names(project, "two") == ["bootstrap", "site"]


FLEET = (
    "box: debian-12\nmachines: {k8s: {count: 3}, web: {}}\n"
    "remotes: {lab: {hosts: {k8s-1: , k8s-2: , web: {groups: [edge-nodes.2, 9lives]}}}}\n"
)


@pytest.mark.parametrize(
    ("stated", "members"),
    [
        ("['k8s-[1:3]']", ("k8s-1", "k8s-2", "k8s-3")),
        ("['k8s[0]', web]", ("k8s-1", "web")),
        ("['k8s:!k8s-2']", ("k8s-1", "k8s-3")),
        ("[k8s, '!k8s-2']", ("k8s-1", "k8s-3")),
        ("[all]", ("k8s-1", "k8s-2", "k8s-3", "web")),
    ],
)
def test_patterns_mean_the_same_wherever_machines_are_named(root: Path, stated: str, members: tuple[str, ...]) -> None:
    text = (
        f"{FLEET}triggers: [{{before: up, machines: {stated}, run: ['true']}}]\nprovision:\n"
        f"- shell: {{inline: a}}\n  machines: {stated}\n- ansible: {{playbook: site.yml, groups: {{a-b.c: {stated}}}, "
        f"host_vars: {{{stated[1:-1].partition(', ')[0]}: {{x: 1}}}}}}\n"
    )
    project = load(root, text)
    assert project.triggers[0].machines == members
    assert tuple(spec.name for spec in project.machines if len(spec.provision) == 2) == members
    ansible = project.machines[0].provision[-1]
    assert isinstance(ansible, Ansible)
    assert ansible.groups == {"a-b.c": members}
    assert set(members) & set(ansible.host_vars)
    assert project.remotes[0].servers[2].groups == ("edge-nodes.2", "9lives")


@pytest.mark.parametrize(
    ("stated", "fault"),
    [
        ("['k8s-[1:4]']", "there is no machine 'k8s-[1:4]' (nothing is called 'k8s-4', of 'k8s-[1:4]')"),
        ("['k8s-[3:1]']", "invalid range '[3:1]' in 'k8s-[3:1]'"),
        ("['~k8s.*']", "regular expressions are for the command line"),
        ("[k8s, '!mail']", "there is no machine 'mail'"),
        ("['web:!web']", "leaves no machine"),
    ],
)
def test_a_pattern_that_would_lose_machines_is_a_fault_with_its_place(root: Path, stated: str, fault: str) -> None:
    with pytest.raises(vmfile.VmfileInvalid) as caught:
        load(root, f"{FLEET}provision:\n- shell: {{inline: a}}\n  machines: {stated}\n")
    assert fault in caught.value.brief
    assert caught.value.brief.startswith("Vmfile:6:")
