"""Rules of the driver that need a hypervisor, on libvirt's test driver with a private file."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from vmctl.driver import Definition, Disk, Forward, Host, Nic, Share, State, Tag
from vmctl.errors import UsageError, VmctlError, WrongState
from vmctl.spec import GIB, MIB, BoxRef, MachineSpec, SourceLocation
from vmctl_libvirt import LibvirtDriver, libvirt_connection, machines, share_locks
from vmctl_libvirt.domain_edit import disks
from vmctl_libvirt.libvirt_connection import LibvirtConnection
from vmctl_libvirt.libvirt_errors import library
from vmctl_libvirt.pool import pool_volume
from vmctl_libvirt.shares import ShareKinds

NODE = """<node><cpu><mhz>3000</mhz><model>x86_64</model><active>4</active><nodes>1</nodes><sockets>1</sockets>
<cores>4</cores><threads>1</threads></cpu><memory>8388608</memory>{}</node>"""
FOREIGN = """<domain type='test'><name>{name}</name>{metadata}<memory unit='MiB'>64</memory><os><type>hvm</type></os>
</domain>"""
HALF = "<metadata><v:machine xmlns:v='urn:x-vmctl:machine:1' project='' machine='web'/></metadata>"
TAG = Tag(project="a" * 32, machine="web", version="0.1.0")
SSH = Forward(name="ssh", guest=22, host=2222, host_ip="127.0.0.1", protocol="tcp")


@pytest.fixture
def uri(tmp_path: Path) -> str:
    node = tmp_path / "node.xml"
    domains = FOREIGN.format(name="foreign", metadata="") + FOREIGN.format(name="half", metadata=HALF)
    node.write_text(NODE.format(domains))
    return f"test://{node}"


@pytest.fixture
def driver(tmp_path: Path, uri: str) -> Iterator[LibvirtDriver]:
    made = LibvirtDriver(Host(home=tmp_path / "home", options={"uri": uri}))
    yield made
    made.close()


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    path = tmp_path / "box.qcow2"
    path.write_bytes(b"image")
    return Disk(path=path, format="qcow2", digest="d" * 64, virtual_size=GIB)


def define(tmp_path: Path, *, name: str = "shop-web", knobs: dict[str, Any] | None = None, **spec: Any) -> Definition:
    return Definition(
        name=name,
        tag=TAG,
        spec=MachineSpec(
            name="web", box=BoxRef(address="box"), memory=64 * MIB, options={"libvirt": knobs or {}}, **spec
        ),
        mac="52:54:00:00:00:01",
        console=tmp_path / "console.log",
        forwards=(SSH,),
        network_prefix="shop-",
    )


def test_machines_of_others_and_half_tagged_ones_are_not_seen(driver: LibvirtDriver) -> None:
    assert driver.states() == {}


@pytest.mark.parametrize("name", ["foreign", "half"])
def test_machines_of_others_are_not_touched(driver: LibvirtDriver, tmp_path: Path, disk: Disk, name: str) -> None:
    definition = define(tmp_path, name=name)
    acts: tuple[Callable[[], None], ...] = (
        lambda: driver.create(definition, disk),
        lambda: driver.update(definition),
        lambda: driver.start(name, TAG),
        lambda: driver.stop(name, TAG, force=True),
        lambda: driver.suspend(name, TAG),
        lambda: driver.destroy(name, TAG),
    )
    for act in acts:
        with pytest.raises(VmctlError, match="was not made by vmctl, so vmctl does not touch it"):
            act()


def test_all_faults_are_told_at_once_with_their_places(driver: LibvirtDriver, tmp_path: Path) -> None:
    place = SourceLocation(file="Vmfile", line=4, column=7)
    definition = define(tmp_path, knobs={"cpux": "host-model", "video": "crt"}, places={"libvirt.cpux": place})
    share = Share(tag="t", host=tmp_path, kind="virtiofs")
    with pytest.raises(UsageError) as caught:
        driver.check(structs.replace(definition, shares=(share,)))
    assert caught.value.brief == "3 faults in machine 'web'"
    first, second, third = caught.value.details.splitlines()
    assert first == "Vmfile:4:7: machines.web.libvirt.cpux: unknown key, did you mean 'cpu'?"
    assert second.startswith("machines.web.libvirt.video: expected one of none,")
    assert "virtiofs is not possible with test://" in third


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"management_network": "lan"}, "libvirt has no network 'lan' (it has: none)"),
        ({"user_network": "passt"}, "passt needs libvirt 9.2 or newer"),
        ({"uri": "qemu:///system"}, "must be the same for the whole project"),
    ],
)
def test_a_knob_that_can_not_work_here_is_refused(
    driver: LibvirtDriver, tmp_path: Path, knobs: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmctl_libvirt.checks.PASST_SINCE", 99_000_000)
    with pytest.raises(UsageError) as caught:
        driver.check(define(tmp_path, knobs=knobs))
    assert message in caught.value.brief


def test_ports_need_the_user_network(driver: LibvirtDriver, tmp_path: Path) -> None:
    forward = Forward(name="", guest=80, host=8080, host_ip="127.0.0.1", protocol="tcp")
    definition = define(tmp_path, knobs={"management_network": "default"})
    with pytest.raises(UsageError) as caught:
        driver.check(structs.replace(definition, forwards=(forward,)))
    assert "cannot be forwarded with libvirt.management_network" in caught.value.details


def test_slirp_listens_on_ipv4_only(driver: LibvirtDriver, tmp_path: Path) -> None:
    forward = Forward(name="", guest=80, host=8080, host_ip="::1", protocol="tcp")
    with pytest.raises(UsageError, match="IPv4 addresses only"):
        driver.check(structs.replace(define(tmp_path), forwards=(SSH, forward)))


def test_a_box_larger_than_the_disk_is_refused_and_leaves_nothing(
    driver: LibvirtDriver, tmp_path: Path, disk: Disk
) -> None:
    with pytest.raises(UsageError, match="less than the box's"):
        driver.create(define(tmp_path, disk=GIB // 2), disk)
    assert driver.states() == {}


def test_a_machine_whose_xml_is_refused_leaves_nothing(driver: LibvirtDriver, tmp_path: Path, disk: Disk) -> None:
    definition = define(tmp_path, knobs={"xml": "<vcpu>many</vcpu>"})
    with pytest.raises(VmctlError) as caught:
        driver.create(definition, disk)
    assert caught.value.brief == "libvirt could not create shop-web"
    assert "vcpu" in caught.value.details
    (copy,) = driver.box_copies()
    assert (copy.key, copy.needed) == (disk.digest, False)
    assert driver.remove_box_copy(copy.key)
    assert driver.box_copies() == ()


def test_networks_come_and_go_with_their_machines(driver: LibvirtDriver, tmp_path: Path, disk: Disk) -> None:
    nic = Nic(network="backend", mac="52:54:00:00:00:02", ip="192.168.56.10", prefix=24)
    definition = structs.replace(define(tmp_path), nics=(nic,))
    driver.create(definition, disk)
    driver.check(definition)
    other = structs.replace(definition, name="other", network_prefix="other-")
    with pytest.raises(UsageError, match=r"192\.168\.56\.0/24 cannot be used: libvirt's network 'shop-backend'"):
        driver.check(other)
    driver.update(define(tmp_path))
    driver.check(other)


def test_features_follow_the_knobs_of_one_machine(driver: LibvirtDriver, tmp_path: Path) -> None:
    assert driver.features_of(define(tmp_path).spec) == driver.features
    managed = driver.features_of(define(tmp_path, knobs={"management_network": "default"}).spec)
    assert (managed.user_network, managed.nic1_address) == (False, "")
    assert driver.features_of(define(tmp_path, knobs={"user_network": "passt"}).spec).nic1_address == ""


def test_an_address_on_a_network_is_that_of_nic_1(tmp_path: Path, disk: Disk) -> None:
    driver = LibvirtDriver(Host(home=tmp_path, options={"uri": "test:///default"}))
    definition = define(tmp_path, knobs={"management_network": "default"})
    driver.create(definition, disk)
    assert driver.address("shop-web", TAG) is None
    driver.start("shop-web", TAG)
    found = driver.address("shop-web", TAG)
    driver.destroy("shop-web", TAG)
    driver.close()
    assert found is not None
    assert ipaddress.ip_address(found.host) in ipaddress.ip_network("192.168.122.0/24")
    assert found.port == 22


def test_a_dropped_connection_is_opened_again_once(driver: LibvirtDriver, tmp_path: Path, disk: Disk) -> None:
    driver.create(define(tmp_path), disk)
    driver._connection._connected().close()
    assert driver.states() == {}  # a new connection to the same file: what was made is gone with the old one


def test_a_hypervisor_that_can_not_be_asked_is_an_error(tmp_path: Path) -> None:
    driver = LibvirtDriver(Host(home=tmp_path, options={"uri": f"test://{tmp_path / 'absent.xml'}"}))
    with pytest.raises(VmctlError, match="cannot connect to libvirt at test://"):
        driver.states()


def test_a_project_stays_where_its_machines_are(tmp_path: Path, uri: str) -> None:
    assert LibvirtDriver(Host(home=tmp_path, where=uri, options={"uri": uri})).where == uri
    elsewhere = LibvirtDriver(Host(home=tmp_path, where=uri, options={"uri": "test:///default"}))
    with pytest.raises(VmctlError, match="this project's machines are at") as caught:
        elsewhere.states()
    assert uri in caught.value.hint


def test_root_has_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmctl_libvirt.libvirt_connection.os.geteuid", lambda: 0)
    with pytest.raises(VmctlError, match="does not offer qemu:///session to root"):
        LibvirtConnection("qemu:///session").run(lambda _open: None, "nothing")


@pytest.mark.parametrize(
    ("installed", "sockets", "wanted", "uid", "problem"),
    [
        (False, False, "auto", 1000, "libvirt is not installed"),
        (True, False, "auto", 0, "libvirtd does not run"),
        (True, False, "qemu:///system", 1000, "libvirtd does not run"),
        (True, False, "auto", 1000, ""),
        (True, True, "auto", 0, ""),
        (False, False, "qemu+ssh://far/system", 1000, ""),
    ],
)
def test_what_is_missing_is_told_without_connecting(
    *,
    installed: bool,
    sockets: bool,
    wanted: str,
    uid: int,
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vmctl_libvirt.libvirt_connection.os.geteuid", lambda: uid)
    found = "/usr/sbin/libvirtd" if installed else None
    monkeypatch.setattr("vmctl_libvirt.libvirt_connection.shutil.which", lambda *_words, **_named: found)
    if sockets:
        (tmp_path / "libvirt-sock").touch()
    monkeypatch.setattr(libvirt_connection, "SOCKET_DIRECTORY", tmp_path)
    assert libvirt_connection.why_unusable(wanted).startswith(problem)
    assert bool(libvirt_connection.why_unusable(wanted)) == bool(problem)


def test_the_console_is_emptied_at_each_start(driver: LibvirtDriver, tmp_path: Path, disk: Disk) -> None:
    definition = define(tmp_path)
    definition.console.write_text("an older boot\n")
    driver.create(definition, disk)
    driver.start(definition.name, TAG)
    assert definition.console.read_text() == ""
    assert driver.states()[definition.name].state is State.RUNNING


def test_a_box_with_several_disks(driver: LibvirtDriver, tmp_path: Path, disk: Disk) -> None:
    data = structs.replace(disk, digest="e" * 64, virtual_size=3 * GIB)
    driver.create(define(tmp_path), structs.replace(disk, further=(data,)))
    driver.create(define(tmp_path, name="shop-web-disk"), disk)
    pool = driver._connection.run(lambda opened: opened.storagePoolLookupByName("vmctl"), "look")
    names = [name for name in pool.listVolumes() if not name.startswith("base-")]
    assert sorted(names) == ["shop-web-disk.qcow2", "shop-web-disk2.qcow2", "shop-web.qcow2"]
    assert pool.storageVolLookupByName("shop-web-disk2.qcow2").info()[1] == 3 * GIB

    driver.update(define(tmp_path))
    domain = driver._connection.run(lambda opened: opened.lookupByName("shop-web"), "look")
    assert [Path(path).name for path in disks(domain)] == ["shop-web.qcow2", "shop-web-disk2.qcow2"]
    driver.clone(define(tmp_path, name="copy"), "shop-web", TAG)
    assert {"copy.qcow2", "copy-disk2.qcow2"} <= set(pool.listVolumes())
    driver.destroy("copy", TAG)
    driver.destroy("shop-web", TAG)
    names = [name for name in pool.listVolumes() if not name.startswith("base-")]
    assert names == ["shop-web-disk.qcow2"]


def test_snapshots_hold_all_disks(driver: LibvirtDriver, tmp_path: Path, disk: Disk) -> None:
    data = structs.replace(disk, digest="e" * 64, virtual_size=3 * GIB)
    driver.create(define(tmp_path), structs.replace(disk, further=(data,)))
    domain = driver._connection.run(lambda opened: opened.lookupByName("shop-web"), "look")
    pool = driver._connection.run(lambda opened: opened.storagePoolLookupByName("vmctl"), "look")
    first = disks(domain)
    driver.save_snapshot("shop-web", TAG, "one")
    second = disks(domain)
    assert [pool_volume(pool.storageVolLookupByName(Path(path).name)).backing for path in second] == list(first)
    assert pool.storageVolLookupByName(Path(second[1]).name).info()[1] == 3 * GIB
    driver.restore_snapshot("shop-web", TAG, "one")
    third = disks(domain)
    assert not set(third) & {*first, *second}
    assert [pool_volume(pool.storageVolLookupByName(Path(path).name)).backing for path in third] == list(first)
    names = {name for name in pool.listVolumes() if not name.startswith("base-")}
    assert names == {Path(path).name for path in (*first, *third)}
    driver.destroy("shop-web", TAG)
    assert {name for name in pool.listVolumes() if not name.startswith("base-")} == set()


@pytest.mark.parametrize("source", ["<source file='/data/mine.img'/>", "<source dev='/dev/sdz'/>"])
def test_a_disk_that_is_the_users_own_is_no_part_of_a_snapshot(
    driver: LibvirtDriver, tmp_path: Path, disk: Disk, source: str
) -> None:
    kind = "block" if "dev" in source else "file"
    added = f"<disk type='{kind}' device='disk'>{source}<target dev='vdz' bus='virtio'/>{{}}</disk>"
    text = "<domain><devices>{}</devices></domain>"
    driver.create(define(tmp_path, knobs={"xml": text.format(added.format(""))}), disk)
    with pytest.raises(WrongState, match="a disk that vmctl did not make"):
        driver.save_snapshot("shop-web", TAG, "one")
    driver.update(define(tmp_path, knobs={"xml": text.format(added.format("<readonly/>"))}))
    driver.save_snapshot("shop-web", TAG, "one")
    driver.update(define(tmp_path, knobs={"xml": text.format(added.format(""))}))
    with pytest.raises(WrongState, match="a disk that vmctl did not make"):
        driver.restore_snapshot("shop-web", TAG, "one")


def test_what_was_checked_is_what_is_removed(
    driver: LibvirtDriver, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine gets the name between the look at the tag and the act."""
    driver.create(define(tmp_path), disk)
    find_ours = machines.find_ours

    def look(connection: Any, name: str, tag: Tag) -> Any:
        found = find_ours(connection, name, tag)
        connection.lookupByName(name).undefine()
        connection.defineXML(FOREIGN.format(name=name, metadata=""))
        return found

    monkeypatch.setattr(machines, "find_ours", look)
    with pytest.raises(VmctlError):
        driver.destroy("shop-web", TAG)
    assert driver._connection.run(lambda open_: open_.lookupByName("shop-web").isPersistent(), "look")


