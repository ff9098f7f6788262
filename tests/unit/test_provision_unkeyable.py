from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vmctl.provision import playbook_places, playbook_texts, unkeyable
from vmctl.spec import Ansible, File, Provisioner, Reboot, Shell


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "Vmfile").write_text("")
    return tmp_path


def why(item: Provisioner, **options: Any) -> str:
    return unkeyable.why(unkeyable.read(item), **options)


def named(item: Ansible) -> tuple[Path, ...]:
    return playbook_texts.written(item).named


def of(project: Path, text: str, *, is_alone: bool = True, **options: Any) -> str:
    (project / "site.yml").write_text(text)
    item = Ansible(name="site", playbook=project / "site.yml", **options)
    return why(item, folders=("/project",), is_alone=is_alone)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"inline": "true"}, ""),
        ({"inline": "true", "run": "always"}, "run: always"),
        ({"inline": "true", "sensitive": True}, "sensitive"),
        ({"inline": "true", "on": "host"}, "on this host"),
        ({"url": "https://x/y"}, "without a checksum"),
        ({"url": "https://x/y", "checksum": "sha256:00"}, ""),
        ({"inline": "curl -sL https://x | sh"}, "verifies nothing"),
        ({"inline": "curl -O https://x; sha256sum -c sums"}, ""),
        ({"inline": "make -C /project install"}, "shared folder /project"),
        ({"inline": "ls /projects"}, ""),
        ({"inline": "true", "args": ("/project/x",)}, "shared folder /project"),
        ({"inline": "true", "creates": "/project/done"}, "in a shared folder (/project/done)"),
        ({"inline": "pip install -r /project/x", "inputs": ()}, ""),
        ({"inline": "true", "creates": "/project/done", "inputs": ()}, "in a shared folder (/project/done)"),
        ({"inline": "curl x >/project/x", "inputs": ()}, "verifies nothing"),
        ({"inline": "cp /etc/machine-id /etc/x"}, "machine-id"),
        ({"inline": "echo $(uuidgen)"}, "uuidgen"),
        ({"inline": "cat /proc/sys/kernel/random/uuid"}, "random/uuid"),
        ({"inline": "cat /proc/sys/kernel/random/boot_id"}, ""),
        ({"inline": "git clone https://x /y"}, "verifies nothing"),
        ({"inline": "git -C /y pull"}, "verifies nothing"),
        ({"inline": "git clone https://x /y && git -C /y checkout " + 40 * "a"}, ""),
        ({"inline": "apt-get install -y git"}, ""),
    ],
)
def test_scripts(options: dict[str, Any], reason: str) -> None:
    found = why(Shell(name="x", **options), folders=("/project",))
    assert reason in found
    assert bool(found) == bool(reason)


@pytest.mark.parametrize(
    ("text", "folder", "is_used"),
    [
        ("make -C ~/app", "/home/vmctl/app", True),
        ('make -C "$HOME"/app', "/home/vmctl/app", True),
        ("make -C ${HOME}/app/src", "/home/vmctl/app", True),
        ("ls ~root/app", "/root/app", True),
        ("cd app && make", "/home/vmctl/app", True),
        ("./app/install", "/home/vmctl/app", True),
        ("ls /home/$(id -un)/app", "/home/vmctl/app", True),
        ("chdir: /home/{{ user }}/app", "/home/vmctl/app", True),
        ("chdir: {{ base }}/app", "/srv/app", True),
        ("systemctl restart app; ls $X/apps ~/application /opt/app/x; cd /opt/app", "/home/vmctl/app", False),
        ("cd app; ./app/x", "/srv/app", False),
        ("ls {{ base }}/", "/", True),
    ],
)
def test_a_shared_folder_is_known_by_other_names(text: str, folder: str, is_used: bool) -> None:  # noqa: FBT001  a case
    found = why(Shell(name="x", inline=text), folders=(folder,))
    assert (f"shared folder {folder}" in found) is is_used
    assert bool(found) is is_used


