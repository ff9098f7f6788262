import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tests.unit.vmfile_cases import fill, load
from vmctl import vmfile
from vmctl.errors import UsageError
from vmctl.spec import (
    GIB,
    MIB,
    Ansible,
    BoxRef,
    Dependency,
    Folder,
    MachineSpec,
    Network,
    Port,
    Project,
    ReadyCheck,
    Shell,
    SourceLocation,
)
from vmctl.vmfile.ansible_keys import ANSIBLE
from vmctl.vmfile.folder_keys import FOLDER
from vmctl.vmfile.keys import COUNT, MACHINE
from vmctl.vmfile.network_keys import NETWORK
from vmctl.vmfile.port_keys import PORT
from vmctl.vmfile.provisioner_keys import FILE_ENTRY, PROVISIONER, REBOOT, SHELL
from vmctl.vmfile.ready_keys import CHECK
from vmctl.vmfile.top_keys import TOP_ONLY
from vmctl.vmfile.writing import starter

REPOSITORY = Path(__file__).parents[2]
GOOD = REPOSITORY / "tests" / "data" / "vmfile_good"
BOX = "box: debian-12\n"
PROVISIONERS = (PROVISIONER, SHELL, ANSIBLE, FILE_ENTRY, REBOOT)
DEBIAN = BoxRef(address="debian-12")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return fill(tmp_path)


def good(root: Path, name: str) -> Project:
    return load(root, (GOOD / f"{name}.yml").read_text())


def one(project: Project) -> MachineSpec:
    (spec,) = project.machines
    return spec


def by_name(project: Project) -> Mapping[str, MachineSpec]:
    return {spec.name: spec for spec in project.machines}


def test_one_line_is_enough(root: Path) -> None:
    assert good(root, "minimal") == Project(
        root=root,
        file=root / "Vmfile",
        machines=(
            MachineSpec(
                name="default",
                group="default",
                hostname="default",
                box=DEBIAN,
                folders=(Folder(host=root, guest="/project"),),
            ),
        ),
    )


def test_the_file_of_the_design(root: Path) -> None:
    project = load(
        root,
        """\
box: debian-12
provider: auto
cpus: 2
memory: 1GiB
disk: 20GiB
synced_folders:
  - .:/project
  - {host: ./src, guest: /srv/app, type: auto}
vars: {app_port: 8080}
machines:
  web:
    count: 2
    ports: ["{{ vars.app_port }}:80"]
    networks: [{name: backend, ip: 192.168.56.10}]
    depends_on: [db]
    ready: [{port: 80}, {command: systemctl is-active nginx}]
    libvirt: {machine: q35}
  db: {memory: 2GiB}
provision:
  - shell: ./bootstrap.sh
  - ansible:
      playbook: site.yml
      groups: {webservers: [web], dbservers: [db]}
      extra_vars: {app_port: "{{ vars.app_port }}"}
message: "Open http://127.0.0.1:{{ vars.app_port }}"
""",
    )
    common: dict[str, Any] = {
        "box": DEBIAN,
        "disk": 20 * GIB,
        "folders": (Folder(host=root, guest="/project"), Folder(host=root / "src", guest="/srv/app")),
        "provision": (
            Shell(name="bootstrap", script=root / "bootstrap.sh"),
            Ansible(
                name="site",
                playbook=root / "site.yml",
                groups={"webservers": ("web-1", "web-2"), "dbservers": ("db",)},
                extra_vars={"app_port": 8080},
            ),
        ),
    }

    def web(index: int) -> MachineSpec:
        return MachineSpec(
            name=f"web-{index}",
            group="web",
            index=index,
            hostname=f"web-{index}",
            ports=(Port(host=8079 + index, guest=80),),
            networks=(Network(name="backend", ip=f"192.168.56.{9 + index}"),),
            depends_on=(Dependency(machine="db"),),
            ready=(ReadyCheck(port=80), ReadyCheck(command="systemctl is-active nginx")),
            options={"libvirt": {"machine": "q35"}},
            **common,
        )

    db = MachineSpec(name="db", group="db", hostname="db", memory=2 * GIB, **common)
    assert project == Project(
        root=root,
        file=root / "Vmfile",
        machines=(web(1), web(2), db),
        message="Open http://127.0.0.1:8080",
        vars={"app_port": 8080},
    )


def test_words_and_numbers_are_those_of_yaml_1_2(root: Path) -> None:
    project = good(root, "words")
    words = ["yes", "no", "on", "off", "12:30", "12:30", None, True, 15, 17, 31, 1000.0, 0.5, "2024-01-01"]
    assert project.vars == {"words": words, "no": "off"}
    assert [type(word) for word in project.vars["words"]] == [type(word) for word in words]
    assert list(by_name(project)) == ["no", "on"]


