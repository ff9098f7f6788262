"""A server whose answers have another shape than the API's: it could not be asked, and no machine is absent for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_incus_api import TAG, error, serving, sync
from vmctl.driver import Host
from vmctl.errors import Unreachable, VmctlError
from vmctl_incus import IncusDriver, shapes

CONFIG = {
    "user.vmctl.project": TAG.project, "user.vmctl.machine": "web", "user.vmctl.name": "web", "user.vmctl.version": "0",
}  # fmt: skip
WEB = {
    "name": "web", "status": "Running", "location": "none", "type": "container", "config": CONFIG,
    "devices": {"ssh": {"type": "proxy", "listen": "tcp:127.0.0.1:2222", "connect": "tcp:127.0.0.1:22"}},
}  # fmt: skip
LAYER = {**WEB, "name": "vmctl-layer-" + "a" * 24, "config": {**CONFIG, "user.vmctl.layer": "a" * 64}}
SNAPSHOT = {"name": "vmctl-1", "created_at": "2026-01-01T00:00:00Z", "config": CONFIG, "size": 3}
IMAGE = {"fingerprint": "a" * 64, "properties": {"user.vmctl.box": "x"}, "size": 5, "type": "container"}
SOUND: dict[str, Any] = {
    "/1.0": {"auth": "trusted", "api_extensions": ["a"], "environment": {"server": "incus", "kernel_features": {}}},
    "/1.0/instances": [WEB, LAYER], "/1.0/instances/web": WEB, "/1.0/instances/web/snapshots": [SNAPSHOT],
    "/1.0/images": [IMAGE], "/1.0/operations": {"running": []},
}  # fmt: skip
WRONG = [True, -1, 1e300, "x", [1], ["x"], [[]], {"a": 1}]
ACTS: dict[str, Callable[[IncusDriver], object]] = {
    "states": lambda driver: driver.states(), "observe": lambda driver: driver.observe("web"),
    "address": lambda driver: driver.address("web", TAG), "layers": lambda driver: driver.layers(),
    "box_copies": lambda driver: driver.box_copies(), "snapshots": lambda driver: driver.snapshots("web", TAG),
    "usable": lambda driver: driver.usable(),
}  # fmt: skip


def damaged(value: Any) -> Iterator[Any]:
    """The value with each part of it, one at a time, replaced by what does not belong there."""
    yield from WRONG
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        for other in damaged(inner):
            copy = json.loads(json.dumps(value))
            copy[key] = other
            yield copy


@pytest.mark.parametrize("act", ACTS)
def test_whatever_comes_the_driver_answers_or_says_why_not(tmp_path: Path, act: str) -> None:
    page: dict[str, Any] = {}
    asked: set[str] = set()

    def answer(_method: str, path: str) -> tuple[int, bytes]:
        asked.add(path)
        found = page.get(path, SOUND.get(path))
        return error(404, "not found") if found is None else sync(found)

    with serving(tmp_path, answer) as (path, _):

        def done() -> object:
            return ACTS[act](IncusDriver(Host(home=tmp_path, options={"url": f"unix://{path}"})))

        done()
        for place in sorted(asked & SOUND.keys()):
            for value in damaged(SOUND[place]):
                page = {place: value}
                try:
                    done()
                except VmctlError:
                    continue


@pytest.mark.parametrize("listed", [{}, {"web": WEB}, "nothing", [WEB, "web"], [WEB, None], [{**WEB, "status": None}]])
def test_a_list_that_is_none_is_no_empty_list(tmp_path: Path, listed: Any) -> None:
    answers = {**SOUND, "/1.0/instances": listed}
    with serving(tmp_path, lambda _method, path: sync(answers[path])) as (path, _):
        driver = IncusDriver(Host(home=tmp_path, options={"url": f"unix://{path}"}))
        with pytest.raises(Unreachable) as caught:
            driver.states()
    assert "not an answer of the API" in caught.value.details


def test_what_servers_really_say_is_right() -> None:
    old = {"auth": "trusted", "config": {"core.trust_password": True}}
    for path, value in {**SOUND, "/1.0": old, "/1.0/storage-pools": ["/x"], "/1.0/profiles/images": {}}.items():
        assert shapes.problem(path, value) == ""
        assert shapes.problem(path, None) == "", "a list without anything in it, as Go writes it"
