"""NoCloud's three files, for boxes that have cloud-init.

cloud-init reads the seed anew at every boot. What is per boot (network, hostname, growing the root file system) follows
the Vmfile with ``vmctl reload``; what is per instance (user, keys) runs again when the instance id changes.

Which of cloud-init's modules run is the box's choice: another's box may rely on what it runs.
All three files are JSON, which is YAML: nothing is ever pasted into a template.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vmctl.key_pairs import public_path
from vmctl.seed.guest_identity import GuestIdentity
from vmctl.store.files import read

# Run by sh with the gid as $1 and the user's name as $2.
MAKE_GROUP = 'getent group "$1" >/dev/null || groupadd --gid "$1" "$2"'


def files(identity: GuestIdentity) -> dict[str, bytes]:
    """The three files, by name."""
    return {
        "user-data": b"#cloud-config\n" + _dump(user_data(identity)),
        "meta-data": _dump({"instance-id": identity.instance, "local-hostname": identity.hostname}),
        "network-config": _dump(network_config(identity)),
    }


def user_data(identity: GuestIdentity) -> dict[str, Any]:
    """The cloud-config: who may log in, which host key proves the machine, what it is called."""
    host_public = read(public_path(identity.host_key)).decode("ascii").strip()
    uid, gid = identity.uid, identity.gid
    other_group = None if gid == uid else gid
    make_group = {} if other_group is None else {"bootcmd": [["sh", "-c", MAKE_GROUP, "sh", str(gid), identity.user]]}
    return {
        **make_group,
        "users": [_login(identity.user, identity.public_key, uid=uid, gid=other_group)],
        "disable_root": True,
        "ssh_deletekeys": True,
        "ssh_genkeytypes": ["ed25519"],  # none is generated beside a given one; the list must not be empty
        "ssh_keys": {"ed25519_private": read(identity.host_key).decode("ascii"), "ed25519_public": host_public},
        "preserve_hostname": False,
        "hostname": identity.short_name,
        "fqdn": identity.hostname,
        "manage_etc_hosts": "localhost",  # keeps one line right; True would undo the users' own lines at each boot
        "growpart": {"mode": "auto", "devices": ["/"], "ignore_growroot_disabled": False},
        "resize_rootfs": True,
        "package_update": False,
        "package_upgrade": False,
        "updates": {"network": {"when": ["boot"]}},
    }


def _login(user: str, public_key: str, *, uid: int | None, gid: int | None) -> dict[str, Any]:
    numbers: dict[str, int | str] = {}
    if uid is not None:
        numbers["uid"] = uid
    if gid is not None:
        numbers["primary_group"] = str(gid)  # useradd takes a number; bootcmd made the group where it was missing
    return {
        "name": user,
        "gecos": "vmctl login user",
        "shell": "/bin/bash",
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "lock_passwd": True,
        "ssh_authorized_keys": [public_key],
        **numbers,
    }


def network_config(identity: GuestIdentity) -> dict[str, Any]:
    """Netplan's format, version 2: NIC 1 as the driver says, further NICs static and never waited for.

    NICs are told by MAC address and called eth0, eth1… on every box and provider, so that playbooks can rely on it.
    """
    ethernets = {"eth0": {**_matched(identity.definition.mac, "eth0"), **_first_nic(identity)}}
    for number, nic in enumerate(identity.definition.nics, start=1):
        name = f"eth{number}"
        address = {"addresses": [f"{nic.ip}/{nic.prefix}"], "dhcp4": False, "optional": True, "link-local": []}
        ethernets[name] = {**_matched(nic.mac, name), **address}
    return {"version": 2, "ethernets": ethernets}


def _matched(mac: str, name: str) -> dict[str, Any]:
    return {"match": {"macaddress": mac.lower()}, "set-name": name}


def _first_nic(identity: GuestIdentity) -> dict[str, Any]:
    features = identity.features
    if not features.nic1_address:
        return {"dhcp4": True}
    settings: dict[str, Any] = {
        "addresses": [features.nic1_address],
        "dhcp4": False,
        "dhcp6": False,
        "accept-ra": False,
        "link-local": [],  # duplicate address detection alone takes a second
        "routes": [{"to": "0.0.0.0/0", "via": features.nic1_gateway}],
    }
    if identity.name_server:
        settings["nameservers"] = {"addresses": [identity.name_server]}
    return settings


def _dump(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
