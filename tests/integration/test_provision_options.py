"""What an `ansible` entry can say, on a real sshd and the real Ansible."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tests.integration.provision_bench import Bench
from tests.unit.openssh_server import Sshd, sshd
from vmctl import process
from vmctl.errors import ProvisionFailed, UsageError
from vmctl.events import Notice
from vmctl.provision import Mode, settings

__all__ = ["sshd"]

pytestmark = pytest.mark.integration

TELL = """\
- hosts: {hosts}
  gather_facts: false
  tasks:
    - name: tell
      ansible.builtin.copy:
        dest: "{place}/{{{{ inventory_hostname }}}}"
        content: "{{{{ {expression} }}}}"
"""


@pytest.fixture
def bench(tmp_path: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("ANSIBLE_PYTHON_INTERPRETER", sys.executable)
    root = tmp_path / "a project"
    root.mkdir()
    return Bench(root, sshd)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where playbooks leave things in the guest, which is this host."""
    directory = tmp_path / "guest"
    directory.mkdir()
    return directory


def tell(bench: Bench, place: Path, expression: str, hosts: str = "all", name: str = "site.yml", **options: Any) -> Any:
    return bench.playbook(TELL.format(hosts=hosts, place=place, expression=expression), name, **options)


def vaulted(bench: Bench, text: str, password: Path, vault: str = "default") -> str:
    argv = [settings.program("ansible-vault"), "encrypt", f"--vault-id={vault}@{password}", "--output=-"]
    return process.run(argv, input=text).stdout


def test_variables_come_from_groups_hosts_files_and_the_entry(bench: Bench, place: Path) -> None:
    (bench.root / "more.yml").write_text("a: file\nb: file\n")
    expression = "dict(a=a, b=b, group=group, host=host, extra=from_inventory, env=lookup('env', 'SAID')) | to_json"
    (bench.root / "more.ini").write_text("[webservers:vars]\nfrom_inventory=yes\n")
    item = tell(
        bench,
        place,
        expression,
        groups={"webservers": ("one",), "servers": ("webservers",)},
        group_vars={"servers": {"group": "servers", "host": "overridden"}},
        host_vars={"one": {"host": "one"}},
        extra_vars={"b": "entry"},
        extra_vars_files=(bench.root / "more.yml",),
        inventory=(bench.root / "more.ini",),
        env={"SAID": "this"},
    )
    bench.machine("one", item)
    bench.run()
    assert json.loads((place / "one").read_text()) == {
        "a": "file", "b": "entry", "group": "servers", "host": "one", "extra": "yes", "env": "this",
    }  # fmt: skip
    (bench.root / "more.yml").write_text("a: changed\nb: file\n")
    assert bench.needs("one") == ["site"]


def test_several_playbooks_are_one_run_and_raw_arguments_forks_and_strategy_arrive(bench: Bench, place: Path) -> None:
    first = tell(bench, place, "lookup('config', 'DEFAULT_STRATEGY') ~ ansible_forks")
    second = bench.write(
        "second.yml", TELL.format(hosts="all", place=f"{place}/2-", expression="raw").replace("/{{", "{{")
    )

    item = structs.replace(
        first, further_playbooks=(second,), forks=3, strategy="free", raw_arguments=("--flush-cache", "-eraw=given")
    )
    bench.machine("one", item)
    summary = bench.run()
    assert summary.machines["one"].counts.changed == 2
    assert ((place / "one").read_text(), (place / "2-one").read_text()) == ("free3", "given")
    second.write_text("- hosts: [\n")
    with pytest.raises(ProvisionFailed, match=r"could not run second.yml"):
        bench.run()
    assert bench.needs("one") == ["site"]


def test_limit_narrows_and_a_machine_outside_it_is_done_with(bench: Bench, place: Path) -> None:
    item = tell(bench, place, "1", limit="webservers:!two", groups={"webservers": ("one", "two")})
    for name in ("one", "two", "three"):
        bench.machine(name, item)
    bench.run()
    assert [path.name for path in place.iterdir()] == ["one"]
    assert bench.needs("three") == []
    bench.run("three", force=True)
    assert Notice(machine="three", text="site.yml has no play for it") in bench.events
    bench.machine("one", tell(bench, place, "1", limit="webserver"))
    with pytest.raises(ProvisionFailed, match="could not run"):
        bench.run("one")


