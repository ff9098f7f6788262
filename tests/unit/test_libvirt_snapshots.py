"""What vmctl writes of snapshots into a domain, how chains of overlays get short again, and edits of a domain."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from vmctl.driver import Tag
from vmctl_libvirt import domain_edit, snapshot_tree
from vmctl_libvirt.domain_edit import Edit
from vmctl_libvirt.domain_mark import DomainMark
from vmctl_libvirt.layer_storage import Overlay
from vmctl_libvirt.snapshot_tree import SnapshotNode, SnapshotTree
from vmctl_libvirt.snapshots import is_grounded, joinable, needed

TEXT = st.text(
    st.characters(min_codepoint=32, exclude_categories=["Cs"], exclude_characters="\ufffe\uffff"), max_size=9
)


def node(
    name: str, parent: str = "", *, disks: tuple[str, ...] = (), memory: bool = False, note: str = ""
) -> SnapshotNode:
    return SnapshotNode(
        id="0a1b2c3d", name=name, parent=parent, date=1.5, memory=memory, disks=disks or (f"/{name}",), note=note
    )


@given(name=TEXT, note=TEXT, memory=st.booleans())
def test_what_is_written_comes_back(name: str, note: str, memory: bool) -> None:  # noqa: FBT001  hypothesis
    tree = SnapshotTree(
        (node(name, memory=memory, note=note), node("child", name, disks=("/a", "/b", "/c"))), current="child"
    )
    for qualified in (True, False):
        assert (
            snapshot_tree.parse(ET.tostring(snapshot_tree.element(tree, qualified=qualified), encoding="unicode"))
            == tree
        )


def test_a_new_snapshot_builds_on_the_present_one() -> None:
    tree = SnapshotTree().with_node(node("a")).with_node(node("b"))
    assert [(each.name, each.parent) for each in tree.nodes] == [("a", ""), ("b", "a")]
    assert tree.current == "b"


def test_one_in_place_of_an_older_one_leaves_what_built_on_that() -> None:
    tree = SnapshotTree((node("a"), node("b", "a"), node("c", "b")), current="b")
    again = tree.with_node(node("b"))
    assert [(each.name, each.parent) for each in again.nodes] == [("a", ""), ("c", "a"), ("b", "a")]


def test_a_forgotten_one_hands_its_children_to_its_parent() -> None:
    tree = SnapshotTree((node("a"), node("b", "a"), node("c", "b")), current="b")
    assert tree.without("b") == SnapshotTree((node("a"), node("c", "a")), current="a")
    assert tree.without("nobody") is tree


def chain(*pairs: tuple[str, str]) -> dict[str, Overlay]:
    return {path: Overlay(path, below, 0) for path, below in pairs}


def test_what_nothing_stands_on_is_not_needed() -> None:
    present = chain(("/a", "/base"), ("/b", "/a"), ("/top", "/a"), ("/lost", "/a"))
    tree = SnapshotTree((node("b"),))
    assert needed(present, tree, ["/top"]) == {"/a", "/b", "/top"}


@pytest.mark.parametrize(
    ("named", "pair"),
    [
        ((), ("/a", "/b")),
        (("a",), ("/b", "/top")),
        (("b",), ("/a", "/b")),
        (("a", "b"), None),
    ],
)
def test_the_lowest_overlay_without_a_name_takes_in_what_stands_on_it(
    named: tuple[str, ...], pair: tuple[str, str] | None
) -> None:
    present = chain(("/a", "/base"), ("/b", "/a"), ("/top", "/b"))
    tree = SnapshotTree(tuple(node(name) for name in named))
    assert joinable(present, tree, ["/top"]) == pair


def test_nothing_is_deleted_where_an_overlay_stands_on_what_is_not_known() -> None:
    present = chain(("/a", "/pool/base-0123-4567.qcow2"), ("/top", "/a"))
    assert is_grounded(present, {"/a", "/top"})
    assert not is_grounded(chain(("/top", "/gone")), {"/top"})


def test_an_overlay_with_several_on_it_stays() -> None:
    present = chain(("/a", "/base"), ("/b", "/a"), ("/top", "/a"))
    assert joinable(present, SnapshotTree((node("b"),)), ["/top"]) is None


DOMAIN = """\
<domain type='kvm'>
  <name>web</name>
  <metadata>
    <vmctl:machine xmlns:vmctl='urn:x-vmctl:machine:1' project='p' machine='web' run='old' ssh='127.0.0.1:2222'/>
  </metadata>
  <devices>
    <disk type='file' device='disk'>
      <source file='/old' index='2'/><backingStore type='file'><source file='/base'/></backingStore><target dev='vda'/>
    </disk>
    <disk type='file' device='disk'><source file='/seed'/><target dev='vdb'/><readonly/></disk>
  </devices>
  <commandline xmlns='http://libvirt.org/schemas/domain/qemu/1.0'><arg value='-netdev'/></commandline>
</domain>
"""


def test_an_edit_changes_what_it_names_and_nothing_else() -> None:
    mark = domain_edit.mark_in(DOMAIN)
    assert mark is not None
    assert (mark.tag.machine, mark.run, mark.resume) == ("web", "old", "")
    tree = SnapshotTree((node("a & b"),), current="a & b")
    new = DomainMark(
        tag=Tag(project="p", machine="web", version=""), ssh=None, mac="", arch="", firmware="", resume="/memory"
    )
    text = Edit(disks=("/new",), mark=new, tree=tree).applied_to(DOMAIN)
    assert domain_edit.mark_in(text) == new
    root = ET.fromstring(text)  # noqa: S314  our own
    assert [source.get("file") for source in root.iterfind("devices/disk/source")] == ["/new", "/seed"]
    assert root.find("devices/disk/backingStore") is None
    elsewhere = structs.replace(new, ssh_port=2222)
    assert domain_edit.mark_in(Edit(mark=elsewhere).applied_to(DOMAIN)) == elsewhere
    assert snapshot_tree.parse(ET.tostring(root.findall("metadata/*")[1], encoding="unicode")) == tree
    assert 'xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0"' in text
    again = Edit(tree=SnapshotTree()).applied_to(text)
    assert len(ET.fromstring(again).findall("metadata/*")) == 2  # noqa: S314  mark and tree


def test_what_others_stand_on_is_never_written_into() -> None:
    lower, upper = Overlay("/lower", "/base-x", 1), Overlay("/upper", "/lower", 1)
    assert joinable({"/lower": lower, "/upper": upper}, SnapshotTree(), ["/upper"]) == ("/lower", "/upper")
    pinned = Overlay("/lower", "/base-x", 1, pinned=True)
    assert joinable({"/lower": pinned, "/upper": upper}, SnapshotTree(), ["/upper"]) is None


def test_layers_are_ground_to_stand_on() -> None:
    present = {"/top": Overlay("/top", f"/pool/layer-{'a' * 64}-1.qcow2", 1)}
    assert is_grounded(present, ["/top"])
    assert not is_grounded({"/top": Overlay("/top", "/elsewhere", 1)}, ["/top"])
