"""A real cluster of three members: where machines are, and what is told of those on a member that is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec import structs

from tests.contract.contract_parts import make_definition
from tests.host import lxd_cluster, small_image
from tests.host.lxd_cluster import Cluster
from vmctl.driver import UNTOLD, Definition, Host, Observed, State
from vmctl.errors import WrongState
from vmctl.wait import Deadline, until
from vmctl_incus import IncusDriver
from vmctl_incus.handle import find
from vmctl_incus.observation import MemberOffline

pytestmark = pytest.mark.integration
NAME = "lab-web_1-01234567"
"""Not a name that the server could have."""


@pytest.fixture(scope="module")
def cluster(private_host: Path) -> Cluster:
    return lxd_cluster.started(private_host)


class TestAMemberThatIsAway:
    @pytest.fixture
    def definition(self, tmp_path: Path) -> Definition:
        return structs.replace(make_definition(tmp_path, port=18022), name=NAME)

    @pytest.fixture
    def there(self, cluster: Cluster, tmp_path: Path, definition: Definition) -> Iterator[IncusDriver]:
        driver = IncusDriver(Host(home=tmp_path / "home", options={"url": f"unix://{cluster.b.socket}"}))
        driver.create(definition, small_image.make(tmp_path))
        yield driver
        driver.destroy(definition.name, definition.tag)

    @pytest.fixture
    def here(self, cluster: Cluster, tmp_path: Path) -> IncusDriver:
        return IncusDriver(Host(home=tmp_path / "home", options={"url": f"unix://{cluster.a.socket}"}))

    def test_its_machines_are_unknown_and_nothing_is_done_to_them(
        self, cluster: Cluster, there: IncusDriver, here: IncusDriver, definition: Definition
    ) -> None:
        assert here.states()[NAME].state is State.STOPPED
        with cluster.dead(cluster.b):
            (listed,) = here.states().values()
            seen = here.observe(NAME)
            assert seen == listed
            assert (listed.state, listed.tag, listed.raw) == (State.UNKNOWN, UNTOLD, "member b does not answer")
            for act in (here.destroy, here.start, here.stop):
                with pytest.raises(MemberOffline, match="cluster member b"):
                    act(NAME, definition.tag)
            with pytest.raises(MemberOffline):
                here.check(definition)
        until(lambda: NAME in here.states(), Deadline.after(20), "member b")
        assert here.observe(NAME) == Observed(state=State.STOPPED, tag=definition.tag, raw="Stopped", member="b")

    def test_one_that_is_cut_off_is_away_within_half_a_minute(
        self, cluster: Cluster, there: IncusDriver, here: IncusDriver, definition: Definition
    ) -> None:
        before = here.states()
        with cluster.cut_off(cluster.b):
            began = time.monotonic()
            (listed,) = here.states().values()
            took = time.monotonic() - began
            assert listed == Observed(state=State.UNKNOWN, tag=UNTOLD, raw="member b does not answer", member="b")
            assert here.observe(NAME) == listed
            assert took < 30
            for act in (here.destroy, here.start, here.stop):
                with pytest.raises(MemberOffline, match="cluster member b"):
                    act(NAME, definition.tag)
            with pytest.raises(MemberOffline):
                here.create(definition, small_image.make(here._host.home))
        until(lambda: here.states() == before, Deadline.after(30), "member b")

    def test_one_made_anew_by_somebody_else_is_not_changed(
        self, there: IncusDriver, cluster: Cluster, definition: Definition
    ) -> None:
        seen = find(there._api, NAME, definition.tag)
        assert seen is not None
        cluster.b.client("copy", seen.name, "another")
        cluster.b.client("delete", seen.name)
        cluster.b.client("rename", "another", seen.name)
        changes: list[Callable[[], None]] = [
            lambda: seen.patch({"user.x": "1"}),
            lambda: seen.put(lambda _found: {"config": {}}),
            seen.delete,
        ]
        for change in changes:
            with pytest.raises(WrongState, match="another machine has its name"):
                change()
        assert cluster.b.client("config", "get", seen.name, "user.x") == "\n"
