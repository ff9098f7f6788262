"""Which libvirt may be connected to: no URI names a program, and a record names nothing that is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vmctl.driver import Host
from vmctl.errors import UsageError, VmctlError
from vmctl_libvirt import LibvirtDriver, libvirt_connection, uris
from vmctl_libvirt.libvirt_errors import library


@pytest.mark.parametrize(
    "uri",
    [
        "auto",
        "qemu:///system",
        "qemu:///session",
        "qemu+unix:///system",
        "qemu://host.example/system",
        "qemu+tls://host.example:16514/system",
        "qemu+ssh://me@host.example/system",
        "qemu+ssh://host:2222/session?no_tty=1&mode=direct",
        "qemu+libssh2://host/system",
        "qemu+ssh://[fd00::1]/system",
        "test:///default",
        "test:///tmp/node.xml",
    ],
)
def test_local_ssh_and_tls_are_possible(uri: str) -> None:
    assert uris.problem(uri) == ""


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("qemu+ext:///system?command=/tmp/evil", "the transport 'ext'"),
        ("qemu+ext://host/system?command=/tmp/evil", "the transport 'ext'"),
        ("QEMU+EXT:///system?command=/tmp/evil", "the transport 'ext'"),
        ("qemu+ssh://host/system?command=/tmp/evil", "the parameter 'command'"),
        ("qemu+ssh://host/system?no_tty=1&%63ommand=/tmp/evil", "the parameter 'command'"),
        ("qemu+ssh://host/system?no_tty=1;command=/tmp/evil", "invalid value of 'no_tty'"),
        ("qemu+ssh://host/system?netcat=/tmp/evil", "the parameter 'netcat'"),
        ("qemu+ssh://host/system?proxy=netcat", "the parameter 'proxy'"),
        ("qemu+ssh://host/system?socket=/tmp/s", "the parameter 'socket'"),
        ("qemu+libssh://host/system?keyfile=/root/.ssh/id", "the parameter 'keyfile'"),
        ("qemu+libssh://host/system?sshauth=agent", "the parameter 'sshauth'"),
        ("qemu+libssh://host/system?known_hosts=/tmp/h", "the parameter 'known_hosts'"),
        ("qemu://host/system?pkipath=/tmp", "the parameter 'pkipath'"),
        ("qemu://host/system?no_verify=1", "the parameter 'no_verify'"),
        ("qemu:///system?socket=/tmp/s", "the parameter 'socket'"),
        ("qemu:///system?name=qemu+ext:///system", "the parameter 'name'"),
        ("qemu:///embed?root=/tmp/r", "the path '/embed'"),
        ("qemu+tcp://host/system", "the transport 'tcp'"),
        ("qemu+ssh:///system", "the transport 'ssh'"),
        ("qemu+ssh://-oProxyCommand=evil/system", "names no host"),
        ("qemu+ssh://-oProxyCommand=evil@host/system", "names no host"),
        ("qemu+ssh://user:word@host/system", "names no host"),
        ("qemu+ssh://host:no/system", "is not a URI"),
        ("qemu+ssh://host/system\n", "must be auto"),
        ("xen:///system", "must be auto"),
        ("esx://host/?no_verify=1", "must be auto"),
        ("test:///default?x=1", "must be test:///default"),
        ("test+ssh://host/default", "must be test:///default"),
        ("my-alias", "must be auto"),
        ("", "must be auto"),
    ],
)
def test_what_names_a_program_or_a_file_is_refused_before_libvirt_sees_it(
    uri: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library(), "open", _never)
    with pytest.raises(UsageError, match=r"libvirt\.uri") as caught:
        libvirt_connection.open_uri(uri)
    assert why in caught.value.brief


@pytest.mark.parametrize("where", ["qemu+ext:///system?command=touch%20{}", "qemu+ssh://far/system", "test:///default"])
def test_a_recorded_place_is_compared_and_never_opened(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library(), "open", _never)
    driver = LibvirtDriver(Host(home=tmp_path, where=where))
    assert isinstance(driver.usable(), str)
    with pytest.raises(VmctlError, match="this project's machines are") as caught:
        driver.states()
    assert "command" not in caught.value.hint


def test_of_what_auto_can_mean_a_record_tells_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(uri: str) -> Any:
        asked.append(uri)
        raise library().libvirtError("no")

    monkeypatch.setattr(library(), "open", refuse)
    monkeypatch.setattr("vmctl_libvirt.libvirt_connection.os.geteuid", lambda: 1000)
    with pytest.raises(VmctlError, match="qemu:///session"):
        LibvirtDriver(Host(home=tmp_path, where="qemu:///session")).states()
    assert asked == ["qemu:///session"]


def _never(uri: str) -> Any:
    raise AssertionError(f"{uri} was opened")