def test_a_script_that_is_too_large_to_be_looked_through_has_none(tmp_path: Path) -> None:
    script = tmp_path / "x.sh"
    script.write_text("é" * (playbook_texts.READABLE // 2) + "\ncurl https://x | sh\n")
    assert "x.sh is too large" in why(Shell(name="x", script=script))


def test_files_that_go_into_a_shared_folder_have_none(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "x").write_text("")
    for destination in ("/srv/app/y", "/srv/app", "/srv"):
        assert "shared folder /srv/app" in why(
            File(name="x", source=tmp_path, destination=destination), folders=("/srv/app",)
        )
    assert why(File(name="x", source=tmp_path, destination="/etc"), folders=("/srv/app",)) == ""


def test_files_and_restarts_can_always_be_keyed(tmp_path: Path) -> None:
    assert why(File(name="x", source=tmp_path, destination="/x")) == ""
    assert why(Reboot(name="x")) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- hosts: all\n  tasks: [{apt: {name: nginx}}]\n", ""),
        ("- hosts: all\n  tasks: [{debug: {}, when: ansible_os_family == 'Debian'}]\n", ""),
        ("- hosts: all\n  tasks:\n  - debug:\n    when: ansible_facts['distribution'] == 'Debian'\n", ""),
        ("- {user: {name: x, groups: [sudo]}}\n", ""),
        ("- {file: {src: /a, dest: /b, state: link}}\n", ""),
        ("- {debug: {}, when: ansible_default_ipv4.address != ''}\n", "ansible_default_ipv4"),
        ("- debug:\n  when: ansible_facts['machine_id'] != ''\n", "ansible_machine_id"),
        ('- {debug: {msg: "{{ ansible_date_time.iso8601 }}"}}\n', "ansible_date_time"),
        ("- {debug: {msg: \"{{ lookup('env', 'X') }}\"}}\n", "lookup"),
        ("- {command: x, with_pipe: [date]}\n", "with_"),
        ("- {command: x, with_community.general.passwordstore: [db]}\n", "with_community.general.passwordstore"),
        ("- {command: x, with_csvfile: one file=a.csv}\n", "with_csvfile"),
        ("- {command: x, with_ansible.builtin.items: [a]}\n", ""),
        ("- {command: x, with_dict: {a: 1}}\n", ""),
        ("- {hosts: all, vars: {with_tls: true}}\n", ""),
        ("- {debug: {msg: \"{{ 'conf/*' | fileglob }}\"}}\n", "looks at files"),
        ("- {debug: {msg: \"{{ '$X' | ansible.builtin.expandvars }}\"}}\n", "looks at files"),
        ("- {debug: {msg: \"{{ x | map('realpath') }}\"}}\n", "looks at files"),
        ("- {debug: {}, when: \"'flag' is file\"}\n", "looks at files"),
        ("- {debug: {}, when: \"'flag' is not ansible.builtin.exists\"}\n", "looks at files"),
        ("- {debug: {}, when: \"x | select('exists')\"}\n", "looks at files"),
        ("- name: what there is is file\n", ""),
        ("- {debug: {msg: \"{{ '%Y' | strftime }}\"}}\n", "time"),
        ('- {debug: {msg: "{{ 9 | ansible.builtin.random }}"}}\n', "chance"),
        ('- {debug: {msg: "{{ inventory_dir }}"}}\n', "inventory"),
        ('- {copy: {src: "{{ role_path | dirname }}/x", dest: /x}}\n', "role_path"),
        ('- {copy: {src: "{{ role_path }}/x", dest: /x}}\n', ""),
        ('- {debug: {msg: "{{ ansible_port }}"}}\n', "ansible_port"),
        ('- {debug: {msg: "{{ ansible_host }}"}}\n', "ansible_host"),
        ('- {debug: {msg: "{{ ansible_facts[which] }}"}}\n', "facts"),
        ('- {debug: {msg: "{{ ansible_facts }}"}}\n', "facts"),
        ("- {debug: {msg: \"{{ vars['ansible_' ~ nic] }}\"}}\n", "facts"),
        ('- {debug: {msg: "{{ hostvars[inventory_hostname] | to_json }}"}}\n', "facts"),
        ('- {debug: {msg: "{{ vars | to_json }}"}}\n', "facts"),
        ("- {set_fact: {ansible_facts: {a: 1}}}\n", ""),
        ("- {command: x, delegate_to: localhost}\n", "delegate_to"),
        ("- hosts: localhost\n", "on this host"),
        ("- {get_url: {url: 'https://x', dest: /x}}\n", "checksum"),
        ("- get_url: {url: 'https://x', dest: /x, checksum: 'sha256:0'}\n", ""),
        ("- get_url: {url: u, dest: x, checksum: c}\n- get_url: {url: u, dest: x}\n", "checksum"),
        ("- git: {repo: x, dest: /x}\n", "version"),
        ("- {uri: {url: 'https://x'}}\n", "asks a server (uri)"),
        ("- {uri: {url: 'http://127.0.0.1:80@x/'}}\n", "asks a server (uri)"),
        ("- {uri: {url: 'http://localhost.x/'}}\n", "asks a server (uri)"),
        ("- {uri: {url: '{{ where }}'}}\n", "asks a server (uri)"),
        ("- {uri: {url: 'http://127.0.0.1:{{ port }}/'}, vars: {port: '80@x'}}\n", "asks a server (uri)"),
        ("- {uri: {url: 'http://127.0.0.1:{{ port }}/'}, vars: {port: 80}}\n", ""),
        ("- uri: url=http://localhost/x\n", ""),
        ("- {action: uri url=http://x/}\n", "asks a server (uri)"),
        ("- {action: ansible.builtin.get_url url=https://x dest=/x}\n", "checksum"),
        ("- {action: {module: get_url, url: 'https://x', dest: /x}}\n", "checksum"),
        ("- copy: {src: /home/me/x, dest: /x}\n", "outside"),
        ("- copy: {src: ../../x, dest: /x}\n", "../"),
        ("- copy: {src: /project/x, dest: /x, remote_src: true}\n", "shared folder /project"),
        ("- vars_prompt: []\n", "asks the user"),
        ("- copy: src=/home/me/x dest=/x\n", "outside"),
        ("- copy: src=/opt/x dest=/x remote_src=yes\n", ""),
        ("- {ansible.builtin.copy: {src: ~/x, dest: /x}}\n", "outside"),
        ("- copy:\n  args: {src: /home/me/x, dest: /x}\n", "outside"),
        ("- hosts: all\n  vars_files: [one.yml, /etc/two.yml]\n", "outside"),
        ("- hosts: all\n  vars_files:\n  - one.yml\n  - [two.yml, ~/three.yml]\n", "outside"),
        ("- include_vars: {file: /etc/x.yml}\n", "outside"),
        ("- include_vars: file=/etc/x.yml\n", "outside"),
        ("- hosts: all\n  roles: [{role: /opt/roles/x}]\n", "outside"),
        ("- dependencies: [/opt/roles/x]\n", "outside"),
        ("- script: /opt/x.sh\n", "outside"),
        ("- script: /opt/x.sh creates=/y\n", "outside"),
        ("- script: {cmd: '~/x.sh --all'}\n", "outside"),
        ("- script: x.sh /srv\n", ""),
        ('- {copy: {src: "{{ item }}", dest: /x}, loop: [a, /home/me/a]}\n', "outside"),
        ('- {copy: {src: "{{ item.src }}", dest: /x}, with_items: [{src: /home/me/a, dest: /b}]}\n', "outside"),
        ('- {copy: {src: "{{ item.src }}", dest: "{{ item.dest }}"}, loop: [{src: a, dest: /b}]}\n', ""),
        ('- {copy: {src: "{{ x }}", dest: /x}, loop: [/a], loop_control: {loop_var: x}}\n', "outside"),
        ('- {copy: {src: "{{ app }}/x", dest: /x}, vars: {app: "{{ base }}/app", base: /home/me}}\n', "outside"),
        ('- {copy: {src: "{{ app.here }}", dest: /x}, vars: {app: {here: a, there: /opt}}}\n', ""),
        ('- {copy: {src: "{{ app.here }}", dest: /x}, vars: {app: {here: /a, there: b}}}\n', "outside"),
        ("- {copy: {src: \"{{ app | default('/opt/x') }}\", dest: /x}}\n", "outside"),
        ('- {copy: {src: "{{ a }}", dest: /x}, vars: {a: "{{ b }}", b: "{{ a }}"}}\n', ""),
        ('- {file: {src: "{{ item.src }}", dest: /x, state: link}, loop: [{src: /a}, {src: /b}]}\n', ""),
        ("- hosts: all,localhost\n", "on this host"),
        ("- hosts:\n  - all\n  - localhost\n", "on this host"),
        ("- hosts: 127.0.0.1\n", "on this host"),
        ("- hosts: all:!localhost\n", ""),
        ('- {hosts: "{{ where }}", vars: {where: localhost}}\n', "on this host"),
        ("- {hosts: all, vars: {ansible_connection: local}}\n", "on this host"),
        ("- {hosts: all, 'connection' : 'local'}\n", "on this host"),
        ("- shell: curl -sL https://x | sh\n", "verifies nothing"),
        ("- {ansible.builtin.command: {argv: [wget, 'https://x']}}\n", "verifies nothing"),
        ("- shell: curl -O https://x; sha256sum -c sums\n", ""),
        ("- {apt: {name: [curl, wget, git]}}\n", ""),
        ("- {apt: {deb: 'https://x/y.deb'}}\n", "downloads"),
        ("- command: git clone https://x /y\n", "verifies nothing"),
        ("- shell: uuidgen >/etc/x\n", "uuidgen"),
        ("- get_url: url=https://x dest=/x\n", "checksum"),
        ("- {fetch: {src: /etc/x, dest: x}}\n", "to this host"),
        ("- {slurp: {src: /etc/x}}\n", ""),
        ("- hosts: all\n   vars: x\n", "YAML"),
        ("- hosts: all\n  vars:\n    x: !vault |\n      $ANSIBLE_VAULT;1.1;AES256\n    y: 2020-99-99\n", ""),
    ],
)
def test_playbooks(project: Path, text: str, reason: str) -> None:
    found = of(project, text)
    assert reason in found
    assert bool(found) == bool(reason)


