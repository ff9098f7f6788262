from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.provision_bench import Bench
from tests.unit.openssh_server import Sshd, sshd
from vmctl.errors import ProvisionFailed, Unreachable, UsageError
from vmctl.events import Notice, Progress, StepDone
from vmctl.provision import Status
from vmctl.provision.failure import MachinesUnreachable, TasksFailed

__all__ = ["sshd"]

pytestmark = pytest.mark.integration

TWO_TASKS = """\
- hosts: all
  gather_facts: false
  tasks:
    - name: write
      ansible.builtin.copy: {{dest: "{place}/{{{{ inventory_hostname }}}}", content: "text"}}
    - name: look
      ansible.builtin.command: "true"
      changed_when: false
"""
ONE_FAILS = """\
- hosts: all
  gather_facts: false
  tasks:
    - name: fine
      ansible.builtin.command: "true"
      changed_when: false
    - name: break it
      ansible.builtin.shell: "echo some words; exit 3"
      when: inventory_hostname == 'two'
    - name: after
      ansible.builtin.command: "true"
      changed_when: false
"""


@pytest.fixture
def bench(tmp_path: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> Bench:
    # This host stands for the guest; a developer's host may have anything called python3 in its PATH.
    monkeypatch.setenv("ANSIBLE_PYTHON_INTERPRETER", sys.executable)
    root = tmp_path / "a project {{ x }} 100%"  # paths go through Jinja2, INI, YAML, shells and OpenSSH
    root.mkdir()
    return Bench(root, sshd)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where playbooks leave things in the guest, which is this host."""
    directory = tmp_path / "guest"
    directory.mkdir()
    return directory


def test_a_changed_and_an_unchanged_task_are_counted_and_recorded(bench: Bench, place: Path) -> None:
    bench.machine("one", bench.playbook(TWO_TASKS.format(place=place)))
    summary = bench.run()
    assert (place / "one").read_text() == "text"
    assert summary.as_object()["machines"]["one"] == {
        "status": "done", "ok": 2, "changed": 1, "failed": 0, "unreachable": 0, "skipped": 0,
        "ran": ["site"], "failed_provisioner": None, "failure": None, "not_attempted": [], "not_checked": [],
        "changed_tasks": [f"write ({bench.root / 'site.yml'}:4)"],
    }  # fmt: skip
    assert bench.needs("one") == []
    assert bench.leftovers == []


def test_a_second_run_changes_nothing(bench: Bench, place: Path) -> None:
    bench.machine("one", bench.playbook(TWO_TASKS.format(place=place)))
    bench.run()
    summary = bench.run(force=True)
    assert (summary.machines["one"].counts.ok, summary.changed) == (2, False)


def test_one_run_covers_all_machines(bench: Bench, place: Path) -> None:
    item = bench.playbook(TWO_TASKS.format(place=place))
    for name in ("one", "two", "three"):
        bench.machine(name, item)
    summary = bench.run()
    assert {name: result.counts.changed for name, result in summary.machines.items()} == dict.fromkeys(
        ("one", "two", "three"), 1
    )
    assert bench.printed.count("PLAY RECAP") == 1


def test_what_happens_is_told_as_it_happens(bench: Bench, place: Path) -> None:
    bench.machine("one", bench.playbook(TWO_TASKS.format(place=place)))
    bench.run()
    assert "changed: [one]" in bench.printed
    assert "\x1b" not in bench.printed
    assert [event.done for event in bench.events if isinstance(event, Progress)] == [1, 2]
    assert [event.text for event in bench.events if isinstance(event, StepDone)] == ["site: one 2 ok, 1 changed"]


def test_colours_come_where_they_are_wanted(bench: Bench, place: Path) -> None:
    bench.machine("one", bench.playbook(TWO_TASKS.format(place=place)))
    bench.run(color=True)
    assert "\x1b[0;33mchanged: [one]\x1b[0m" in bench.printed


def test_a_failed_machine_is_named_and_not_recorded_and_the_other_is(bench: Bench) -> None:
    item = bench.playbook(ONE_FAILS)
    bench.machine("one", item)
    bench.machine("two", item)
    with pytest.raises(ProvisionFailed) as caught:
        bench.run()
    assert caught.value.brief == f"two: task 'break it' failed at {item.playbook}:7 (provisioner 'site')"
    assert caught.value.details == "non-zero return code\nsome words"
    assert caught.value.hint == "correct it, then: vmctl up two"
    assert isinstance(caught.value, TasksFailed)
    assert {name: result.status for name, result in caught.value.summary.machines.items()} == {
        "one": Status.DONE, "two": Status.FAILED,
    }  # fmt: skip
    assert (bench.needs("one"), bench.needs("two")) == ([], ["site"])
    assert caught.value.summary.as_object()["machines"]["two"]["failure"] == {
        "brief": caught.value.brief, "task": "break it", "place": f"{item.playbook}:7",
        "message": "non-zero return code\nsome words",
    }  # fmt: skip


def test_after_a_failure_a_machine_gets_nothing_further_and_others_do(bench: Bench, place: Path) -> None:
    first = bench.playbook(ONE_FAILS, "first.yml")
    second = bench.playbook(TWO_TASKS.format(place=place), "second.yml")
    bench.machine("one", first, second)
    bench.machine("two", first, second)
    with pytest.raises(TasksFailed) as caught:
        bench.run()
    assert caught.value.summary.machines["two"].not_attempted == ["second"]
    assert [path.name for path in place.iterdir()] == ["one"]
    assert (bench.needs("one"), bench.needs("two")) == ([], ["first", "second"])


def test_an_unreachable_machine_is_exit_5_and_the_others_are_done(bench: Bench, place: Path) -> None:
    item = bench.playbook(TWO_TASKS.format(place=place))
    bench.machine("one", item)
    bench.machine("two", item, answers=False)
    with pytest.raises(Unreachable) as caught:
        bench.run()
    assert isinstance(caught.value, MachinesUnreachable)
    assert caught.value.brief == "two: Ansible could not reach it (provisioner 'site')"
    assert "Connection refused" in caught.value.details
    assert (bench.needs("one"), bench.needs("two")) == ([], ["site"])


def test_a_wrong_host_key_is_refused(bench: Bench, place: Path) -> None:
    target = bench.machine("one", bench.playbook(TWO_TASKS.format(place=place)))
    shutil.copy(bench.server.root / "id_ed25519.pub", bench.logins[target.name].known_hosts)
    key = bench.logins[target.name].known_hosts.read_text()
    bench.logins[target.name].known_hosts.write_text(f"one {key}")
    with pytest.raises(Unreachable, match="could not reach it"):
        bench.run()
    assert not (place / "one").exists()


def test_a_playbook_that_does_not_parse_is_a_failure(bench: Bench) -> None:
    bench.machine("one", bench.playbook("- hosts: all\n  tasks:\n  - name: [\n"))
    with pytest.raises(ProvisionFailed) as caught:
        bench.run()
    assert caught.value.brief == "provisioner 'site': ansible-playbook could not run site.yml"
    assert "YAML" in caught.value.details
    assert bench.needs("one") == ["site"]


def test_a_missing_role_is_a_failure_that_names_it(bench: Bench) -> None:
    bench.machine("one", bench.playbook("- hosts: all\n  roles: [no_such_role]\n"))
    with pytest.raises(ProvisionFailed) as caught:
        bench.run()
    assert "no_such_role" in caught.value.details


def test_a_playbook_for_nobody_is_a_failure(bench: Bench) -> None:
    text = "- hosts: webservers\n  gather_facts: false\n  tasks: [{command: 'true'}]\n"
    bench.machine("one", bench.playbook(text, groups={"dbservers": ("one",)}))
    with pytest.raises(ProvisionFailed) as caught:
        bench.run()
    assert caught.value.brief == "provisioner 'site': no play of site.yml matches any machine"
    assert "all, dbservers" in caught.value.details
    assert bench.needs("one") == ["site"]


def test_a_playbook_for_others_only_is_done_with(bench: Bench) -> None:
    text = "- hosts: webservers\n  gather_facts: false\n  tasks: [{command: 'true'}]\n"
    item = bench.playbook(text, groups={"webservers": ("one",)})
    bench.machine("one", item)
    bench.machine("two", item)
    bench.run("two")
    assert Notice(machine="two", text="site.yml has no play for it") in bench.events
    assert (bench.needs("one"), bench.needs("two")) == (["site"], [])


def test_when_a_play_fails_altogether_the_machines_of_later_plays_are_not_done(bench: Bench) -> None:
    text = """\
- hosts: one
  gather_facts: false
  tasks: [{command: 'false'}]
- hosts: two
  gather_facts: false
  tasks: [{command: 'true'}]
"""
    item = bench.playbook(text)
    bench.machine("one", item)
    bench.machine("two", item)
    with pytest.raises(ProvisionFailed) as caught:
        bench.run()
    assert "Ansible gave up after failures on one" in caught.value.details
    assert (bench.needs("one"), bench.needs("two")) == (["site"], ["site"])


def test_ignored_and_rescued_failures_are_none(bench: Bench) -> None:
    text = """\
- hosts: all
  gather_facts: false
  tasks:
    - command: 'false'
      ignore_errors: true
    - block: [{command: 'false'}]
      rescue: [{command: 'true'}]
"""
    bench.machine("one", bench.playbook(text))
    assert bench.run().machines["one"].status is Status.DONE


def test_plays_on_localhost_run_and_their_failure_counts(bench: Bench, place: Path) -> None:
    good = f"- hosts: localhost\n  gather_facts: false\n  tasks: [{{file: {{path: {place}/here, state: touch}}}}]\n"
    bench.machine("one", bench.playbook(good))
    bench.run()
    assert (place / "here").exists()
    bench.machine("one", bench.playbook("- hosts: localhost\n  gather_facts: false\n  tasks: [{command: 'false'}]\n"))
    with pytest.raises(ProvisionFailed) as caught:
        bench.run()
    assert caught.value.brief == "provisioner 'site' failed on localhost"
    assert bench.needs("one") == ["site"]


NASTY = {
    "quotes": 'it\'s "quoted" \\ $HOME `id` #no',
    "lines": "one\n two\n\nfour\n",
    "unicode": "żółć 🐧",
    "number": 8080,
    "float": 0.5,
    "truth": False,
    "nothing": None,
    "list": [1, {"a": ["b"]}],
    "map": {"key with space": {"x: y": "- z"}},
    "like_yaml": "{a: b}",
    "empty": "",
}


def test_extra_vars_arrive_exactly_and_never_on_a_command_line(bench: Bench, place: Path) -> None:
    text = f"""\
- hosts: all
  gather_facts: false
  tasks:
    - copy: {{dest: "{place}/vars.json", content: "{{{{ nasty | to_json }}}}"}}
    - shell: "cat /proc/[0-9]*/cmdline | tr '\\\\0' ' ' > {place}/cmdlines"
      changed_when: false
"""
    bench.machine("one", bench.playbook(text, extra_vars={"nasty": NASTY, "password": "correct-horse-battery"}))
    bench.run()
    import json

    assert json.loads((place / "vars.json").read_text()) == NASTY
    seen = (place / "cmdlines").read_text(errors="replace")
    assert "ansible-playbook" in seen
    assert "correct-horse-battery" not in seen


def test_groups_tags_and_become_reach_ansible(bench: Bench, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"""\
- hosts: all
  gather_facts: false
  tasks:
    - copy: {{dest: "{place}/{{{{ inventory_hostname }}}}", content: "{{{{ group_names | sort | join(',') }}}}"}}
      tags: wanted
    - fail: {{msg: "not wanted"}}
      tags: [unwanted]
    - fail: {{msg: "not tagged"}}
    - raw: 'echo "$BECAME" > {place}/became'
      become_user: somebody
      tags: [wanted]
"""
    sudo = place.parent / "sudo"
    sudo.write_text('#!/bin/sh\nuntil [ "$1" = -u ]; do shift; done; BECAME=$2; export BECAME; shift 2; exec "$@"\n')
    sudo.chmod(0o755)
    monkeypatch.setenv("ANSIBLE_BECOME_EXE", str(sudo))
    item = bench.playbook(
        text,
        groups={"webservers": ("web",), "servers": ("webservers", "db"), "starred": ("d*",)},
        tags=("wanted", "unwanted"),
        skip_tags=("unwanted",),
        become=True,
    )
    bench.machine("web-1", item, group="web")
    bench.machine("web-2", item, group="web")
    bench.machine("db", item, group="db")
    bench.run()
    answer = {name: (place / name).read_text() for name in ("web-1", "web-2", "db")}
    assert answer == {
        "web-1": "servers,web,webservers", "web-2": "servers,web,webservers", "db": "servers,starred",
    }  # fmt: skip
    assert (place / "became").read_text() == "somebody\n"


def test_an_input_that_changed_runs_just_its_provisioner_again(bench: Bench, place: Path) -> None:
    first = bench.playbook("- {hosts: all, gather_facts: false, roles: [mine]}\n", "a/first.yml")
    bench.write("a/roles/mine/tasks/main.yml", "- command: 'true'\n")
    second = bench.playbook(TWO_TASKS.format(place=place), "b/second.yml")
    bench.machine("one", first, second)
    bench.run()
    assert bench.needs("one") == []
    bench.write("a/roles/mine/tasks/main.yml", "- command: 'false'\n")
    assert bench.needs("one") == ["first"]


def test_names_choose_provisioners_and_unknown_ones_are_refused(bench: Bench, place: Path) -> None:
    item = bench.playbook(TWO_TASKS.format(place=place), run="never")
    bench.machine("one", item)
    assert bench.run().machines == {}
    assert bench.run(only=["site"]).machines["one"].ran == ["site"]
    with pytest.raises(UsageError, match="there is no provisioner 'sit', did you mean 'site'"):
        bench.run(only=["sit"])


def test_the_projects_ansible_cfg_counts(bench: Bench) -> None:
    bench.write("ansible.cfg", "[defaults]\ninventory = nowhere\nforks = 1\nstdout_callback = default\n")
    text = """\
- hosts: all
  gather_facts: false
  tasks: [{assert: {that: "lookup('config', 'DEFAULT_FORKS') == 1"}}]
"""
    bench.machine("one", bench.playbook(text))
    bench.run()


def test_machines_are_checked_and_reused_over_one_connection(bench: Bench, place: Path) -> None:
    text = f"""\
- hosts: all
  gather_facts: false
  tasks:
    - shell: "echo $PPID >> {place}/sessions"
    - shell: "echo $SSH_CONNECTION >> {place}/connections"
    - shell: "echo $SSH_CONNECTION >> {place}/connections"
"""
    bench.machine("one", bench.playbook(text))
    bench.run()
    assert len(set((place / "connections").read_text().splitlines())) == 1


def test_warnings_of_ansible_and_the_users_python_settings_stay_apart(
    bench: Bench, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    bench.machine("one", bench.playbook(TWO_TASKS.format(place=place)))
    assert bench.run().machines["one"].status is Status.DONE


def test_people_can_use_the_inventory(bench: Bench, place: Path) -> None:
    from vmctl import process
    from vmctl.provision.settings import playbook_program

    item = bench.playbook(TWO_TASKS.format(place=place))
    bench.machine("one", item)
    bench.machine("two", item)
    bench.run("one")
    inventory = bench.root / ".vmctl" / "inventory"
    done = process.run([playbook_program(), "-i", inventory, item.playbook], cwd=bench.root, check=False)
    assert done.status == 0, done.stdout + done.stderr
    assert (place / "two").exists()  # by its last known ssh_config


@pytest.fixture(autouse=True)
def no_process_survives() -> Iterator[None]:
    from vmctl.provision import run_directory

    yield
    mine = [entry for entry in Path("/proc").glob("[0-9]*") if _marked(entry)]
    assert mine == [], run_directory.VARIABLE


def _marked(entry: Path) -> bool:
    try:
        return int(entry.name) != os.getpid() and b"VMCTL_RUN=" in (entry / "environ").read_bytes()
    except OSError:
        return False
