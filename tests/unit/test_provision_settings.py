from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vmctl.provision import settings


@pytest.fixture(autouse=True)
def nobody_has_said_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*settings.DEFAULTS, "ANSIBLE_FORKS", "ANSIBLE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def told(directory: Path, *, hosts: int = 1, color: bool = False) -> dict[str, str]:
    return settings.environment(directory, hosts=hosts, color=color, sockets=Path("/s"))


def test_defaults_make_it_quick_and_rules_make_it_safe(tmp_path: Path) -> None:
    found = told(tmp_path)
    assert found["ANSIBLE_PIPELINING"] == "True"
    assert "ControlPersist" in found["ANSIBLE_SSH_ARGS"]
    assert found["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert found["ANSIBLE_SSH_CONTROL_PATH_DIR"] == "/s"


def test_nobody_turns_the_check_of_host_keys_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strict = "-o StrictHostKeyChecking=yes "  # in front, for ssh takes the first value
    assert told(tmp_path)["ANSIBLE_SSH_ARGS"].startswith(strict)
    monkeypatch.setenv("ANSIBLE_SSH_ARGS", "-o StrictHostKeyChecking=no")
    found = told(tmp_path)["ANSIBLE_SSH_ARGS"]
    assert found.startswith(strict)
    assert found.endswith(" -o StrictHostKeyChecking=no")


def test_a_session_of_the_users_own_is_none_of_ansibles(tmp_path: Path) -> None:
    words = told(tmp_path)["ANSIBLE_SSH_ARGS"].split()
    assert {"RemoteCommand=none", "RequestTTY=no", "PermitLocalCommand=no", "StdinNull=no"} <= set(words)


@pytest.mark.parametrize(("hosts", "forks"), [(1, "5"), (12, "12"), (1000, "50")])
def test_forks_follow_the_machines(tmp_path: Path, hosts: int, forks: str) -> None:
    assert told(tmp_path, hosts=hosts)["ANSIBLE_FORKS"] == forks


def test_the_environment_of_the_user_wins_over_defaults_but_not_over_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_FORKS", "2")
    monkeypatch.setenv("ANSIBLE_HOST_KEY_CHECKING", "False")
    found = told(tmp_path)
    assert "ANSIBLE_FORKS" not in found
    assert found["ANSIBLE_HOST_KEY_CHECKING"] == "True"


@pytest.mark.parametrize("place", ["project", "home", "named"])
def test_an_ansible_cfg_wins_over_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    path = {"project": "ansible.cfg", "home": "home/.ansible.cfg", "named": "named.cfg"}[place]
    (tmp_path / "home").mkdir()
    (tmp_path / path).write_text("[defaults]\nforks = 1 ; one\n[ssh_connection]\nssh_args = %(x)s\n")
    if place == "named":
        monkeypatch.setenv("ANSIBLE_CONFIG", str(tmp_path / path))
    found = told(tmp_path)
    assert "ANSIBLE_FORKS" not in found
    assert found["ANSIBLE_SSH_ARGS"].startswith("-o StrictHostKeyChecking=yes ")
    assert found["ANSIBLE_SSH_ARGS"].endswith(" %(x)s")
    assert "ANSIBLE_PIPELINING" in found


def test_an_unreadable_ansible_cfg_is_left_to_ansible(tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").write_text("no section\n")
    assert "ANSIBLE_FORKS" in told(tmp_path)


def test_colours(tmp_path: Path) -> None:
    assert "ANSIBLE_NOCOLOR" in told(tmp_path)
    assert "ANSIBLE_FORCE_COLOR" in told(tmp_path, color=True)


def test_ansible_of_the_own_environment_is_preferred() -> None:
    assert settings.playbook_program() == str(Path(sys.executable).parent / "ansible-playbook")