def test_other_machines_matter_where_there_are_some(project: Path) -> None:
    text = "- {debug: {msg: \"{{ hostvars['db'].x }}\"}}\n"
    assert of(project, text) == ""
    assert of(project, text, is_alone=False) == "site.yml depends on other machines"
    assert of(project, "- {user: {name: x, groups: a}}\n", is_alone=False) == ""


@pytest.mark.parametrize(
    "options",
    [
        {"check": True}, {"inventory": (Path("/x"),)}, {"raw_arguments": ("-e", "a=b")}, {"vault": {"a": None}},
        {"ask_become_pass": True},
    ],
)  # fmt: skip
def test_options_that_reach_beyond(project: Path, options: dict[str, Any]) -> None:
    assert of(project, "- hosts: all\n", **options)


@pytest.mark.parametrize(
    ("text", "is_exact"),
    [
        ("collections: [{name: a.b, version: 1.2.3}]", True),
        ("collections: [a.b]", False),
        ("collections: [{name: a.b, version: '>=1.2.3'}]", False),
        ("roles: [{src: 'https://x/y.git', scm: git, version: main}]", False),
        ("roles: [{src: 'https://x/y.git', scm: git, version: v1.0.1}]", True),
        ("roles: [{src: ./mine}]", True),
        ("roles: [{src: ./mine}, {src: 'https://x/y.git', name: ./y}]", False),
        ("roles: [{src: ./mine, scm: git}]", False),
        ("collections: [{name: ./mine, type: dir}]", True),
        ("collections: [{name: ./mine, type: git}]", False),
    ],
)
def test_requirements_need_exact_versions(project: Path, text: str, is_exact: bool) -> None:  # noqa: FBT001  a case
    (project / "mine").mkdir()
    (project / "wanted.yml").write_text(text)
    found = of(project, "- hosts: all\n", requirements=project / "wanted.yml")
    assert (found == "") is is_exact


