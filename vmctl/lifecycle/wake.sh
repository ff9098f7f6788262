# Run as root in the guest by `sh`, once it goes on from saved memory. Before it stands a line: seed=HEX DIGITS. Or wait.pl
# runs it, which has taken up new random numbers, and says so by what time it was: seen=SECONDS.
# Arguments: a token, the time in seconds, how far off the clock may be, and where live folders belong, parents first,
# each as it is and as fstab writes it.
# Prints "failed PATH TEXT" for a folder that cannot be mounted, and at the end the token, once random numbers are new.
{ # read to its end before anything runs
set -u
cd /
token=$1 now=$2 slow=$3
timers=/run/vmctl-timers
waiter=/run/vmctl-waiter
stamps=/var/lib/systemd/timers
shift 3

# Whether something is mounted at FIELD, a path as /proc/mounts has it.
is_mounted() {
    while read -r source target rest; do
        [ "$target" != "$1" ] || return 0
    done </proc/mounts
    return 1
}

# Mount PATH, FIELD; what was plugged in just now takes the kernel a moment.
mount_soon() {
    tries=0
    until is_mounted "$2" || text=$(mount -- "$1" 2>&1); do
        tries=$((tries + 1))
        [ "$tries" -lt 20 ] || return 1
        sleep 0.1
    done
}

mount_all() {
    while [ $# -gt 0 ]; do
        mount_soon "$1" "$2" || printf 'failed %s %s\n' "$1" "$text"
        shift 2
    done
}

# Who waits to run this (wait.pl) is not needed any more; unless that is who runs it: then somebody just logs in, to
# whom an emulated guest's processors belong for the moment.
pause=0
if [ -s "$waiter" ]; then
    read -r number <"$waiter" || :
    if [ "$number" = "$PPID" ]; then
        pause=1
    else
        kill -s KILL -- "-$number" 2>/dev/null
        : >"$waiter"
    fi
fi
mount_all "$@" & # another processor may have time for it
mounting=$!

# RNDADDENTROPY and RNDRESEEDCRNG (linux/random.h): the kernel takes up what is written only every minute by itself.
# Each of these says what time it is as well: one program less, and each takes an emulated guest 50 ms.
if [ -n "${seen:-}" ]; then
    :
elif command -v perl >/dev/null; then
    seen=$(printf %s "$seed" | perl -e '
        open(my $to, "+<", "/dev/urandom") or die "$!"; my $new = pack("H*", scalar(<STDIN>));
        my $info = pack("i i a*", 8 * length($new), length($new), $new);
        ioctl($to, 0x40085203, $info) && ioctl($to, 0x5207, 0) or die "$!"; print time') || token=stale
elif command -v python3 >/dev/null; then
    seen=$(printf %s "$seed" | python3 -c '
import fcntl, struct, sys, time
new = bytes.fromhex(sys.stdin.read())
with open("/dev/urandom", "wb", 0) as to:
    fcntl.ioctl(to, 0x40085203, struct.pack("ii", 8 * len(new), len(new)) + new)
    fcntl.ioctl(to, 0x5207)
print(int(time.time()))') || token=stale
else
    token=stale
fi

off=$((${seen:-$(date +%s)} - now))
[ "${off#-}" -le "$slow" ] || date --utc --set "@$now" >/dev/null
wait "$mounting"
if [ -s "$timers" ]; then
    read -r stopped <"$timers" || :
    {
        [ "$pause" = 0 ] || sleep "$pause"
        # A persistent timer makes up for what it missed as soon as it starts; its stamp says that it missed nothing.
        for unit in $stopped; do
            [ ! -e "$stamps/stamp-$unit" ] || : >"$stamps/stamp-$unit"
        done
        systemctl start --no-block -- $stopped && rm -f "$timers"
    } >/dev/null 2>&1 &
fi
printf '%s\n' "$token"
exit 0
} </dev/null
