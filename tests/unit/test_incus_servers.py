"""The server that a machine's record names, found again in the configuration of `incus` or `lxc`."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmctl.errors import UsageError
from vmctl_incus import servers
from vmctl_incus.servers import Wanted


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INCUS_CONF", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("LXD_CONF", raising=False)
    return tmp_path / "config.yml"


@pytest.mark.parametrize("address", ["https://lab.example", "https://lab.example/", "https://lab.example:8443"])
def test_a_server_is_found_again_however_its_remote_spells_its_address(config: Path, address: str) -> None:
    config.write_text(f"remotes: {{broken: 1, images: {{addr: 'https://'}}, lab: {{addr: '{address}', project: p}}}}\n")
    endpoint, project = servers.resolve(Wanted(remote="lab"), "")
    where = servers.place(endpoint, project)
    assert where == "https://lab.example:8443#p"
    again = servers.resolve(Wanted(), where)
    assert servers.place(*again) == where


def test_one_that_no_remote_leads_to_is_told_of(config: Path) -> None:
    config.write_text("remotes: {}\n")
    with pytest.raises(UsageError, match=r"no remote has the address https://lab\.example:8443"):
        servers.resolve(Wanted(), "https://lab.example:8443#default")


@pytest.mark.parametrize(
    ("distribution", "release", "package"),
    [("debian", "12", "lxd"), ("debian", "13", "incus"), ("ubuntu", "24.04", "incus")],
)
def test_the_hint_names_a_package_that_the_distribution_has(
    monkeypatch: pytest.MonkeyPatch, distribution: str, release: str, package: str
) -> None:
    facts = {"ID": distribution, "VERSION_ID": release}
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: facts)
    assert servers.installing().startswith(f"sudo apt-get install {package} &&")