def test_files_that_words_name_count_wherever_they_are(project: Path) -> None:
    (project / "conf").mkdir()
    (project / "conf" / "app.ini").write_text("x")
    (project / "ops").mkdir()
    (project / "ops" / "site.yml").write_text("- copy: {src: ../conf/app.ini, dest: /x}\n")
    item = Ansible(name="site", playbook=project / "ops" / "site.yml")
    assert why(item) == ""
    assert [path.name for path in named(item)] == ["app.ini"]


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("copy: {src: app, dest: /srv}", {"app/one", "app/more/two"}),
        ("copy: src=app/ dest=/srv", {"app/one", "app/more/two"}),
        ('copy: {src: "{{ name }}/", dest: /srv}', {"app/one", "app/more/two"}),
        ('copy: {src: "{{ item }}/one", dest: /srv}, loop: [app]', {"app/one"}),
        ('copy: {src: "app/{{ ansible_os_family }}", dest: /srv}', {"app/one", "app/more/two"}),
        ('copy: {src: "a{{ ansible_os_family }}/", dest: /srv}', {"app/one", "app/more/two"}),
        ('copy: {src: "{{ unknown }}/", dest: /srv}', {"app/one", "app/more/two", "Vmfile", "my notes.txt"}),
        ('copy: {src: "{{ unknown }}/two", dest: /srv}', {"app/more/two"}),
        ('include_vars: "{{ unknown }}.yml"', set[str]()),
        ('include_vars: "{{ unknown }}.txt"', {"my notes.txt"}),
        ('copy: {src: "{{ unknown }}/more/", dest: /srv}', {"app/more/two"}),
        ("copy: {src: my notes.txt, dest: /srv}", {"my notes.txt"}),
        ("copy: {src: ., dest: /srv}", {"app/one", "app/more/two", "Vmfile", "my notes.txt"}),
        ("copy: src=./ dest=/srv", {"app/one", "app/more/two", "Vmfile", "my notes.txt"}),
        ("script: app/one --all", {"app/one"}),
        ('copy: {src: "{{ unknown }}", dest: /srv, remote_src: true}', set[str]()),
    ],
)
def test_what_the_words_and_expressions_of_a_playbook_name_counts(
    project: Path, task: str, expected: set[str]
) -> None:  # fmt: skip
    for name in ("app/one", "app/more/two", "my notes.txt"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x")
    (project / "site.yml").write_text(f"- hosts: all\n  vars: {{name: app}}\n  tasks:\n  - {{{task}}}\n")
    found = named(Ansible(name="site", playbook=project / "site.yml"))
    assert {str(path.relative_to(project)) for path in found} == expected


def test_the_directory_around_a_playbook_counts_where_it_is_put_into_the_guest(project: Path) -> None:
    for name in (".git/HEAD", ".git/index", ".git/refs/heads/main", ".vmctl/claim", "app/node_modules/x", "ops/y.txt"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x")
    (project / "app" / "empty").mkdir()
    for source in ("../", "..", "../../" + project.name):
        (project / "ops" / "site.yml").write_text(f"- ansible.posix.synchronize: {{src: {source}, dest: /srv}}\n")
        item = Ansible(name="site", playbook=project / "ops" / "site.yml")
        assert why(item) == ""
        assert {str(path.resolve().relative_to(project)) for path in named(item)} == {
            "Vmfile", "app/node_modules/x", "app/empty", "ops/site.yml", "ops/y.txt", ".git/HEAD",
            ".git/refs/heads/main",
        }  # fmt: skip


def test_a_directory_that_is_too_large_ends_the_chain(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playbook_places, "MOST_WALKED", 1)
    (project / "one").write_text("")
    assert "very many files" in of(project, "- {copy: {src: ., dest: /x}}\n")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"site.yml": "- template: {src: conf/a.j2}\n", "conf/a.j2": "{% include 'b' %}", "conf/b": ""}, {"a.j2", "b"}),
        ({"site.yml": "- template: {src: conf/a.j2}\n", "conf/a.j2": "{%- extends x %}", "conf/b": ""}, {"a.j2", "b"}),
        ({"site.yml": "- copy: {content: \"{% include 'motd' %}\", dest: /x}\n", "motd": ""}, {"motd"}),
        ({"site": "- hosts: all\n  tasks: [{copy: {src: app, dest: /x}}]\n", "app": ""}, {"app"}),
        ({"site.json": '[{"copy": {"src": "app", "dest": "/x"}}]', "app": ""}, {"app"}),
        ({"site.yml": "- include_tasks: sub/one\n", "sub/one": "- copy: {src: a}\n", "sub/a": ""}, {"one", "a"}),
        ({"site.yml": "- include_tasks: sub/a.yml\n", "sub/a.yml": "- copy: {src: b}\n", "sub/files/b": ""},
         {"a.yml", "b"}),
        ({"site.yml": "- include_tasks: sub/a.yml\n", "sub/a.yml": '- copy: {src: "b{{ x }}"}\n', "sub/bc": ""},
         {"a.yml", "bc"}),
        ({"site.yml": "- include_tasks: sub/tasks/a.yml\n", "sub/tasks/a.yml": "- template: {src: b}\n",
          "sub/templates/b": ""}, {"a.yml", "b"}),
        ({"site.yml": "- import_playbook: ../{root}/sub/b.yml\n", "sub/b.yml": "[]\n", "sub/roles/a/x": "",
          "sub/group_vars/y": "", "sub/library/z": "", "sub/other/u": ""}, {"b.yml", "x", "y", "z"}),
        ({"site.yml": "- roles: [app]\n", "roles/app/meta/main.yml": "dependencies: [base]\n", "base/x": ""}, {"x"}),
    ],
)  # fmt: skip
def test_files_are_found_wherever_ansible_looks_for_them(
    tmp_path: Path, texts: dict[str, str], expected: set[str]
) -> None:
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text.replace("{root}", tmp_path.name))
    item = Ansible(name="site", playbook=tmp_path / next(iter(texts)))
    assert {path.name for path in named(item)} == expected


