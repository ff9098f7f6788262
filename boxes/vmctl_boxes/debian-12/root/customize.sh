#!/bin/sh
# Run inside the new system after the packages are installed and root/ is laid over them; removed afterwards.
set -eu

# Machines are made from this box: each gets an identity of its own at first boot.
rm -f /etc/ssh/ssh_host_* /var/lib/dbus/machine-id /var/lib/systemd/random-seed
: > /etc/machine-id
mkdir -p /var/lib/vmctl
echo localhost > /etc/hostname
printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n' > /etc/hosts
ln -sf ../run/vmctl/resolv.conf /etc/resolv.conf

# Nothing may fight the provisioner for apt's lock, and nothing waits for a network that nobody configured.
systemctl mask apt-daily.timer apt-daily-upgrade.timer apt-daily.service apt-daily-upgrade.service \
  systemd-networkd-wait-online.service
systemctl enable vmctl-seed.service vmctl-soon.timer vmctl-late.timer systemd-networkd.service serial-getty@ttyS0.service
systemctl disable e2scrub_reap.service e2scrub_all.timer fstrim.timer dpkg-db-backup.timer \
  systemd-network-generator.service systemd-resolved.service systemd-timesyncd.service systemd-pstore.service

# What vmctl-soon.target and vmctl-late.target start is not wanted earlier; what vmctl-grow does, nobody else need.
wants=/etc/systemd/system/sysinit.target.wants
for unit in systemd-journal-flush.service systemd-update-utmp.service systemd-binfmt.service \
  proc-sys-fs-binfmt_misc.automount dev-hugepages.mount dev-mqueue.mount sys-fs-fuse-connections.mount \
  sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount systemd-repart.service; do
  ln -s /dev/null "$wants/$unit"
done
mkdir -p /etc/systemd/system/graphical.target.wants
for unit in dbus.service getty.target systemd-logind.service systemd-user-sessions.service \
  systemd-update-utmp-runlevel.service; do
  ln -s /dev/null "/etc/systemd/system/multi-user.target.wants/$unit"
done
ln -s /dev/null /etc/systemd/system/graphical.target.wants/systemd-update-utmp-runlevel.service
# Each is a program to start before anything else; vmctl-generators starts those that have something to do.
mkdir -p /etc/systemd/system-generators
for generator in cryptsetup debug getty gpt-auto hibernate-resume integritysetup rc-local run system-update sysv \
  veritysetup; do
  ln -s /dev/null "/etc/systemd/system-generators/systemd-$generator-generator"
done
# Programs that udev starts for nothing: hwclock-set does nothing under systemd, nobody asks for the size of DIMMs.
mkdir -p /etc/udev/rules.d
ln -s /dev/null /etc/udev/rules.d/85-hwclock.rules
ln -s /dev/null /etc/udev/rules.d/70-memory.rules
# /etc/modules is empty, and read by a link that systemd-modules-load.service does not start for (its wanted.conf).
: > /etc/modules
mkdir -p /usr/lib/modules-load.d
ln -s /etc/modules /usr/lib/modules-load.d/~etc-modules.conf
rm /etc/modules-load.d/modules.conf
# Nobody is kept out while the machine boots: systemd-user-sessions, which lets people in, comes after SSH.
mkdir -p /etc/tmpfiles.d
ln -s /dev/null /etc/tmpfiles.d/systemd-nologin.conf
# With no directory, no login runs anything for the message of the day; who makes it has its scripts run as ever.
rm -r /etc/update-motd.d

# The initramfs was made before root/ was in place.
update-initramfs -u

# GRUB for BIOS and for UEFI: each image finds its configuration by the file system's UUID; its modules lie beside that.
image() {
  format=$1 output=$2; shift 2
  grub=/boot/grub/$format
  mkdir -p "$grub"
  cp "/usr/lib/grub/$format/"*.mod "/usr/lib/grub/$format/"*.lst "$grub"
  printf 'search.fs_uuid @ROOT_UUID@ root\nset prefix=($root)/boot/grub\n' > "$grub/load.cfg"
  grub-mkimage --format="$format" --prefix=/boot/grub --config="$grub/load.cfg" --output="$grub/$output" "$@" \
    part_gpt ext2 search_fs_uuid normal configfile linux search echo test boot minicmd serial terminal
}
image i386-pc core.img biosdisk
cp /usr/lib/grub/i386-pc/boot.img /boot/grub/i386-pc
image x86_64-efi core.efi fat

rm -rf /var/log/* /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/cache/ldconfig/aux-cache
install -d -g systemd-journal -m 2755 /var/log/journal
# The packages' users and files are there: nothing to bring up to date before the next upgrade.
touch /etc/.updated /var/.updated
