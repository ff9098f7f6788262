from pathlib import Path

import pytest
from msgspec import structs

from vmctl.driver import Features, Share
from vmctl.errors import VmctlError
from vmctl.events import Event, Notice
from vmctl.folders.attach import _result
from vmctl.folders.guest import Answer, WantedFolder
from vmctl.spec import Folder

NOTHING = Features(formats=("qcow2",), folders=())


@pytest.mark.parametrize(("exclude", "shown"), [((), 0), (("node_modules",), 1)])
def test_a_live_folder_says_that_it_excludes_nothing(exclude: tuple[str, ...], shown: int) -> None:
    folder = Folder(host=Path("/src"), guest="/project", exclude=exclude)
    wanted = WantedFolder(folder=folder, share=Share(tag="t", host=folder.host, kind="virtiofs"))
    events: list[Event] = []
    assert _result("web", wanted, Answer(words={"mounted": ""}), NOTHING, events.append) == "virtiofs"
    assert len(events) == shown
    for event in events:
        assert isinstance(event, Notice)
        assert "`exclude` has no effect" in event.text


def test_a_vboxsf_that_can_not_mount_falls_back_to_a_copy_unless_it_was_asked_for() -> None:
    folder = Folder(host=Path("/src"), guest="/project")
    wanted = WantedFolder(folder=folder, share=Share(tag="t", host=folder.host, kind="vboxsf"))
    answer = Answer(words={"refused": "Protocol error", "copy": ""})
    events: list[Event] = []
    assert _result("web", wanted, answer, NOTHING, events.append) == "rsync"
    (event,) = events
    assert isinstance(event, Notice)
    assert "/project is a copy (the guest cannot mount vboxsf: Protocol error)" in event.text
    folder = Folder(host=Path("/src"), guest="/project", kind="vboxsf")
    wanted = WantedFolder(folder=folder, share=wanted.share)
    with pytest.raises(VmctlError, match="cannot mount vboxsf: Protocol error"):
        _result("web", wanted, answer, NOTHING, events.append)


def test_a_copy_in_place_of_a_live_folder_says_why_and_what_would_change_that() -> None:
    folder = Folder(host=Path("/src"), guest="/project")
    features = structs.replace(NOTHING, no_folders="there is no virtiofsd", folders_by="sudo apt-get install virtiofsd")
    events: list[Event] = []
    assert _result("web", WantedFolder(folder=folder), Answer(words={"copy": ""}), features, events.append) == "rsync"
    (event,) = events
    assert isinstance(event, Notice)
    assert "/project is a copy (there is no virtiofsd)" in event.text
    assert event.text.endswith("to have it live: sudo apt-get install virtiofsd")
