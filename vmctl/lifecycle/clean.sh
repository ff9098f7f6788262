#!/bin/sh
# Run in a copy of a machine, as root: what makes it this machine and no other goes. $1 is base64 of the machine's key.
set -eu

# The machine's key lets root in too where cloud-init thought so.
if [ -f /root/.ssh/authorized_keys ]; then
  sed -i "\|$1|d" /root/.ssh/authorized_keys
fi

# cloud-init begins anew, and nothing of what it wrote for this machine's NICs is left.
rm -rf /var/lib/cloud/* /etc/netplan/50-cloud-init.yaml /etc/network/interfaces.d/50-cloud-init* \
  /etc/systemd/network/*-cloud-init-* /etc/systemd/network/00-vmctl-*.network /etc/systemd/network/50-cloud-init* \
  /etc/NetworkManager/system-connections/cloud-init-* /etc/udev/rules.d/*persistent-net*.rules
for file in /etc/sysconfig/network-scripts/ifcfg-*; do
  if grep -qs 'Created by cloud-init' "$file"; then
    rm -f "$file"
  fi
done

# vmctl-seed takes whatever seed comes next as that of a new machine. A container holds its own, with its host key.
rm -f /var/lib/vmctl/instance-id /var/lib/vmctl/seed.tar

# Identity. Without cloud-init nobody makes new SSH host keys, so the server does where it has none.
echo localhost >/etc/hostname
if [ -f /etc/machine-id ]; then
  : >/etc/machine-id
fi
if [ -f /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ]; then
  rm -f /var/lib/dbus/machine-id
fi
if [ -d /run/systemd/system ]; then
  for unit in ssh sshd; do
    mkdir -p "/etc/systemd/system/$unit.service.d"
    printf '[Service]\nExecStartPre=\nExecStartPre=-/bin/sh -c "%s"\n' \
      'ls /etc/ssh/ssh_host_*_key >/dev/null 2>&1 || ssh-keygen -A' \
      >"/etc/systemd/system/$unit.service.d/vmctl-host-keys.conf"
  done
  systemctl stop systemd-random-seed.service 2>/dev/null || :
  if systemctl is-enabled --quiet systemd-networkd.service 2>/dev/null; then
    mkdir -p /etc/systemd/network
    printf '[Match]\nName=e*\n\n[Network]\nDHCP=yes\n' >/etc/systemd/network/99-vmctl-any.network
  fi
  rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
else
  echo "the SSH host keys are left: without systemd, nobody would make new ones"
fi
rm -f /var/lib/systemd/random-seed /var/lib/dhcp/*.leases /var/lib/NetworkManager/*.lease

# Traces of its work, and the blocks that nothing uses any more.
rm -rf /var/log/journal/* /var/log/cloud-init*.log
find /var/log -xdev -type f -exec sh -c 'for file; do : >"$file"; done' sh {} +
find /tmp /var/tmp -xdev -mindepth 1 -delete 2>/dev/null || :
rm -f /root/.bash_history
sync
fstrim --all 2>/dev/null || :
