"""The playbooks and roles that ship with vmctl, and what vmctl does by itself with one of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.integration.provision_bench import Bench
from tests.unit.openssh_server import Sshd, sshd
from vmctl import process
from vmctl.errors import ProvisionFailed
from vmctl.events import Warned
from vmctl.provision import ansible_provisioner
from vmctl.provision.settings import playbook_program
from vmctl.spec import Ansible

__all__ = ["sshd"]

pytestmark = pytest.mark.integration

RAW = "- hosts: all\n  gather_facts: false\n  tasks: [{raw: 'true'}]\n"


@pytest.fixture
def bench(tmp_path: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("ANSIBLE_PYTHON_INTERPRETER", sys.executable)
    return Bench(tmp_path, sshd)


@pytest.fixture
def pythonless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest is this host, which has Python: what is asked for is something that no guest has."""
    monkeypatch.setattr(ansible_provisioner, "PROBE", "command -v no-such-python3")


def test_a_guest_without_python_gets_the_bootstrap_first(bench: Bench, pythonless: None) -> None:
    bench.machine("one", bench.playbook(RAW))
    bench.run()
    assert bench.printed.index("PLAY [Make the guest ready for Ansible]") < bench.printed.index("PLAY [all]")
    bench.run(force=True)  # Ansible has worked there: nobody asks again
    assert "PLAY [Make the guest ready for Ansible]" not in bench.printed


def test_a_bootstrap_that_fails_is_a_warning_and_the_playbook_has_the_word(
    bench: Bench, pythonless: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = bench.write(
        "broken.yml", "- hosts: all\n  gather_facts: false\n  tasks: [{raw: 'echo no network; exit 1'}]\n"
    )
    monkeypatch.setattr(ansible_provisioner, "bundled", lambda _name: broken)
    bench.machine("one", bench.playbook(RAW))
    bench.run()
    (warning,) = [event for event in bench.events if isinstance(event, Warned)]
    assert "there is no python3 in the guest, and it could not be installed" in warning.text
    assert "no network" in warning.text


def test_a_chosen_interpreter_is_nobody_elses_business(bench: Bench, pythonless: None) -> None:
    bench.machine("one", bench.playbook(RAW, extra_vars={"ansible_python_interpreter": sys.executable}))
    bench.run()
    assert "PLAY [Make the guest ready for Ansible]" not in bench.printed


def shell_profile(place: Path, **environment: str) -> dict[str, object]:
    return {
        "project_shell_directory": str(place),
        "project_shell_environment": environment,
        "project_shell_profile": f"{place}/profile.sh",
    }


def test_project_shell_is_idempotent_and_quotes_whatever_it_gets(bench: Bench, tmp_path: Path) -> None:
    value = 'it\'s "a" $HOME; `id`'
    item = Ansible(
        name="home",
        playbook=ansible_provisioner.bundled("project_shell.yml"),
        extra_vars=shell_profile(tmp_path, A=value),
    )
    bench.machine("one", item)
    assert bench.run().changed
    assert not bench.run(force=True).changed
    done = process.run(["sh", "-ic", f'. {tmp_path}/profile.sh; printf "%s|%s" "$A" "$(pwd)"'], cwd=Path("/"))
    assert done.stdout == f"{value}|{tmp_path}"


def test_project_shell_refuses_what_can_not_be_a_variable(bench: Bench, tmp_path: Path) -> None:
    values = shell_profile(tmp_path) | {"project_shell_environment": {"A B": "x"}}
    bench.machine(
        "one", Ansible(name="home", playbook=ansible_provisioner.bundled("project_shell.yml"), extra_vars=values)
    )
    with pytest.raises(ProvisionFailed, match="Refuse names"):
        bench.run()


@pytest.mark.parametrize("name", ["bootstrap.yml", "project_shell.yml"])
def test_plain_ansible_can_run_them(name: str, tmp_path: Path) -> None:
    process.run(
        [playbook_program(), "-i", "localhost,", "--syntax-check", ansible_provisioner.bundled(name)], cwd=tmp_path
    )


def test_plain_ansible_can_run_the_example(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "hello" / "playbook.yml"
    process.run([playbook_program(), "-i", "localhost,", "--syntax-check", example], cwd=tmp_path)
