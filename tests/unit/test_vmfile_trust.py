"""Whose Vmfile is obeyed: the user's, root's and sudo's caller's, where nobody else may write."""

import os
from collections import namedtuple
from pathlib import Path

import pytest

from vmctl.errors import UsageError
from vmctl.vmfile import trust

STRANGER = 54321
User = namedtuple("User", "pw_name pw_gid")  # noqa: PYI024  as pwd makes them
Group = namedtuple("Group", "gr_name gr_mem")  # noqa: PYI024  as grp makes them


@pytest.fixture
def vmfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (trust.VARIABLE, "SUDO_UID"):
        monkeypatch.delenv(name, raising=False)
    directory = tmp_path / "p"
    directory.mkdir(mode=0o755)
    path = directory / "Vmfile"
    path.write_text("box: debian-12\n")
    path.chmod(0o644)
    return path


def owned(monkeypatch: pytest.MonkeyPatch, path: Path, *, uid: int = STRANGER, gid: int | None = None) -> None:
    """Have a path belong to somebody, as far as trust sees; changing owners needs root."""
    look = Path.stat

    def stat(self: Path, **options: bool) -> os.stat_result:
        found = look(self, **options)
        if self != path:
            return found
        return os.stat_result((*found[:4], uid, found.st_gid if gid is None else gid, *found[6:]))

    monkeypatch.setattr(Path, "stat", stat)


def me() -> int:
    return os.geteuid()


def refused(path: Path) -> UsageError:
    with pytest.raises(UsageError) as caught:
        trust.require(path)
    return caught.value


def test_ones_own_is_obeyed(vmfile: Path) -> None:
    trust.require(vmfile)
    trust.require(vmfile.with_name("missing"))


@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_strangers_is_refused_with_the_command_that_trusts_it(
    vmfile: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = vmfile if what == "file" else vmfile.parent
    owned(monkeypatch, path)
    error = refused(vmfile)
    assert error.brief == f"{vmfile} is not obeyed: {path} belongs to the user {STRANGER}, neither to you nor to root"
    assert error.hint == f"export VMCTL_SAFE_DIRECTORY={vmfile.parent}"
    variable, _, value = error.hint.removeprefix("export ").partition("=")
    monkeypatch.setenv(variable, f"/elsewhere:{value}")
    trust.require(vmfile)
    monkeypatch.setenv(variable, str(vmfile.parent.parent))
    refused(vmfile)
    monkeypatch.setenv(variable, "*")
    trust.require(vmfile)


def test_roots_is_obeyed(vmfile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    owned(monkeypatch, vmfile, uid=0)
    monkeypatch.setattr(trust, "_why", lambda path, why=trust._why: why(path) if path == vmfile else None)
    trust.require(vmfile)


@pytest.mark.parametrize(
    ("user", "caller", "obeyed"), [(0, "54321", True), (0, "1", False), (0, "x", False), (1, "54321", False)]
)
def test_sudo_obeys_its_callers(
    vmfile: Path, monkeypatch: pytest.MonkeyPatch, user: int, caller: str, *, obeyed: bool
) -> None:
    owned(monkeypatch, vmfile)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(trust, "_why", lambda path, why=trust._why: why(path) if path == vmfile else None)
    monkeypatch.setenv("SUDO_UID", caller)
    if obeyed:
        trust.require(vmfile)
    else:
        refused(vmfile)


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_every_user_may_write_is_refused(vmfile: Path, what: str) -> None:
    path = vmfile if what == "file" else vmfile.parent
    path.chmod(0o777)
    error = refused(vmfile)
    assert error.brief == f"{vmfile} is not obeyed: every user may write {path}"
    assert error.hint == f"chmod o-w {path}"


def test_a_file_of_ones_own_in_a_directory_as_tmp_is_obeyed(vmfile: Path) -> None:
    vmfile.parent.chmod(0o1777)
    trust.require(vmfile)


def test_a_strangers_file_in_a_directory_as_tmp_is_refused(vmfile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vmfile.parent.chmod(0o1777)
    owned(monkeypatch, vmfile)
    refused(vmfile)


GROUPS = {
    "private": (User("me", 777), Group("me", []), True),
    "private, listed": (User("me", 777), Group("me", ["me"]), True),
    "others are in it": (User("me", 777), Group("me", ["me", "eve"]), False),
    "everybody's": (User("me", 777), Group("users", []), False),
    "a team's": (User("me", 1), Group("dev", []), False),
}


@pytest.mark.parametrize("case", GROUPS)
def test_a_group_that_is_the_users_alone_may_write(vmfile: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import grp
    import pwd

    user, group, obeyed = GROUPS[case]
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: user)
    monkeypatch.setattr(grp, "getgrgid", lambda _gid: group)
    owned(monkeypatch, vmfile, uid=me(), gid=777)
    vmfile.chmod(0o664)
    if obeyed:
        trust.require(vmfile)
    else:
        error = refused(vmfile)
        assert error.brief == f"{vmfile} is not obeyed: the group '{group.gr_name}' may write {vmfile}"
        assert error.hint == f"chmod g-w {vmfile}"


def test_a_group_without_a_name_is_private_when_it_is_ones_own(vmfile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vmfile.chmod(0o664)
    owned(monkeypatch, vmfile, uid=me(), gid=STRANGER)
    refused(vmfile)
    monkeypatch.setattr(os, "getegid", lambda: STRANGER)
    trust.require(vmfile)


def test_a_link_is_looked_at_and_what_it_leads_to(vmfile: Path, tmp_path: Path) -> None:
    link = tmp_path / "q" / "Vmfile"
    link.parent.mkdir()
    link.symlink_to(vmfile)
    trust.require(link)
    vmfile.parent.chmod(0o777)
    assert f"every user may write {vmfile.parent}" in refused(link).brief
    vmfile.parent.chmod(0o755)
    link.parent.chmod(0o777)
    assert f"every user may write {link.parent}" in refused(link).brief
