"""Instances that begin with the disk of another one, and with nothing else of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmctl_incus import identity

OF_THE_SERVER = ("volatile.", "image.")
"""What of a configuration the server keeps, and hands on by itself."""
OF_THE_DISK = ("security.", "raw.idmap", identity.UNSHIFTED)
"""What of a configuration says whose numbers the disk's files have."""


def source(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a request to make an instance names as its ground: another one, without its snapshots."""
    return {"type": "copy", "source": found["name"], "instance_only": True}


def only(found: Mapping[str, Any], config: Mapping[str, str], devices: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration and devices for the request, and none that the server would hand on from ``found``."""
    blank = {key: "" for key in found["config"] if not key.startswith(OF_THE_SERVER)}
    masked: dict[str, Any] = {name: {"type": "none"} for name in found["devices"]}
    return {"config": {**blank, **config}, "devices": {**masked, **devices}}


def with_own_addresses(devices: Mapping[str, Mapping[str, str]], found: Mapping[str, Any]) -> dict[str, Any]:
    """Devices without the MAC addresses that those of ``found`` have; the server chooses others.

    It starts no NIC with an address that an instance has, even one that is off.
    """
    taken = {one.get("hwaddr") for one in found["devices"].values()} - {None}
    return {
        name: {key: value for key, value in one.items() if key != "hwaddr" or value not in taken}
        for name, one in devices.items()
    }


def kept(found: Mapping[str, Any], prefixes: tuple[str, ...]) -> dict[str, str]:
    """The keys of an instance's configuration that begin so."""
    return {key: value for key, value in found["config"].items() if key.startswith(prefixes)}


def root(found: Mapping[str, Any]) -> dict[str, Any]:
    """The device with an instance's disk, by its name."""
    return {name: one for name, one in found["devices"].items() if one.get("path") == "/"}
