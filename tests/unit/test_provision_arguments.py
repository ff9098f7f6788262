from __future__ import annotations

import stat
from pathlib import Path

import pytest

from vmctl.provision import arguments, passwords
from vmctl.spec import Ansible


def item(**options: object) -> Ansible:
    return Ansible(name="site", playbook=Path("site.yml"), **options)  # type: ignore[arg-type]  # tests name real fields


def test_nothing_said_is_nothing_on_the_command_line() -> None:
    assert arguments.words(item()) == []
    assert arguments.environment(item()) == {}


def test_options_become_words_and_secrets_do_not() -> None:
    stated = item(
        extra_vars={"secret": "correct-horse"}, extra_vars_files=(Path("/v.yml"),), limit="web:!db", tags=("a", "b"),
        skip_tags=("c",), start_at_task="do it", become=True, become_user="me", forks=3,
        raw_arguments=("--flush-cache",), vault={"dev": Path("/dev.pass"), "prod": None}, ask_become_pass=True,
    )  # fmt: skip
    assert arguments.words(stated) == [
        "--extra-vars=@/v.yml", "--vault-id=dev@/dev.pass", "--become", "--become-user=me", "--tags=a,b",
        "--skip-tags=c",
        "--start-at-task=do it", "--forks=3", "--flush-cache",
    ]  # fmt: skip


@pytest.mark.parametrize("key", ["check", "diff"])
def test_checking_is_wished_by_the_entry_or_the_command_line(key: str) -> None:
    assert arguments.words(item(**{key: True})) == arguments.words(item(), **{key: True}) == [f"--{key}"]


def test_the_entrys_own_environment() -> None:
    stated = item(env={"A": "b"}, strategy="free", config_file=Path("/x.cfg"))
    assert arguments.environment(stated) == {"A": "b", "ANSIBLE_STRATEGY": "free", "ANSIBLE_CONFIG": "/x.cfg"}


def test_a_password_is_told_once_through_a_private_pipe(tmp_path: Path) -> None:
    with passwords.served({"--vault-id=prod@": "correct-horse"}, tmp_path) as words:
        (path,) = tmp_path.iterdir()
        assert words == [f"--vault-id=prod@{path}"]
        assert stat.S_ISFIFO(path.stat().st_mode)
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_bytes() == b"correct-horse\n"
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_that_nobody_reads_keeps_nobody_waiting(tmp_path: Path) -> None:
    with passwords.served({"--become-password-file=": "x"}, tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