def test_start_at_task_and_python_interpreter(bench: Bench, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_PYTHON_INTERPRETER", "/no/such/python")
    text = "- hosts: all\n  gather_facts: false\n  tasks: [{name: bad, fail: {}}, {name: good, ping: {}}]\n"
    bench.machine("one", bench.playbook(text, start_at_task="good", python_interpreter=sys.executable))
    assert bench.run().machines["one"].counts.ok == 1


def test_check_changes_and_records_nothing_and_diff_shows_what_would(bench: Bench, place: Path) -> None:
    (place / "one").write_text("old\n")
    bench.machine("one", tell(bench, place, "'new'"))
    summary = bench.run(mode=Mode(check=True, diff=True))
    assert summary.changed
    assert "-old" in bench.printed
    assert "+new" in bench.printed
    assert (place / "one").read_text() == "old\n"
    assert bench.needs("one") == ["site"]


def test_a_config_file_and_a_command_of_ones_own(bench: Bench, place: Path) -> None:
    config = bench.write("conf/own.cfg", "[defaults]\nforks = 7\nroles_path = roles-here\n")
    bench.write("conf/roles-here/mine/tasks/main.yml", "- ping:\n")
    wrapper = bench.write(
        "tools/play", f'#!/bin/sh\ntouch "{place}/wrapped"\nexec {settings.playbook_program()} "$@"\n'
    )
    wrapper.chmod(0o755)
    text = "- {hosts: all, gather_facts: false, roles: [mine]}\n"
    bench.machine("one", bench.playbook(text, config_file=config, playbook_command="tools/play"))
    assert bench.run().machines["one"].counts.ok == 1
    assert (place / "wrapped").exists()
    bench.machine("one", bench.playbook(text, playbook_command="./nothing"))
    with pytest.raises(process.ProgramMissing, match=r"there is no program .*nothing"):
        bench.run(force=True)


def test_vaults_open_with_files_programs_and_by_id(bench: Bench, place: Path) -> None:
    first = bench.write("first", "correct-horse\n")
    second = bench.write("second", "#!/bin/sh\necho battery-staple\n")
    second.chmod(0o755)
    bench.write("group_vars/all/a.yml", vaulted(bench, "a: one\n", first, "dev"))
    bench.write("group_vars/all/b.yml", vaulted(bench, "b: two\n", second, "prod"))
    item = tell(bench, place, "a ~ b", vault={"dev": first, "prod": second})
    bench.machine("one", item)
    bench.run()
    assert (place / "one").read_text() == "onetwo"
    bench.machine("one", tell(bench, place, "a ~ b", vault={"dev": second}))
    with pytest.raises(ProvisionFailed) as caught:
        bench.run(force=True)
    assert "Decryption failed" in caught.value.details
    bench.machine("one", tell(bench, place, "a ~ b", vault={"dev": bench.root / "gone"}))
    with pytest.raises(UsageError, match=r"there is no vault password file .*gone"):
        bench.run(force=True)


SUDO = """\
#!/bin/sh
until [ "$1" = -p ]; do shift; done
printf %s "$2"
read -r word
echo "$word" > "$0.word"
shift 4
exec "$@"
"""


def test_passwords_are_asked_for_once_and_told_without_a_trace(
    bench: Bench, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = bench.write("password", "correct-horse\n")
    bench.write("group_vars/all.yml", vaulted(bench, "a: open\n", file))
    sudo = place.parent / "sudo"
    sudo.write_text(SUDO)
    sudo.chmod(0o755)
    monkeypatch.setenv("ANSIBLE_BECOME_EXE", str(sudo))
    text = TELL.format(hosts="all", place=place, expression="a") + (
        f"    - shell: \"cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\\\0' ' ' > {place}/seen; true\"\n"
        "      become_user: somebody\n"
    )
    item = bench.playbook(text, vault={"default": None}, ask_become_pass=True, become=True)
    bench.machine("one", item)
    with pytest.raises(UsageError) as caught:
        bench.run()
    assert "asks for the password of the vault 'default', and there is no terminal" in caught.value.brief
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return "correct-horse" if "vault" in prompt else "battery-staple"

    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda _self: True})())
    monkeypatch.setattr("getpass.getpass", answer)
    bench.run()
    assert len(asked) == 2
    assert (place / "one").read_text() == "open"
    seen = (place / "seen").read_text(errors="replace")
    assert "ansible-playbook" in seen
    assert "correct-horse" not in seen
    assert "battery-staple" not in seen
    assert (place.parent / "sudo.word").read_text() == "battery-staple\n"


