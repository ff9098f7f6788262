import pytest

from vmctl.errors import VmctlError
from vmctl.lifecycle.fleet import named


@pytest.mark.parametrize(
    ("brief", "expected"),
    [
        ("the disk is full", "web: the disk is full"),
        ("machine web is locked", "machine web is locked"),
        ("web: no SSH", "web: no SSH"),
        ("can not read /srv/web/site", "web: can not read /srv/web/site"),
        ("machine web-1 is off", "web: machine web-1 is off"),
    ],
)
def test_an_error_names_its_machine_once(brief: str, expected: str) -> None:
    assert named(VmctlError(brief), "web").brief == expected