def test_expressions_keep_their_type(root: Path) -> None:
    machines = by_name(good(root, "expressions"))
    assert list(machines) == ["web-1", "web-2"]
    second = machines["web-2"]
    assert (second.box, second.cpus, second.memory, second.hostname) == (DEBIAN, 2, 2 * GIB, "web2")
    assert second.ports == (Port(guest=80, host=8082), Port(guest=443, host=8181))
    assert second.folders == ()
    assert second.options == {"libvirt": {"cpu": "host-model"}}


def test_a_message_may_be_a_number_when_an_expression_gives_it(root: Path) -> None:
    assert good(root, "expressions").message == "8080"


def test_short_and_long_forms(root: Path) -> None:
    spec = one(good(root, "short_and_long"))
    assert spec.box == BoxRef(address="https://example.org/images/disk.qcow2")
    assert (spec.memory, spec.disk) == (GIB, 1536 * MIB)
    assert (spec.boot_timeout, spec.halt_timeout, spec.ssh_port) == (90.0, 90.0, 2222)
    assert spec.ports == (
        Port(host=8080, guest=80),
        Port(host=5353, guest=53, host_ip="0.0.0.0", protocol="udp"),  # noqa: S104  data, not bound to
        Port(host=8081, guest=80, host_ip="::1"),
        Port(host=None, guest=443),
        Port(host=None, guest=22),
        Port(host=2525, guest=25),
    )
    assert spec.ready == (ReadyCheck(port=80), ReadyCheck(command="true", timeout=300.0))


def test_anchors_and_constraints(root: Path) -> None:
    machines = by_name(good(root, "anchors"))
    assert machines["b"].ports == machines["a"].ports == (Port(host=None, guest=80),)
    assert machines["b"].box == BoxRef(address="debian-12", constraint="~>12.1,!=12.4")


def test_missing_addresses_are_allocated_and_stay(root: Path) -> None:
    text = BOX + "networks: [lan, {name: wan, netmask: 24}]\nmachines: {a: , b: , c: }\n"
    first = {spec.name: spec.networks for spec in load(root, text).machines}
    ips = [network.ip for networks in first.values() for network in networks]
    assert len(set(ips)) == 6
    assert all(ip and ip.startswith("192.168.56.") for ip in ips[::2])
    assert all(ip and ip.startswith("192.168.57.") for ip in ips[1::2])
    later = {spec.name: spec.networks for spec in load(root, text.replace("a: ,", "")).machines}
    assert later == {name: first[name] for name in "bc"}


def test_allocated_addresses_keep_out_of_given_ones(root: Path) -> None:
    text = BOX + "machines:\n  a: {networks: [{name: lan, ip: 192.168.60.2, netmask: 30}]}\n  b: {networks: [lan]}\n"
    (fault,) = faults(root, text)
    assert fault == "Vmfile:4:18: machines.b.networks.0: no address is left in 192.168.60.0/30 for 'b'"


def faults(root: Path, text: str) -> list[str]:
    with pytest.raises(vmfile.VmfileInvalid) as caught:
        load(root, text)
    return [str(fault) for fault in caught.value.faults]


def test_another_box_for_all_machines_comes_with_its_own_defaults(root: Path) -> None:
    other = BoxRef(address="other")
    text = "box: debian-12\nmachines: {a: {}, b: {box: third, cpus: 7}}\n"
    project = load(root, text, box=other, box_defaults=lambda box: {"cpus": 4, "user": str(box)})
    assert [(spec.box, spec.cpus, spec.user) for spec in project.machines] == [(other, 4, "other"), (other, 7, "other")]


