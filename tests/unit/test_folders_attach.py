from pathlib import Path

import pytest

from vmctl.driver import Share
from vmctl.errors import VmctlError
from vmctl.events import Event, Notice
from vmctl.folders.attach import _settle
from vmctl.folders.guest import Answer, WantedFolder
from vmctl.spec import Folder


@pytest.mark.parametrize(("exclude", "told"), [((), 0), (("node_modules",), 1)])
def test_a_live_folder_says_that_it_excludes_nothing(exclude: tuple[str, ...], told: int) -> None:
    folder = Folder(host=Path("/src"), guest="/project", exclude=exclude)
    wanted = WantedFolder(folder=folder, share=Share(tag="t", host=folder.host, kind="virtiofs"))
    events: list[Event] = []
    assert _settle("web", wanted, Answer(said={"mounted": ""}), events.append) == "virtiofs"
    assert len(events) == told
    for event in events:
        assert isinstance(event, Notice)
        assert "`exclude` has no effect" in event.text


def test_a_vboxsf_that_can_not_mount_falls_back_to_a_copy_unless_it_was_asked_for() -> None:
    folder = Folder(host=Path("/src"), guest="/project")
    wanted = WantedFolder(folder=folder, share=Share(tag="t", host=folder.host, kind="vboxsf"))
    answer = Answer(said={"refused": "Protocol error", "copy": ""})
    events: list[Event] = []
    assert _settle("web", wanted, answer, events.append) == "rsync"
    (event,) = events
    assert isinstance(event, Notice)
    assert "/project is a copy (the guest cannot mount vboxsf: Protocol error)" in event.text
    folder = Folder(host=Path("/src"), guest="/project", kind="vboxsf")
    wanted = WantedFolder(folder=folder, share=wanted.share)
    with pytest.raises(VmctlError, match="cannot mount vboxsf: Protocol error"):
        _settle("web", wanted, answer, events.append)
