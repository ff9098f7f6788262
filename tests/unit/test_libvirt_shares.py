from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmctl.driver import Share
from vmctl.errors import VmctlError
from vmctl_libvirt import mapped_virtiofsd, shares
from vmctl_libvirt.connection import Abilities
from vmctl_libvirt.mapped_virtiofsd import LAST_ID, NOBODY, exceptions, id_map

IDS = st.integers(0, 70_000) | st.sampled_from([0, 1000, NOBODY, LAST_ID])


def abilities(*, local: bool = True, session: bool = False, guests: bool = True) -> Abilities:
    return Abilities(uri="qemu:///x", version=9_000_000, is_local=local, is_session=session, runs_guests=guests)


@given(guest=IDS, host=IDS)
def test_every_id_has_exactly_one_meaning(guest: int, host: int) -> None:
    rows = id_map(exceptions(guest, host))
    for position in (0, 1):
        ranges = sorted((row[position], row[position] + row[2]) for row in rows)
        assert ranges[0][0] == 0
        assert ranges[-1][1] == LAST_ID + 1
        assert all(before[1] == after[0] for before, after in pairwise(ranges))
    assert _outside(rows, guest) == host


def test_the_root_of_the_guest_is_nobody_here_where_root_owns_the_folder() -> None:
    rows = id_map(exceptions(1000, 0))
    assert _outside(rows, 1000) == 0
    assert _outside(rows, 0) == NOBODY
    assert _outside(rows, 1001) == 1001


def test_two_people_change_places() -> None:
    rows = id_map(exceptions(1000, 1001))
    assert [_outside(rows, each) for each in (0, 1000, 1001)] == [0, 1001, 1000]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root maps other users' ids; `make test` runs as root")
def test_the_program_becomes_another_with_the_ids_mapped(tmp_path: Path) -> None:
    argv = [sys.executable, "-IS", mapped_virtiofsd.__file__, "1000:0", "1000:0", "/bin/sh", "-c"]
    made = tmp_path / "made"
    script = f"cat /proc/self/uid_map; touch {made}; id -u; chown 1000:1000 {made}"
    done = subprocess.run([*argv, script], capture_output=True, text=True, check=True)
    assert [line.split() for line in done.stdout.splitlines()[:2]] == [["0", str(NOBODY), "1"], ["1", "1", "999"]]
    assert done.stdout.splitlines()[-1] == "0"
    assert (made.stat().st_uid, made.stat().st_gid) == (0, 0)


def test_live_folders_need_a_local_system_connection_and_virtiofsd(tmp_path: Path) -> None:
    program = tmp_path / "virtiofsd"
    assert shares.kinds(abilities(), [program]) == ()
    program.touch()
    assert shares.kinds(abilities(), [program]) == ("virtiofs",)
    for unable in (abilities(local=False), abilities(session=True), abilities(guests=False)):
        assert shares.kinds(unable, [program]) == ()


def test_a_share_of_the_right_owner_needs_no_program_of_ours(tmp_path: Path) -> None:
    owner = (os.getuid(), os.getgid())
    share = Share(tag="t", host=tmp_path, kind="virtiofs", owner=owner)
    (folder,) = shares.shared_folders([share], tmp_path / "programs")
    assert folder == shares.SharedFolder(tag="t", host=str(tmp_path))
    assert not (tmp_path / "programs").exists()


def test_a_share_of_another_owner_gets_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "find", lambda: Path("/usr/lib/qemu/virtiofsd"))
    monkeypatch.setattr(shares, "can_map", lambda: True)
    programs = tmp_path / "it's here"
    share = Share(tag="t", host=tmp_path, kind="virtiofs", owner=(4242, 4243))
    (folder,) = shares.shared_folders([share], programs)
    text = Path(folder.binary).read_text()
    ids = f"4242:{os.getuid()} 4243:{os.getgid()}"
    assert text.splitlines()[0] == "#!/bin/sh"
    assert text.splitlines()[1].endswith(f'{ids} /usr/lib/qemu/virtiofsd "$@"')
    assert os.access(folder.binary, os.X_OK)
    assert [entry.name for entry in programs.iterdir()] == [Path(folder.binary).name]


def test_where_apparmor_forbids_the_program_the_user_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flag = tmp_path / "enabled"
    assert shares.can_map(flag)
    flag.write_text("Y\n")
    assert not shares.can_map(flag)
    monkeypatch.setattr(shares, "can_map", lambda: False)
    share = Share(tag="t", host=tmp_path, kind="virtiofs", owner=(4242, 4242))
    (text,) = shares.unmappable([share])
    assert text.startswith(f"{tmp_path}: its files belong to uid {os.getuid()} on this host")
    assert "user 4242 may not write" in text
    (folder,) = shares.shared_folders([share], tmp_path / "programs")
    assert folder.binary == ""


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    share = Share(tag="t", host=tmp_path / "absent", kind="virtiofs")
    with pytest.raises(VmctlError, match="can not share"):
        shares.shared_folders([share], tmp_path)


def _outside(rows: list[tuple[int, int, int]], inside: int) -> int:
    return next(out + inside - start for start, out, count in rows if start <= inside < start + count)