def test_files_that_are_read_as_yaml_are_looked_through_whatever_they_are_called(project: Path) -> None:
    (project / "settings").write_text("app: /home/me\n")
    (project / "further.inc").write_text("- shell: uuidgen\n")
    assert "outside" in of(project, '- vars_files: [settings]\n  tasks: [{copy: {src: "{{ app }}/x", dest: /x}}]\n')
    assert "further.inc uses what differs" in of(project, "- include_tasks: further.inc\n")
    (project / "conf").write_text("{{ lookup('env', 'HOME') }}\n")
    assert "conf looks up" in of(project, "- template: {src: conf, dest: /x}\n")
    assert of(project, "- copy: {src: conf, dest: /x}\n") == ""
    (project / "files").mkdir()
    (project / "conf").rename(project / "files" / "conf")
    both = "- copy: {src: files/conf, dest: /x}\n- copy: {src: files, dest: /x}\n"
    assert of(project, both) == ""
    assert "conf looks up" in of(project, f"{both}- template: {{src: files/conf, dest: /x}}\n")


def test_expressions_that_may_name_too_many_files_end_the_chain(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(playbook_places, "MOST_FILES", 1)
    (project / "one").write_text("")
    assert "very many files" in of(project, '- {copy: {src: "{{ x }}", dest: /x}}\n')


def test_what_is_included_from_elsewhere_is_looked_through(project: Path) -> None:
    (project / "ops").mkdir()
    (project / "common").mkdir()
    (project / "ops" / "site.yml").write_text("- hosts: all\n  tasks:\n  - import_tasks: ../common/one.yml\n")
    (project / "common" / "one.yml").write_text("- include_tasks: ../common/two.yml\n")
    (project / "common" / "two.yml").write_text("- script: run\n")
    (project / "common" / "run").write_text("#!/bin/sh\n")
    item = Ansible(name="site", playbook=project / "ops" / "site.yml")
    assert why(item) == ""
    assert {path.name for path in named(item)} == {"one.yml", "two.yml", "run"}
    (project / "common" / "run").write_text("#!/bin/sh\ncurl https://x | sh\n")
    assert "run downloads something" in why(item)


def test_files_of_variables_without_an_ending_are_looked_through(project: Path) -> None:
    (project / "group_vars").mkdir()
    (project / "group_vars" / "all").write_text("app: /home/me\n")
    assert "outside" in of(project, '- {copy: {src: "{{ app }}/x", dest: /x}}\n')


@pytest.mark.parametrize("place", ["roles", "collection"])
def test_roles_of_the_search_paths_are_looked_through_where_they_are_used(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setenv("ANSIBLE_ROLES_PATH", str(elsewhere / "roles"))
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(elsewhere))
    ours = {"roles": "roles/web", "collection": "ansible_collections/my/own/roles/web"}[place]
    for role, text in ((ours, "- shell: uuidgen\n"), ("roles/other", "- shell: hostid\n")):
        (elsewhere / role / "tasks").mkdir(parents=True)
        (elsewhere / role / "tasks" / "main.yml").write_text(text)
    name = {"roles": "web", "collection": "my.own.web"}[place]
    assert "uuidgen" in of(project, f"- hosts: all\n  roles: [{name}]\n")
    assert "uuidgen" in of(project, f"- hosts: all\n  tasks: [{{include_role: {{name: {name}}}}}]\n")
    assert of(project, "- hosts: all\n") == ""
    assert of(project, '- hosts: all\n  tasks: [{include_role: {name: "{{ which }}"}}]\n')