def test_a_playbook_that_asks_for_variables_is_ended(bench: Bench) -> None:
    text = "- hosts: all\n  gather_facts: false\n  vars_prompt: [{name: colour}]\n  tasks: [{ping: {}}]\n"
    bench.machine("one", bench.playbook(text))
    with pytest.raises(ProvisionFailed, match="asks for the variable 'colour'") as caught:
        bench.run()
    assert caught.value.hint == "write it in the Vmfile, under `extra_vars:`"
    bench.machine("one", bench.playbook(text, extra_vars={"colour": "red"}))
    assert bench.run().machines["one"].counts.ok == 1


REQUIREMENTS = """\
roles:
  - src: ./parts/role
    name: mine
  - {src: ./parts/packed.tar.gz, name: packed}
collections:
  - ./parts/collection
"""
USES_THEM = """\
- hosts: all
  gather_facts: false
  roles: [mine, packed]
  tasks: [{ours.things.note: {path: "%s/note"}}]
"""
MODULE = """\
#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({"path": {"type": "path"}})
open(module.params["path"], "w").close()
module.exit_json(changed=True)
"""


def test_roles_and_collections_are_installed_for_the_project_without_a_network(bench: Bench, place: Path) -> None:
    bench.write("parts/role/tasks/main.yml", f"- file: {{path: {place}/role, state: touch}}\n")
    bench.write("packed/tasks/main.yml", f"- file: {{path: {place}/packed, state: touch}}\n")
    bench.write("packed/meta/main.yml", "galaxy_info: {author: us, description: d, license: MIT}\n")
    process.run(["tar", "-czf", bench.root / "parts/packed.tar.gz", "-C", bench.root, "packed"])
    galaxy = "namespace: ours\nname: things\nversion: 1.0.0\nreadme: README.md\nauthors: [us]\n"
    bench.write("parts/collection/galaxy.yml", galaxy)
    bench.write("parts/collection/README.md", "")
    bench.write("parts/collection/plugins/modules/note.py", MODULE)
    requirements = bench.write("ops/requirements.yml", REQUIREMENTS.replace("./parts", "../parts"))
    bench.machine("one", bench.playbook(USES_THEM % place, requirements=requirements))
    bench.run()
    assert {path.name for path in place.iterdir()} == {"role", "packed", "note"}
    assert "installed 2 roles and 1 collections of requirements.yml" in bench.reported
    bench.run(force=True)
    assert "installed" not in bench.reported
    bench.write("parts/role/tasks/main.yml", f"- file: {{path: {place}/new, state: touch}}\n")
    assert bench.needs("one") == ["site"]
    bench.run()
    assert (place / "new").exists()
    assert len([path for path in bench.layout.galaxy.iterdir() if path.is_dir()]) == 1  # the old state is gone
    bench.write("ops/requirements.yml", "collections: [{name: ../parts/nothing, type: dir}]\n")
    with pytest.raises(ProvisionFailed, match=r"the collections of .*requirements.yml could not be installed"):
        bench.run()


def test_a_playbook_runs_inside_the_guest_with_what_vmctl_brings(bench: Bench, place: Path) -> None:
    password = bench.write("password", "correct-horse\n")
    bench.write("group_vars/webservers.yml", "a: grouped\n")
    bench.write("roles/mine/tasks/main.yml", f'- copy: {{dest: "{place}/role", content: "{{{{ a }}}}{{{{ b }}}}"}}\n')
    text = "- {hosts: all, gather_facts: false, roles: [mine]}\n"
    options: dict[str, Any] = {
        "mode": "guest", "groups": {"webservers": ("one",)}, "extra_vars": {"b": "secret-extra"},
        "python_interpreter": "/usr/bin/python3", "install": "bundle", "vault": {"default": password},
    }  # fmt: skip
    bench.machine("one", bench.playbook(text, **options))
    summary = bench.run()
    assert (place / "role").read_text() == "groupedsecret-extra"
    assert summary.machines["one"].counts.changed == 1
    assert "bringing ansible-" in "".join(event.text for event in bench.events if isinstance(event, Notice))
    assert not bench.server.left
    bench.write("roles/mine/tasks/main.yml", "- name: break\n  command: 'false'\n")
    assert bench.needs("one") == ["site"]
    with pytest.raises(ProvisionFailed) as caught:
        bench.run()
    assert caught.value.brief.startswith("one: task 'mine : break' failed at ")
    assert caught.value.brief.endswith("roles/mine/tasks/main.yml:1 (provisioner 'site')")
    bench.write("site.yml", "- hosts: all\n  roles: [none_such]\n")
    with pytest.raises(ProvisionFailed) as caught:
        bench.run()
    assert "none_such" in caught.value.details
