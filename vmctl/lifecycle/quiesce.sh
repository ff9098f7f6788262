# Run as root in the guest by `sh`, before its memory is saved. Before it stand wait=WAIT.PL and wake=WAKE.SH, where
# the guest may go on in another machine. Arguments: the seed's disk ("" = nobody is to wait), how far off the clock may
# be, and where live folders are mounted, deepest first, each as it is and as fstab writes it.
# Prints one line: "busy PATH", which wake.sh has to follow as well; or "quiet TOOL", what can reseed the kernel ("" =
# nothing can).
{ # read to its end before anything runs
set -u
cd /
disk=$1 slow=$2
timers=/run/vmctl-timers
waiter=/run/vmctl-waiter
shift 2
# Whether something is mounted at FIELD, a path as /proc/mounts has it.
is_mounted() {
    while read -r source target rest; do
        [ "$target" != "$1" ] || return 0
    done </proc/mounts
    return 1
}

let_go() {
    while [ $# -gt 0 ]; do
        if is_mounted "$2" && ! umount -- "$1" 2>/dev/null; then
            printf 'busy %s\n' "$1"
            exit 0
        fi
        shift 2
    done
}

let_go "$@"
# Those that fall due while the machine is frozen would all begin at once when its clock is set.
if [ ! -s "$timers" ] && command -v systemctl >/dev/null; then
    running=$(systemctl list-units --type=timer --state=active --no-legend --plain 2>/dev/null)
    printf '%s\n' "$running" | while read -r unit rest; do printf '%s ' "$unit"; done >"$timers"
    read -r running <"$timers" || :
    [ -z "$running" ] || systemctl stop -- $running
fi
# All that go on from this memory would begin their next boot with the same seed.
rm -f /var/lib/systemd/random-seed
sync
for tool in perl python3 ''; do
    [ -n "$tool" ] && command -v "$tool" >/dev/null && break
done
if [ -n "$disk" ] && [ "$tool" = perl ] && command -v setsid >/dev/null; then
    : >"$waiter"
    setsid perl -e "$wait" "$waiter" "$disk" "$wake" "$slow" "$@" >/dev/null 2>&1 &
    tries=0
    until [ -s "$waiter" ] || [ "$tries" -ge 20 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
fi
printf 'quiet %s\n' "$tool"
exit 0
} </dev/null