def test_layers_lie_above_each_other(root: Path) -> None:
    user = root / "config" / "vmctl" / "Vmfile"
    user.parent.mkdir(parents=True)
    user.write_text("cpus: 3\nmemory: 3GiB\nlibvirt: {cpu: a, machine: a}\nvars: {a: 1, b: {x: 1, y: 1}}\n")
    project = load(
        root,
        BOX
        + "memory: 4GiB\nvars: {b: {y: 2}}\nlibvirt: {cpu: b, disk_bus: sata}\n"
        + "machines:\n  a: {}\n  b: {memory: 5GiB, libvirt: {disk_bus: scsi}}\n",
        box_defaults=lambda box: {"cpus": 9, "memory": "9GiB", "user": str(box), "libvirt": {"nested": True}},
    )
    machines = by_name(project)
    assert [(spec.cpus, spec.memory // GIB, spec.user) for spec in machines.values()] == [
        (3, 4, "debian-12"),
        (3, 5, "debian-12"),
    ]
    assert machines["a"].options == {"libvirt": {"nested": True, "cpu": "b", "machine": "a", "disk_bus": "sata"}}
    assert machines["b"].options == {"libvirt": {"nested": True, "cpu": "b", "machine": "a", "disk_bus": "scsi"}}
    assert project.options == {"libvirt": {"cpu": "b", "machine": "a", "disk_bus": "sata"}}
    assert project.vars == {"a": 1, "b": {"x": 1, "y": 2}}


def test_lists_replace_and_provisioners_add_up(root: Path) -> None:
    machines = by_name(
        load(
            root,
            BOX
            + "ports: [auto:80]\nprovision: [{shell: bootstrap.sh}, {shell: {inline: a}}]\n"
            + "machines:\n  a: {}\n  b:\n    ports: [auto:81]\n"
            + "    provision: [{shell: {inline: b}}, {shell: bootstrap.sh}]\n",
        )
    )
    assert machines["b"].ports == (Port(host=None, guest=81),)
    assert [item.name for item in machines["a"].provision] == ["bootstrap", "shell-1"]
    assert [item.name for item in machines["b"].provision] == ["bootstrap", "shell-1", "shell-2", "bootstrap-2"]


def test_paths_start_from_the_file_that_holds_them(root: Path) -> None:
    user = root / "config" / "vmctl" / "Vmfile"
    (user.parent / "mine").mkdir(parents=True)
    user.write_text("synced_folders: [mine:/mine:ro]\n")
    expected = (Folder(host=user.parent / "mine", guest="/mine", read_only=True),)
    assert one(load(root, BOX)).folders == expected


def test_a_tilde_is_the_home_directory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root / "src"))
    spec = one(load(root, "box: ~/disk.qcow2\nsynced_folders: ['~:/a/./b//c']\n"))
    assert spec.box == BoxRef(address=str(root / "src" / "disk.qcow2"))
    assert spec.folders == (Folder(host=root / "src", guest="/a/b/c"),)


def test_variables_come_from_the_environment_and_then_the_command_line(root: Path) -> None:
    text = BOX + "vars: {a: 1, b: 2, c: {d: 3, e: 4}, x: 0}\n"
    project = load(
        root,
        text,
        environ={"VMCTL_VAR_a": "10", "VMCTL_VAR_b": "20", "VMCTL_VAR_other": "1"},
        overrides={"b": "yes", "c.d": "'5'", "x": ""},
    )
    assert project.vars == {"a": 10, "b": "yes", "c": {"d": "5", "e": 4}, "x": None}
    assert str(project.places["vars.b"]) == "--set b"
    assert str(project.places["vars.a"]) == "VMCTL_VAR_a"


def test_variables_may_use_each_other_in_any_order(root: Path) -> None:
    text = BOX + 'vars:\n  url: "http://{{ vars.host }}:{{ vars.port }}"\n  host: "{{ project.name }}"\n  port: 80\n'
    assert load(root, text).vars["url"] == f"http://{root.name}:80"


def test_expressions_know_the_host_the_project_and_the_environment(root: Path) -> None:
    text = (
        BOX
        + 'cpus: "{{ [host.cpus, 4] | min }}"\nvars: {home: "{{ env.HOME }}", root: "{{ project.root }}", '
        + 'no: "{{ env.NOT_SET | default(7) }}", facts: "{{ host.os }} {{ host.arch }} {{ host.user }}"}\n'
        + "memory: '{{ [host.memory, 1073741824] | min }}'\n"
    )
    project = load(root, text, environ={"HOME": "/home/me"})
    assert one(project).memory <= GIB
    assert {**project.vars, "facts": ""} == {"home": "/home/me", "root": str(root), "no": 7, "facts": ""}
    assert project.vars["facts"].startswith("linux ")


def test_braces_that_are_not_expressions_are_text(root: Path) -> None:
    inline = "printf '{%s}' ${#array[@]} {#no comment#}"
    (item,) = one(load(root, BOX + f'provision: [{{shell: {{inline: "{inline}"}}}}]\n')).provision
    assert isinstance(item, Shell)
    assert item.inline == inline


def test_values_know_where_they_were_written(root: Path) -> None:
    spec = one(load(root, "box: debian-12\nports: [auto:80]\nmachines:\n  web:\n    libvirt: {cpu: x}\n"))
    assert spec.places["libvirt.cpu"] == SourceLocation(file="Vmfile", line=5, column=20)
    assert spec.places["ports.0"] == SourceLocation(file="Vmfile", line=2, column=9)
    assert "memory" not in spec.places


