from __future__ import annotations

from pathlib import Path

import pytest

from vmctl.driver import Features
from vmctl.lifecycle import layering
from vmctl.spec import BoxRef, Folder, MachineSpec, Network, Project, Shell
from vmctl.store.records import BoxUsed

BOX = BoxUsed(name="seeded", version="1", digest="d" * 64, user="vmctl", seeding="vmctl")
FEATURES = Features(formats=("qcow2",), folders=("virtiofs",))


def key(root: Path, *folders: Folder) -> str:
    provision = (Shell(name="one", inline="true"),)
    spec = MachineSpec(name="web", box=BoxRef(address="seeded"), folders=folders, provision=provision)
    project = Project(root=root, file=root / "Vmfile", machines=(spec,))
    chain = layering.chain_of(project, spec, BOX, FEATURES, "libvirt")
    assert chain.reason == ""
    return chain.ground


@pytest.mark.parametrize(
    ("script", "counts"),
    [("getent hosts db", True), ("nc -z db 5432", True), ("cat /etc/hosts", True), ("echo dbx; ls /db-1", False)],
)
def test_where_another_machine_is_counts_for_what_asks_for_it(tmp_path: Path, script: str, counts: bool) -> None:  # noqa: FBT001  a case
    def keys(address: str) -> tuple[str, ...]:
        machines = tuple(
            MachineSpec(
                name=name, box=BoxRef(address="seeded"), provision=(Shell(name="one", inline=script),),
                networks=(Network(name="lan", ip=ip),),
            )
            for name, ip in (("web", "10.5.0.2"), ("db", address))
        )  # fmt: skip
        project = Project(root=tmp_path, file=tmp_path / "Vmfile", machines=machines)
        return layering.chain_of(project, machines[0], BOX, FEATURES, "libvirt").keys

    assert len(keys("10.5.0.3")) == 1
    assert (keys("10.5.0.3") != keys("10.5.0.4")) is counts


@pytest.fixture
def host(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    return tmp_path


def test_where_live_folders_are_mounted_counts_and_which_they_are_does_not(host: Path) -> None:
    """The guest's /etc/fstab has them, and is in each layer."""
    with_one = key(host, Folder(host=host / "a", guest="/srv/app"))
    assert with_one == key(host, Folder(host=host / "b", guest="/srv/app"))
    others = [
        key(host),
        key(host, Folder(host=host / "a", guest="/srv/other")),
        key(host, Folder(host=host / "a", guest="/srv/app", read_only=True)),
        key(host, Folder(host=host / "a", guest="/srv/app"), Folder(host=host / "b", guest="/srv/b")),
    ]
    assert len({with_one, *others}) == len(others) + 1
