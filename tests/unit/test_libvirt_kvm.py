from __future__ import annotations

from pathlib import Path

import pytest

from vmctl_libvirt.kvm import Evidence


def evidence(directory: Path, *, flags: str, device: bool) -> Evidence:
    cpuinfo = directory / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: fpu vme {flags} sse2\n")
    node = directory / "kvm"
    if device:
        node.touch()
    return Evidence(cpuinfo=cpuinfo, device=node)


@pytest.mark.parametrize("flag", ["vmx", "svm"])
def test_flag_and_device_are_enough(tmp_path: Path, flag: str) -> None:
    found = evidence(tmp_path, flags=flag, device=True)
    assert found.why_not("x86_64", as_user=True) == ""
    assert found.flag() == flag


def test_a_device_without_the_flag_lies(tmp_path: Path) -> None:
    assert "no vmx or svm flag" in evidence(tmp_path, flags="vmxx", device=True).why_not("x86_64", as_user=False)


def test_the_flag_without_a_device(tmp_path: Path) -> None:
    assert "No such file" in evidence(tmp_path, flags="vmx", device=False).why_not("x86_64", as_user=False)


def test_other_processors_have_no_flag_to_look_for(tmp_path: Path) -> None:
    assert evidence(tmp_path, flags="", device=True).why_not("aarch64", as_user=False) == ""


def test_a_device_of_root_matters_in_session_mode_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = evidence(tmp_path, flags="svm", device=True)

    def refuse(*_args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("vmctl_libvirt.kvm.os.open", refuse)
    assert "adduser" in found.why_not("x86_64", as_user=True)
    assert found.why_not("x86_64", as_user=False) == ""


def test_no_cpuinfo_is_no_flag(tmp_path: Path) -> None:
    assert Evidence(cpuinfo=tmp_path / "absent", device=tmp_path / "absent").flag() == ""
