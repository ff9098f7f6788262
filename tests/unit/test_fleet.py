import pytest

from vmctl.errors import VmctlError
from vmctl.lifecycle.fleet import FleetFailed, Outcome, named
from vmctl.provision.failure import TasksFailed
from vmctl.provision.summary import HostResult, Status, Summary


@pytest.mark.parametrize(
    ("brief", "expected"),
    [
        ("the disk is full", "web: the disk is full"),
        ("machine web is locked", "machine web is locked"),
        ("web: no SSH", "web: no SSH"),
        ("cannot read /srv/web/site", "web: cannot read /srv/web/site"),
        ("machine web-1 is off", "web: machine web-1 is off"),
    ],
)
def test_an_error_names_its_machine_once(brief: str, expected: str) -> None:
    assert named(VmctlError(brief), "web").brief == expected


def test_what_went_wrong_in_a_fleet_names_every_machine_with_its_cause() -> None:
    rows = {name: HostResult(status=Status.FAILED) for name in ("web", "db")}
    summary = Summary({**rows, "mail": HostResult()})
    brief = "provisioner 'site': ansible-playbook could not run site.yml"
    common = TasksFailed(brief, summary, details="no such role")
    outcome = Outcome(done=["web", "db", "mail"], failed={"cache": VmctlError("the disk is full")})
    outcome.provisioning.append(common)
    outcome.add_provisioned(summary)
    with pytest.raises(FleetFailed) as caught:
        outcome.raise_failure()
    assert caught.value.details.splitlines() == [
        "cache: the disk is full",
        "web, db: provisioner 'site': ansible-playbook could not run site.yml",
        "no such role",
    ]
