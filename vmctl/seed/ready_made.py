"""Ready-made files, for boxes of vmctl's own: their ``vmctl-seed`` unit only has to copy them.

They lie in the directory ``vmctl`` of the seed, one value or one whole file each. The unit's script
(``boxes/vmctl_boxes/debian-12/root/usr/lib/vmctl/seed``) is the other side of this module.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from vmctl.key_pairs import public_path
from vmctl.seed.guest_identity import GuestIdentity
from vmctl.store.files import read

DIRECTORY = "vmctl"
RANDOM = f"{DIRECTORY}/random-seed"
RANDOM_BYTES = 512
"""As many as systemd keeps."""
SUMS = "SHA256SUMS"


def files(identity: GuestIdentity, random: bytes) -> dict[str, bytes]:
    """The files, by path in the seed.

    Args:
        identity: what the guest is to be.
        random: ``RANDOM_BYTES`` for its random number generator, used once.
    """
    texts = {**_per_instance(identity), **_per_boot(identity)}
    made = {name: text.encode() for name, text in texts.items()} | {"random-seed": random}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(made.items()))
    return {f"{DIRECTORY}/{name}": data for name, data in {**made, SUMS: sums.encode()}.items()}


def _per_instance(identity: GuestIdentity) -> dict[str, str]:
    """Taken once by each instance."""
    numbers = {"uid": identity.uid, "gid": identity.gid}
    return {
        "instance-id": f"{identity.instance}\n",
        "machine-id": f"{hashlib.sha256(f'machine-id {identity.instance}'.encode()).hexdigest()[:32]}\n",
        "user": f"{identity.user}\n",
        **{name: f"{number}\n" for name, number in numbers.items() if number is not None},
        "authorized_keys": f"{identity.public_key}\n",
        "ssh_host_ed25519_key": read(identity.host_key).decode("ascii"),
        "ssh_host_ed25519_key.pub": read(public_path(identity.host_key)).decode("ascii"),
    }


def _per_boot(identity: GuestIdentity) -> dict[str, str]:
    """Taken at every boot, so that they follow the Vmfile."""
    names = dict.fromkeys((identity.hostname, identity.short_name))
    return {
        "hostname": f"{identity.short_name}\n",
        "hosts": f"127.0.1.1\t{' '.join(names)}\n",
        **_name_server(identity),
        **{f"network/{name}": text for name, text in _network(identity).items()},
    }


def _name_server(identity: GuestIdentity) -> dict[str, str]:
    """/etc/resolv.conf, where NIC 1 is static; elsewhere DHCP tells, and systemd-resolved is asked."""
    if not identity.features.nic1_address:
        return {}
    line = f"nameserver {identity.name_server}" if identity.name_server else "# The host has no name server."
    return {"resolv.conf": f"{line}\n"}


def _network(identity: GuestIdentity) -> dict[str, str]:
    """What systemd-udevd and systemd-networkd are told: names by MAC address, and what each NIC is to be."""
    definition = identity.definition
    nics = [(definition.mac, _first_nic(identity))]
    nics += [(nic.mac, _static(f"{nic.ip}/{nic.prefix}")) for nic in definition.nics]
    made: dict[str, str] = {}
    for number, (mac, network) in enumerate(nics):
        match = {"MACAddress": mac.lower()}
        name = f"10-vmctl-eth{number}"
        made[f"{name}.link"] = _unit({"Match": match, "Link": {"Name": f"eth{number}"}})
        required = "yes" if number == 0 else "no"
        made[f"{name}.network"] = _unit({"Match": match, "Link": {"RequiredForOnline": required}, **network})
    return made


def _first_nic(identity: GuestIdentity) -> dict[str, Mapping[str, str]]:
    features = identity.features
    if not features.nic1_address:
        return {"Network": {"DHCP": "ipv4"}}
    nic = _static(features.nic1_address)
    more = {"Gateway": features.nic1_gateway} | ({"DNS": identity.name_server} if identity.name_server else {})
    return {"Network": {**nic["Network"], **more}}


def _static(address: str) -> dict[str, Mapping[str, str]]:
    """A fixed address and nothing besides: duplicate address detection alone takes a second."""
    return {"Network": {"Address": address, "LinkLocalAddressing": "no", "IPv6AcceptRA": "no"}}


def _unit(sections: Mapping[str, Mapping[str, str]]) -> str:
    blocks = ("".join((f"[{name}]\n", *(f"{key}={value}\n" for key, value in keys.items())))
              for name, keys in sections.items())  # fmt: skip
    return "\n".join(blocks)
