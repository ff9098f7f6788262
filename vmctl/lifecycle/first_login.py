"""Guests that take no seed: in with the box's key or password, which a key of its own replaces at once.

Then it is told what a seed would have said. A Vagrant box may or may not read a seed, so it gets one. Whether it did
shows at the first login: only a guest that did has the host key that vmctl made for it.
"""

from __future__ import annotations

from msgspec import structs

from vmctl import key_pairs, ssh
from vmctl.driver import Nic
from vmctl.lifecycle.machine_job import Job
from vmctl.store import files

# $1 is the line to have in authorized_keys; lines with $2, $3 or $4 in them go.
REPLACE_KEY = """
set -eu
umask 077
mkdir -p "$HOME/.ssh"
file=$HOME/.ssh/authorized_keys
touch "$file"
{ grep -vF -e "$2" -e "$3" -e "$4" "$file" || :; printf '%s\\n' "$1"; } >"$file.vmctl"
mv -f "$file.vmctl" "$file"
"""
PUBLISHED_COMMENT = "vagrant insecure public key"

# $1 is the machine's name; then, for each further NIC, its MAC address and its address with prefix. networkd is told
# for later boots as well, in files that come before all others: those may match any NIC.
INTRODUCE = """
set -eu
name=$1
shift
if [ "$(uname -n)" != "$name" ]; then
  hostnamectl set-hostname "$name" 2>/dev/null || { echo "$name" >/etc/hostname; hostname "$name"; }
fi
grep -qwF "$name" /etc/hosts || printf '127.0.0.1\\t%s %s\\n' "$name" "${name%%.*}" >>/etc/hosts
networkd=/etc/systemd/network
if systemctl is-active --quiet systemd-networkd 2>/dev/null; then
  mkdir -p "$networkd"
  rm -f "$networkd"/00-vmctl-*.network
else
  networkd=
fi
while [ $# -gt 1 ]; do
  [ -z "$networkd" ] || {
    printf '[Match]\\nMACAddress=%s\\n\\n' "$1"
    printf '[Link]\\nRequiredForOnline=no\\n\\n[Network]\\nAddress=%s\\n' "$2"
  } >"$networkd/00-vmctl-$(echo "$1" | tr -d :).network"
  for nic in /sys/class/net/*; do
    if [ "$(cat "$nic/address")" = "$1" ]; then
      ip link set "${nic##*/}" up
      ip addr replace "$2" dev "${nic##*/}"
    fi
  done
  shift 2
done
"""


def prepare(job: Job) -> None:
    """Have the box's own key and password at hand for the new machine, of which no host key is known yet."""
    layout = job.machine.layout
    key = job.box.first_login_key() if job.box else None
    password = job.box.first_login_password() if job.box else None
    files.remove(layout.first_key)
    files.remove(layout.first_password)
    if password is not None:
        files.write(layout.first_password, password)
    if key is not None:
        files.remove(layout.known_hosts)
        files.write(layout.first_key, key)


def replace_key(job: Job) -> None:
    """Leave only the machine's own key in the guest, and log in with that; pin the host key.

    Raises:
        CommandFailed, Unreachable: it did not work; the next `up` tries again.
    """
    layout, connection = job.machine.layout, job.guest
    ssh.pin(connection)
    own = key_pairs.ensure(layout.key)
    unwanted = (ssh.public_part(layout.first_key), own.split()[1], PUBLISHED_COMMENT)
    connection.run(["sh", "-c", REPLACE_KEY, "sh", own, *unwanted])
    connection.run(["sync"])
    connection.close()
    job.connection = ssh.Connection.connect(structs.replace(connection.login, first_key=None, first_password=None))
    took_seed = ssh.shown_key(job.guest) == tuple(key_pairs.ensure(layout.host_key).split()[:2])
    box = structs.replace(job.record.box, cloud_init=took_seed)
    files.remove(layout.first_password)
    files.remove(layout.first_key)
    job.save(job.record.but(box=box))


def introduce(job: Job) -> bool:
    """Tell the guest its name and the addresses of its further NICs; only networkd keeps the latter."""
    name = job.spec.hostname or job.name
    addresses = [word for nic in job.defined.nics for word in _address(nic)]
    done = job.guest.run(["sh", "-c", INTRODUCE, "sh", name, *addresses], sudo=True, check=False)
    if done.status:
        job.warn(f"its name and networks could not be set in the guest: {done.stderr.strip()[-200:]}")
    return True


def _address(nic: Nic) -> tuple[str, str]:
    return nic.mac.lower(), f"{nic.ip}/{nic.prefix}"
