"""Folders of containers on file systems that cannot be mounted with other owners."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tests.contract.contract_parts import make_definition
from vmctl.driver import Definition, Share
from vmctl_incus import folders, instance, other_hosts
from vmctl_incus.api import Api
from vmctl_incus.creation import RequestBuilder
from vmctl_incus.folders import Memory
from vmctl_incus.requesting import Endpoint

ABLE = {"kernel_features": {"idmapped_mounts": "true"}, "kernel_version": "6.1", "server_version": "5.0.2"}


def an_api(**environment: Any) -> Api:
    api = Api(Endpoint(url="unix:///s", socket=Path("/s")), "default")
    api.__dict__["server"] = {"environment": ABLE | environment}
    return api


@pytest.fixture
def definition(tmp_path: Path) -> Definition:
    share = Share(tag="project", host=tmp_path, kind="bind")
    return structs.replace(make_definition(tmp_path), shares=(share,))


@pytest.fixture(autouse=True)
def a_server_with_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "profile_devices", lambda *_: {"root": {"type": "disk", "path": "/", "pool": "p"}})
    monkeypatch.setattr(other_hosts, "is_local", lambda *_: True)
    monkeypatch.setattr(folders, "_is_given", lambda *_: True)


def test_what_could_not_be_mounted_once_is_not_tried_again(tmp_path: Path, definition: Definition) -> None:
    memory = Memory(an_api(), tmp_path / "home" / "known")
    first = RequestBuilder(an_api(), memory).parts(definition, 1)
    assert first["devices"]["project"]["shift"] == "true"
    for _ in range(2):
        memory.add(first["devices"])
    assert len(memory.path.read_text().splitlines()) == 1
    second = RequestBuilder(an_api(), memory).parts(definition, 1)
    assert "shift" not in second["devices"]["project"]
    owner = tmp_path.stat().st_uid
    assert second["config"].get("raw.idmap", "") == (f"uid {owner} {owner}\ngid {owner} {owner}" if owner else "")


def test_another_kernel_or_server_tries_again(tmp_path: Path, definition: Definition) -> None:
    memory = Memory(an_api(), tmp_path / "known")
    devices = RequestBuilder(an_api(), memory).parts(definition, 1)["devices"]
    memory.add(devices)
    assert memory.holds(devices)
    assert not memory.holds({"root": {"type": "disk", "path": "/"}})
    for other in ({"kernel_version": "6.12"}, {"server_version": "6.0"}):
        assert not structs.replace(memory, api=an_api(**other)).holds(devices)


def test_a_folder_that_is_gone_is_no_reason_to_fail(tmp_path: Path) -> None:
    memory = Memory(an_api(), tmp_path / "known")
    assert not memory.holds({"project": {"source": str(tmp_path / "gone"), "shift": "true"}})
