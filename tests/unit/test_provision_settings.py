from __future__ import annotations

import locale
import os
import sys
from pathlib import Path

import pytest

from vmctl.provision import settings

LOCALE_VARIABLES = ("LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_NUMERIC")


@pytest.fixture(autouse=True)
def nobody_has_said_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*settings.DEFAULTS, "ANSIBLE_FORKS", "ANSIBLE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def answer(directory: Path, *, hosts: int = 1, color: bool = False) -> dict[str, str]:
    return settings.environment(directory, hosts=hosts, color=color, sockets=Path("/s"))


def test_defaults_make_it_quick_and_rules_make_it_safe(tmp_path: Path) -> None:
    found = answer(tmp_path)
    assert found["ANSIBLE_PIPELINING"] == "True"
    assert "ControlPersist" in found["ANSIBLE_SSH_ARGS"]
    assert found["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert found["ANSIBLE_SSH_CONTROL_PATH_DIR"] == "/s"


def test_nobody_turns_the_check_of_host_keys_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strict = "-o StrictHostKeyChecking=yes "  # in front, for ssh takes the first value
    assert answer(tmp_path)["ANSIBLE_SSH_ARGS"].startswith(strict)
    monkeypatch.setenv("ANSIBLE_SSH_ARGS", "-o StrictHostKeyChecking=no")
    found = answer(tmp_path)["ANSIBLE_SSH_ARGS"]
    assert found.startswith(strict)
    assert found.endswith(" -o StrictHostKeyChecking=no")


def test_a_session_of_the_users_own_is_none_of_ansibles(tmp_path: Path) -> None:
    words = answer(tmp_path)["ANSIBLE_SSH_ARGS"].split()
    assert {"RemoteCommand=none", "RequestTTY=no", "PermitLocalCommand=no", "StdinNull=no"} <= set(words)


@pytest.mark.parametrize(("hosts", "forks"), [(1, "5"), (12, "12"), (1000, "50")])
def test_forks_follow_the_machines(tmp_path: Path, hosts: int, forks: str) -> None:
    assert answer(tmp_path, hosts=hosts)["ANSIBLE_FORKS"] == forks


def test_the_environment_of_the_user_wins_over_defaults_but_not_over_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_FORKS", "2")
    monkeypatch.setenv("ANSIBLE_HOST_KEY_CHECKING", "False")
    found = answer(tmp_path)
    assert "ANSIBLE_FORKS" not in found
    assert found["ANSIBLE_HOST_KEY_CHECKING"] == "True"


@pytest.mark.parametrize("place", ["project", "home", "named"])
def test_an_ansible_cfg_wins_over_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    path = {"project": "ansible.cfg", "home": "home/.ansible.cfg", "named": "named.cfg"}[place]
    (tmp_path / "home").mkdir()
    (tmp_path / path).write_text("[defaults]\nforks = 1 ; one\n[ssh_connection]\nssh_args = %(x)s\n")
    if place == "named":
        monkeypatch.setenv("ANSIBLE_CONFIG", str(tmp_path / path))
    found = answer(tmp_path)
    assert "ANSIBLE_FORKS" not in found
    assert found["ANSIBLE_SSH_ARGS"].startswith("-o StrictHostKeyChecking=yes ")
    assert found["ANSIBLE_SSH_ARGS"].endswith(" %(x)s")
    assert "ANSIBLE_PIPELINING" in found


def test_an_unreadable_ansible_cfg_is_left_to_ansible(tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").write_text("no section\n")
    assert "ANSIBLE_FORKS" in answer(tmp_path)


def test_colours(tmp_path: Path) -> None:
    assert "ANSIBLE_NOCOLOR" in answer(tmp_path)
    assert "ANSIBLE_FORCE_COLOR" in answer(tmp_path, color=True)


def test_ansible_of_the_own_environment_is_preferred() -> None:
    assert settings.playbook_program() == str(Path(sys.executable).parent / "ansible-playbook")


@pytest.mark.parametrize(
    ("setting", "works"),
    [
        ({"LC_ALL": "C"}, False),
        ({"LC_ALL": "POSIX"}, False),
        ({"LC_ALL": "xx_XX.UTF-8"}, False),
        ({"LC_CTYPE": "UTF-8"}, False),
        ({"LANG": "en_US.ISO-8859-1"}, False),
        ({"LANG": "C.UTF-8", "LC_NUMERIC": "xx_XX.UTF-8"}, False),
        ({}, False),
        ({"LANG": ""}, False),
        ({"LC_ALL": "C.UTF-8"}, True),
        ({"LANG": "C.UTF-8", "LANGUAGE": "de:xx"}, True),
    ],
)
def test_ansible_gets_a_utf8_locale_that_exists(
    monkeypatch: pytest.MonkeyPatch, setting: dict[str, str], *, works: bool
) -> None:
    for name in LOCALE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    before = locale.setlocale(locale.LC_ALL)
    assert settings.utf8_locale(os.environ) == ({} if works else {"LC_ALL": "C.UTF-8"})
    assert locale.setlocale(locale.LC_ALL) == before


def test_the_users_language_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"de_DE.UTF-8", "C.UTF-8"}
    monkeypatch.setattr(settings, "_locale_works", installed.__contains__)
    assert settings.utf8_locale({"LANG": "de_DE@euro"}) == {"LC_ALL": "de_DE.UTF-8"}
    assert settings.utf8_locale({"LANG": "fr_FR.ISO-8859-1"}) == {"LC_ALL": "C.UTF-8"}
    installed.clear()
    assert settings.utf8_locale({"LANG": "C"}) == {}


def test_installed_content_comes_before_what_is_configured(tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").write_text("[defaults]\nroles_path = mine:/theirs\n")
    environment = {"HOME": "/home/me"}
    configured = settings.user_settings(tmp_path, environment)
    found = settings.paths_before(Path("/c"), configured, environment)
    assert found["ANSIBLE_ROLES_PATH"] == f"/c/roles:{tmp_path}/mine:/theirs"
    assert found["ANSIBLE_COLLECTIONS_PATH"] == (
        "/c/collections:/home/me/.ansible/collections:/usr/share/ansible/collections"
    )
    own = {**environment, "ANSIBLE_ROLES_PATH": "/own"}
    assert settings.paths_before(Path("/c"), configured, own)["ANSIBLE_ROLES_PATH"] == "/c/roles:/own"
    assert os.environ.get("HOME") != "/home/me"
