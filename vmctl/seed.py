"""The NoCloud seed: a small ISO image (label ``cidata``) that tells cloud-init who and what a machine is.

cloud-init reads it anew at every boot. What is per boot (network, hostname, growing the root file system) follows
the Vmfile with ``vmctl reload``; what is per instance (user, keys) runs again when the instance id changes, so the
id is made of exactly those values.

Which of cloud-init's modules run is the box's choice: vmctl's own boxes run few, another's may rely on what it runs.
All three files are JSON, which is YAML: nothing is ever pasted into a template.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from vmctl.driver import Definition, Features
from vmctl.keys import ensure, public_path
from vmctl.store import files

LABEL = "cidata"
RESOLV_CONF = Path("/etc/resolv.conf")
ISO_NAMES = {"user-data": "/USERDATA.;1", "meta-data": "/METADATA.;1", "network-config": "/NETCONF.;1"}

# Run by sh with the gid as $1 and the user's name as $2.
MAKE_GROUP = 'getent group "$1" >/dev/null || groupadd --gid "$1" "$2"'


def write(
    path: Path,
    *,
    definition: Definition,
    features: Features,
    user: str,
    public_key: str,
    host_key: Path,
    uid: int | None = None,
    gid: int | None = None,
    first_boots: int = 0,
    resolv_conf: Path = RESOLV_CONF,
) -> bool:
    """Write the seed of one machine; an image that says the same already is left alone.

    Args:
        path: the ISO image; private (0600), for it holds the guest's host key.
        definition: the machine.
        features: what its driver says of NIC 1.
        user: the login user that cloud-init makes, with passwordless sudo and a locked password.
        public_key: the key that may log in as ``user``, one line.
        host_key: the guest's private SSH host key (ed25519).
        uid: number of ``user``; None = the guest's choice. Without effect where the box has the user already.
        gid: number of the user's primary group; None = a group of its own, with the uid's number where it is free.
        first_boots: how often the machine was started again before its first boot was known to be on its disk; a new
            number makes cloud-init do its per-instance part again.
        resolv_conf: the host's; without a name server there, the guest gets none to wait for.

    Returns:
        Whether the image changed.
    """
    content = {
        "user-data": "#cloud-config\n"
        + _dump(user_data(definition, user=user, public_key=public_key, host_key=host_key, uid=uid, gid=gid)),
        "meta-data": _dump(meta_data(definition, identity=(user, public_key, ensure(host_key), uid, gid, first_boots))),
        "network-config": _dump(network_config(definition, features, dns=has_name_server(resolv_conf))),
    }
    if path.exists() and read(path) == content:
        return False
    files.write(path, _iso(content))
    return True


def user_data(
    definition: Definition, *, user: str, public_key: str, host_key: Path, uid: int | None, gid: int | None
) -> dict[str, Any]:
    """The cloud-config: who may log in, which host key proves the machine, what it is called."""
    host_public = public_path(host_key).read_text(encoding="ascii").strip()
    hostname = definition.spec.hostname or definition.spec.name
    other_group = None if gid == uid else gid
    make_group = {} if other_group is None else {"bootcmd": [["sh", "-c", MAKE_GROUP, "sh", str(gid), user]]}
    return {
        **make_group,
        "users": [_login(user, public_key, uid=uid, gid=other_group)],
        "disable_root": True,
        "ssh_deletekeys": True,
        "ssh_genkeytypes": ["ed25519"],  # none is generated beside a given one; the list must not be empty
        "ssh_keys": {"ed25519_private": host_key.read_text(encoding="ascii"), "ed25519_public": host_public},
        "preserve_hostname": False,
        "hostname": hostname.partition(".")[0],
        "fqdn": hostname,
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


def meta_data(definition: Definition, *, identity: tuple[object, ...]) -> dict[str, str]:
    """The instance: a new id makes cloud-init run its per-instance part again.

    ``identity`` holds all that this part depends on, so a disk that was copied into another machine (a box packaged
    from this one) gets that machine's user and keys, and a restart of the same machine costs nothing.
    """
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    tag = definition.tag
    return {
        "instance-id": f"{tag.machine}-{tag.project[:8]}-{digest[:16]}",
        "local-hostname": definition.spec.hostname or definition.spec.name,
    }


def network_config(definition: Definition, features: Features, *, dns: bool) -> dict[str, Any]:
    """Netplan's format, version 2: NIC 1 as the driver says, further NICs static and never waited for.

    NICs are told by MAC address and called eth0, eth1… on every box and provider, so that playbooks can rely on it.
    """
    ethernets = {"eth0": {**_matched(definition.mac, "eth0"), **_first_nic(features, dns=dns)}}
    for number, nic in enumerate(definition.nics, start=1):
        name = f"eth{number}"
        address = {"addresses": [f"{nic.ip}/{nic.prefix}"], "dhcp4": False, "optional": True, "link-local": []}
        ethernets[name] = {**_matched(nic.mac, name), **address}
    return {"version": 2, "ethernets": ethernets}


def _matched(mac: str, name: str) -> dict[str, Any]:
    return {"match": {"macaddress": mac.lower()}, "set-name": name}


def _first_nic(features: Features, *, dns: bool) -> dict[str, Any]:
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
    if dns and features.nic1_dns:
        settings["nameservers"] = {"addresses": [features.nic1_dns]}
    return settings


def has_name_server(resolv_conf: Path) -> bool:
    """Whether the host can resolve names, as far as its resolv.conf tells.

    NIC 1's name server is the host's own, passed on: where the host has none, each lookup in the guest would wait.
    """
    try:
        lines = resolv_conf.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    words = [line.split() for line in lines]
    return any(len(entry) > 1 and entry[0] == "nameserver" and _is_address(entry[1]) for entry in words)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _iso(content: Mapping[str, str]) -> bytes:
    from pycdlib import PyCdlib

    iso = PyCdlib()
    iso.new(interchange_level=3, vol_ident=LABEL, joliet=3, rock_ridge="1.09")
    for name, text in content.items():
        data = text.encode()
        iso.add_fp(BytesIO(data), len(data), ISO_NAMES[name], rr_name=name, joliet_path=f"/{name}")
    image = BytesIO()
    iso.write_fp(image)
    iso.close()
    return image.getvalue()


def read(path: Path) -> dict[str, str]:
    """The files in a seed, by name; empty where the image is damaged or no seed of ours."""
    from pycdlib import PyCdlib
    from pycdlib.pycdlibexception import PyCdlibException

    iso = PyCdlib()
    found = {}
    try:
        iso.open(str(path))
        for name in ISO_NAMES:
            data = BytesIO()
            iso.get_file_from_iso_fp(data, rr_path=f"/{name}")
            found[name] = data.getvalue().decode()
        iso.close()
    except (PyCdlibException, UnicodeDecodeError):
        return {}
    return found
