"""The real program in surroundings that lack or misstate what it reads: an answer, or a refusal in words."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

VMCTL = Path(sys.executable).with_name("vmctl")
BASE = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}


def vmctl(directory: Path, environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [VMCTL, *words], cwd=directory, env={**BASE, **environ}, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "Vmfile").write_text("box: debian-12\nmessage: 'für {{ host.user }}'\n")
    return tmp_path


ODD = {
    "no home": {},
    "empty home": {"HOME": ""},
    "locale that is not installed": {"HOME": "{root}", "LC_ALL": "xx_XX.UTF-8"},
    "POSIX": {"HOME": "{root}", "LC_ALL": "POSIX"},
    "no terminal": {"HOME": "{root}", "TERM": ""},
    "unknown terminal": {"HOME": "{root}", "TERM": "no-such-terminal"},
    "columns": {"HOME": "{root}", "COLUMNS": "abc", "LINES": "-1"},
    "no columns": {"HOME": "{root}", "COLUMNS": "0"},
    "temporary directory": {"HOME": "{root}", "TMPDIR": "/no/such"},
    "runtime directory": {"HOME": "{root}", "XDG_RUNTIME_DIR": "relative"},
    "time zone": {"HOME": "{root}", "TZ": "No/Such"},
    "no path": {"HOME": "{root}", "PATH": ""},
    "encoding": {"HOME": "{root}", "PYTHONIOENCODING": "ascii"},
    "relative data directory": {"HOME": "{root}", "XDG_DATA_HOME": "x"},
}


@pytest.mark.parametrize("words", [("validate",), ("config",), ("status",)], ids=" ".join)
@pytest.mark.parametrize("odd", ODD)
def test_odd_surroundings_get_an_answer(project: Path, odd: str, words: tuple[str, ...]) -> None:
    environ = {"VMCTL_HOME": str(project / "home"), "VMCTL_PROVIDER": "libvirt"}
    environ |= {name: value.format(root=project) for name, value in ODD[odd].items()}
    ran = vmctl(project, environ, *words)
    assert "Traceback" not in ran.stderr
    assert "internal error" not in ran.stderr
    assert ran.returncode == 0 or ran.stderr.startswith("error: "), ran.stderr
    assert words == ("status",) or ran.returncode == 0, ran.stderr


def test_a_working_directory_that_is_gone_is_named(tmp_path: Path) -> None:
    script = f'cd "{tmp_path}" && mkdir gone && cd gone && rmdir ../gone && exec "{VMCTL}" "$@"'
    for words in (["status"], ["validate"], ["init"], ["-C", "x", "status"]):
        ran = subprocess.run(
            ["sh", "-c", script, "sh", *words], env={**BASE, "HOME": str(tmp_path)}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert (ran.returncode, ran.stderr) == (2, "error: the working directory is gone\nhint: cd\n")


def test_a_tilde_in_the_environment_makes_no_directory_of_that_name(project: Path) -> None:
    (project / "elsewhere").mkdir()
    (project / "me").mkdir()
    (project / "me" / "Vmfile").write_text("box: debian-12\n")
    environ = {"HOME": str(project / "me"), "VMCTL_HOME": "~/data", "VMCTL_VMFILE": "~/Vmfile", "TMPDIR": "~/tmp"}
    ran = vmctl(project / "elsewhere", environ, "validate")
    assert ran.stdout.startswith(f"{project}/me/Vmfile is valid")
    assert vmctl(project / "elsewhere", environ, "box", "add", "/no/such").returncode != 0
    assert vmctl(project / "elsewhere", environ, "box", "list").returncode == 0
    assert list((project / "elsewhere").iterdir()) == []


def test_the_last_resort_does_not_need_what_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import click

    from vmctl.cli.running import run

    @click.command()
    def broken() -> None:
        raise ZeroDivisionError("seven by nothing")

    monkeypatch.setenv("VMCTL_HOME", "~no-such-user")
    monkeypatch.chdir(tmp_path)
    assert run(broken, []) == 1
    stated = capsys.readouterr().err
    assert "internal error (a bug in vmctl): ZeroDivisionError: seven by nothing" in stated
    assert "there is no user 'no-such-user'" in stated