def test_a_machine_of_others_keeps_the_disk_that_a_leftover_would_be(
    driver: LibvirtDriver, tmp_path: Path, disk: Disk
) -> None:
    driver.create(define(tmp_path), disk)
    paths = driver._connection.run(lambda open_: disks(open_.lookupByName("shop-web")), "look")
    xml = FOREIGN.format(name="theirs", metadata="").replace(
        "</os>", f"</os><devices><disk type='file'><source file='{paths[0]}'/><target dev='vda'/></disk></devices>"
    )
    driver._connection.run(lambda open_: open_.defineXML(xml), "define")
    driver.destroy("shop-web", TAG)
    assert driver._connection.run(lambda open_: open_.storageVolLookupByPath(paths[0]).name(), "look")


def test_a_folder_of_somebody_else_is_refused_with_what_to_do(
    driver: LibvirtDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmctl_libvirt.shares.offer", lambda *_given: ShareKinds(("virtiofs",)))
    monkeypatch.setattr("vmctl_libvirt.shares.os.geteuid", lambda: os.getuid() + 1)
    share = Share(tag="t", host=tmp_path, kind="virtiofs")
    definition = structs.replace(define(tmp_path), shares=(share,))
    with pytest.raises(UsageError, match=f"belongs to uid {os.getuid()}, not to you") as caught:
        driver.check(definition)
    assert "`type: rsync`" in caught.value.brief


def test_a_machine_that_runs_without_its_virtiofsd_has_a_problem_until_it_is_off(
    driver: LibvirtDriver, tmp_path: Path, disk: Disk
) -> None:
    definition = define(tmp_path)
    driver.create(definition, disk)
    driver.start(definition.name, TAG)
    live = share_locks.place(tmp_path / "home")
    live.mkdir(mode=0o700, parents=True)
    (live / f"{share_locks.prefix(definition.name)}-0.lock").touch()
    for shown in (driver.observe(definition.name), driver.states()[definition.name]):
        assert shown is not None
        assert shown.problem == share_locks.LOST
    driver.stop(definition.name, TAG, force=True)
    assert driver.states()[definition.name].problem == ""
    assert list(live.iterdir()) == []


def test_a_machine_that_goes_on_by_itself_before_it_is_told_to_is_no_failure(
    driver: LibvirtDriver, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition, libvirt = define(tmp_path), library()
    driver.create(definition, disk)
    driver.start(definition.name, definition.tag)
    resume = libvirt.virDomain.resume

    def late(domain: Any) -> int:
        resume(domain)  # by libvirt itself, once a killed vmctl's snapshot was written
        answer: int = resume(domain)
        return answer

    def set_still(connection: Any) -> None:
        connection.lookupByName(definition.name).suspend()

    driver._connection.run(set_still, "suspend")
    assert driver.states()[definition.name].state is State.PAUSED
    monkeypatch.setattr(libvirt.virDomain, "resume", late)
    driver.start(definition.name, definition.tag)
    assert driver.states()[definition.name].state is State.RUNNING


def test_a_machine_with_a_live_folder_is_frozen_also_where_libvirt_would_save_it(
    driver: LibvirtDriver, disk: Disk, tmp_path: Path
) -> None:
    share = Share(tag="t", host=tmp_path, kind="virtiofs")
    driver.create(structs.replace(define(tmp_path), shares=(share,)), disk)
    driver.create(define(tmp_path, name="shop-db"), disk)
    for name, state in (("shop-web", State.PAUSED), ("shop-db", State.SAVED)):
        driver.start(name, TAG)
        driver.suspend(name, TAG)
        assert driver.states()[name].state is state


def test_a_machine_whose_disk_could_not_be_written_says_so(
    driver: LibvirtDriver, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libvirt, definition = library(), define(tmp_path)
    driver.create(definition, disk)
    driver.start(definition.name, TAG)
    driver._connection.run(lambda connection: connection.lookupByName(definition.name).suspend(), "suspend")
    assert driver.states()[definition.name].problem == "", "by somebody's wish"
    paused = [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR]
    with monkeypatch.context() as patch:
        patch.setattr(libvirt.virDomain, "state", lambda *_: paused)
        for shown in (driver.observe(definition.name), driver.states()[definition.name]):
            assert shown is not None
            assert (shown.state, shown.problem) == (State.PAUSED, machines.UNWRITTEN)
    driver.start(definition.name, TAG)
    assert driver.states()[definition.name].problem == ""
