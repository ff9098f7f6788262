"""What `vmctl plan` tells before anything is done."""

import pytest

from tests.cli.harness import Project

TEXT = """\
cpus: 2
memory: 1GiB
ports: ["8080:80"]
networks: [lan]
synced_folders: [{host: ., guest: /project, type: rsync}]
provision:
  - {name: one, shell: {inline: 'true', become: false}}
  - {name: always, shell: {inline: 'true', become: false}, run: always}
  - {name: never, shell: {inline: 'true', become: false}, run: never}
machines: {web: {}}
"""


def test_a_machine_to_be_made_is_told_with_all_that_it_will_be(project: Project) -> None:
    project.vmfile(TEXT)
    lines = project.vmctl("plan").out.splitlines()
    assert lines[0] == "web: create"
    assert lines[1:4] == [
        "  box: tiny",
        "  provider: fakeguests (2 cpus, 1GiB)",
        "  port: 127.0.0.1:8080:80/tcp",
    ]
    assert lines[4].startswith("  network: lan ")
    assert lines[5:] == [
        f"  folder: {project.root}:/project rsync",
        "  no layers: its box is not one that vmctl seeds itself (`vmctl box list -i`)",
        "  provision: one, always",
    ]
    (row,) = project.vmctl("plan", "--json").answer["machines"]
    assert (row["action"], row["provider"], row["provisioners"]) == ("create", "fakeguests", ["one", "always"])
    assert row["machine"]["memory"] == 2**30
    assert row["machine"]["ports"] == ["127.0.0.1:8080:80/tcp"]


def test_a_machine_that_is_up_is_told_with_what_would_run(project: Project) -> None:
    project.vmfile("provision: [{name: one, shell: {inline: 'true', become: false}}]\n")
    project.vmctl("up")
    assert project.vmctl("plan").out == "default: nothing\n"
    project.vmfile("provision: [{name: one, shell: {inline: 'false', become: false}}]\n")
    assert project.vmctl("plan").out == "default: provision\n  provision: one\n"


def test_a_box_in_place_of_another_is_told(project: Project) -> None:
    text = "box: org/gone@~>4.3\nbox_aliases: {org/gone: tiny}\nprovider: fakeguests\nsynced_folders: []\n"
    (project.root / "Vmfile").write_text(text)
    assert "  box: tiny in place of org/gone@~>4.3" in project.vmctl("plan").out
    shown = "made from tiny in place of org/gone@~>4.3 (box_aliases)"
    assert shown in project.vmctl("up").err
    assert shown not in project.vmctl("up").err, "only where a machine is made"
    assert project.vmctl("config").out.count("tiny") == 1
    project.vmctl("box", "lock")
    assert '"tiny"' in (project.root / "Vmfile.lock").read_text()


def test_changes_are_told_as_the_vmfile_writes_them(project: Project) -> None:
    project.vmfile("memory: 512MiB\nports: ['8080:80', '8443:443']\nnetworks: [lan]\n")
    project.vmctl("up")
    project.vmfile(
        "memory: 640MiB\ndisk: 20GiB\nports: ['8081:80', '8443:443']\nnetworks: [lan]\nfakeguests: {color: red}\n"
        "provision: [{name: one, shell: {inline: 'true', become: false}}]\n"
    )
    assert project.vmctl("plan").out.splitlines() == [
        "default: provision",
        "  memory: 512MiB → 640MiB (needs reload)",
        "  disk: not set → 20GiB (needs reload)",
        "  ports (needs reload):",
        "    - 127.0.0.1:8080:80/tcp",
        "    + 127.0.0.1:8081:80/tcp",
        "  fakeguests.color: not set → red (needs reload)",
        "  provision: one",
    ]
    told = "memory, disk, ports, fakeguests.color changed in the Vmfile: `vmctl reload default` applies it"
    assert told in project.vmctl("up").err
    project.vmfile("memory: 512MiB\nports: ['8443:443', '8080:80']\nnetworks: [lan]\n")
    assert "  ports (needs reload):\n    in another order\n" in project.vmctl("plan").out


def test_why_auto_passed_a_provider_over_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "first usable; libvirt: libvirtd does not run"
    monkeypatch.setattr("vmctl.registry._first_usable", lambda _: ("fakeguests", reason))
    (project.root / "Vmfile").write_text("box: tiny\nsynced_folders: []\n")
    assert f"  provider: fakeguests (2 cpus, 1GiB)\n  why: {reason}\n" in project.vmctl("plan").out
    assert project.vmctl("plan", "--json").answer["machines"][0]["provider_reason"] == reason
    project.vmctl("up")
    assert "why:" not in project.vmctl("plan").out, "it exists there"
