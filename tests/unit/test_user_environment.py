"""What the account, the environment and the working directory say, and what is said where they do not."""

import os
import pwd
from pathlib import Path

import pytest

from vmctl import layout, user_environment
from vmctl.errors import UsageError, VmctlError


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account that the system knows no name and no home of."""

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for variable in ("HOME", "LOGNAME", "USER", "VMCTL_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable, raising=False)


PATHS = {"~": "/home/me", "~/x": "/home/me/x", "~//x": "/home/me/x", "~root/x": "/root/x", "/~/x": "/~/x", "x~": "x~"}


@pytest.mark.parametrize("stated", PATHS)
def test_a_tilde_is_a_home_directory(stated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert user_environment.expanded(stated) == Path(PATHS[stated])


def test_a_tilde_of_nobody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMCTL_HOME", "~no-such-user/x")
    with pytest.raises(UsageError, match=r"\$VMCTL_HOME: ~no-such-user/x: there is no user 'no-such-user'") as caught:
        layout.home()
    assert caught.value.hint == "unset VMCTL_HOME"


HOMES = {
    ("VMCTL_HOME", "~/data"): "/home/me/data",
    ("VMCTL_HOME", "data"): "{cwd}/data",
    ("VMCTL_HOME", ""): "/home/me/.local/share/vmctl",
    ("XDG_DATA_HOME", "~/share"): "/home/me/share/vmctl",
    ("XDG_DATA_HOME", "/share"): "/share/vmctl",
    ("XDG_DATA_HOME", "relative"): "/home/me/.local/share/vmctl",
}


@pytest.mark.parametrize(("variable", "stated"), HOMES)
def test_where_data_is_kept(variable: str, stated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VMCTL_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv(variable, stated)
    monkeypatch.chdir(tmp_path)
    assert str(layout.home()) == HOMES[variable, stated].format(cwd=tmp_path)


def test_the_users_own_vmfile_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_CONFIG_HOME", "~/etc")
    assert layout.user_vmfile() == Path("/home/me/etc/vmctl/Vmfile")


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_without_a_home_the_accounts_counts(home: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if home is None:
        monkeypatch.delenv("HOME", raising=False)
    else:
        monkeypatch.setenv("HOME", home)
    assert str(user_environment.home_directory()) == pwd.getpwuid(os.getuid()).pw_dir


@pytest.mark.usefixtures("nobody")
def test_an_account_that_nobody_knows_has_a_number_and_is_asked_for_a_home() -> None:
    assert user_environment.user_name() == str(os.getuid())
    for ask in (layout.home, layout.user_vmfile, lambda: user_environment.expanded("~/x")):
        with pytest.raises(UsageError, match="your home directory is unknown: HOME is not set"):
            ask()


@pytest.mark.usefixtures("nobody")
def test_such_an_account_can_say_all_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMCTL_HOME", "/data")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/etc/me")
    assert (layout.home(), layout.user_vmfile()) == (Path("/data"), Path("/etc/me/vmctl/Vmfile"))


def test_a_working_directory_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UsageError, match="the working directory is gone") as caught:
        user_environment.in_working_directory(Path("x"))
    assert caught.value.hint == "cd"
    assert user_environment.in_working_directory(Path("/x")) == Path("/x")


def test_sockets_go_where_a_directory_is_there_and_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert user_environment.temporary_directory(200) == str(tmp_path)
    assert user_environment.temporary_directory(4) == "/tmp"
    monkeypatch.setenv("TMPDIR", "~/no-such")
    assert user_environment.temporary_directory(200) == "/tmp"
    with pytest.raises(VmctlError, match="there is no directory for temporary files"):
        user_environment.temporary_directory(1)