def test_the_vmfile_is_found_upward(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VMCTL_VMFILE", raising=False)
    (root / "Vmfile").write_text(BOX)
    (root / "src" / "deep").mkdir()
    assert vmfile.find(root / "src" / "deep") == root / "Vmfile"
    monkeypatch.chdir(root / "src")
    assert vmfile.load().root == root


def test_the_environment_names_the_vmfile(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "other.yml").write_text(BOX)
    monkeypatch.setenv("VMCTL_VMFILE", "other.yml")
    assert vmfile.find(root) == root / "other.yml"
    monkeypatch.setenv("VMCTL_VMFILE", "nothing.yml")
    with pytest.raises(UsageError, match=r"there is no file .*nothing\.yml \(from \$VMCTL_VMFILE\)"):
        vmfile.find(root)


def test_no_vmfile_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VMCTL_VMFILE", raising=False)
    with pytest.raises(UsageError, match=f"there is no Vmfile in {tmp_path} or above it") as caught:
        vmfile.find(tmp_path)
    assert caught.value.hint == "vmctl init"


def test_the_example_is_valid() -> None:
    project = vmfile.load(REPOSITORY / "Vmfile.example", environ={})
    assert [spec.name for spec in project.machines] == ["web-1", "web-2", "db", "worker-eu", "worker-us"]
    expected = ["setup", "tools", "pages", "motd-file", "restart", "site", "from-inside", "again", "motd"]
    assert [item.name for item in by_name(project)["db"].provision] == expected


def fields_of(kind: Any) -> Mapping[str, Any]:
    """The keys of a record, or of a thing's long form."""
    found: Mapping[str, Any] = getattr(kind, "long", kind).fields
    return found


def test_the_example_and_the_reference_show_every_key() -> None:
    example = (REPOSITORY / "Vmfile.example").read_text()
    reference = (REPOSITORY / "docs" / "vmfile.md").read_text()
    for key in (*MACHINE, *TOP_ONLY, "machines", "count", "for_each"):
        assert f"{key}:" in example, key
        assert f"`{key}`" in reference, key
    nested = {key for one in (FOLDER, PORT, NETWORK, *PROVISIONERS) for key in fields_of(one)} | set(CHECK.fields)
    for key in nested:
        assert f"{key}:" in example, key
        assert f"`{key}`" in reference or f"{{{key}:" in reference, key
    assert COUNT.doc


EXAMPLES = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs" / "vmfile.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_of_the_reference_is_valid(root: Path, text: str) -> None:
    assert load(root, text).machines


def test_the_starter_is_valid_with_and_without_its_comments(root: Path) -> None:
    text = starter("debian-12", ".vmctl/Vmfile.schema.json")
    assert text.startswith("# yaml-language-server: $schema=.vmctl/Vmfile.schema.json\n")
    assert one(load(root, text)).memory == GIB
    (root / "data").mkdir()
    (root / "playbooks").mkdir()
    (root / "playbooks" / "site.yml").touch()
    head, *paragraphs = text.split("\n\n")
    for paragraph in paragraphs:
        lines = [line.removeprefix("# ") for line in paragraph.splitlines()[1:]]
        assert vmfile.effective(load(root, "\n".join([head, *lines]))) != vmfile.effective(load(root, head))


def test_effective_configuration_is_a_vmfile_that_means_the_same(root: Path) -> None:
    for path in sorted(GOOD.glob("*.yml")):
        project = load(root, path.read_text())
        again = load(root, vmfile.to_yaml(vmfile.effective(project)))
        assert again.vars == project.vars
        assert again.message == project.message
        assert [_ungrouped(spec) for spec in again.machines] == [_ungrouped(spec) for spec in project.machines]


def _ungrouped(spec: MachineSpec) -> MachineSpec:

    return structs.replace(spec, group="", index=0)


def test_origins_name_file_and_line(root: Path) -> None:
    project = load(
        root,
        "box: debian-12\nvars: {a: 1}\nnetworks: [lan]\nprovision: [{shell: bootstrap.sh}]\nmessage: hi\n",
        overrides={"a": "2"},
        box_defaults=lambda _box: {"cpus": 4},
    )
    origins = vmfile.origins(project)
    wanted = {
        "box": "Vmfile:1", "cpus": "box debian-12", "memory": "built-in default", "networks.0.name": "Vmfile:3",
        "networks.0.ip": "allocated", "provision.0.shell.script": "Vmfile:4",
        "synced_folders.0.host": "built-in default",
    }  # fmt: skip
    assert {key: origins[f"machines.default.{key}"] for key in wanted} == wanted
    assert (origins["vars.a"], origins["message"]) == ("--set a", "Vmfile:5")
    text = vmfile.to_yaml(vmfile.effective(project), origins)
    assert "    cpus: 4  # box debian-12\n" in text
    assert "vars:\n  a: 2  # --set a\n" in text
