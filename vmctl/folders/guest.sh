# Run as root in the guest by `sh`, in one go. Arguments: the login user, then five for each folder, parents first:
#   KIND TAG PATH FIELD OPTIONS     KIND is rsync, bind or a file system's name; FIELD is PATH as fstab writes it.
# Of a bind, TAG is the path of a directory: the hypervisor has mounted the folder there.
# Prints lines of STATUS, the folder's number and a text, separated by tabs. Running it again changes nothing.
# Mounts are kept in a block of /etc/fstab, so that they come back at each boot of the guest by themselves.
# `up` waits for this: the shell does by itself what it can, for an emulated guest takes 50 ms to start a program.
{ # read to its end before anything runs: nothing below can take the rest of the script for its input
set -u
user=$1
shift
begin='# vmctl: synced folders (this block is written by vmctl)'
end='# vmctl: end of synced folders'
fstab=/etc/fstab
block=
number=0
newline='
'

tell() { printf '%s\t%s\t\n' "$1" "$number"; }
fail() { printf 'failed\t%s\t%s\n' "$number" "$(printf %s "$1" | tr '\t\n' '  ')"; }

# Whether TAG is mounted at FIELD; of a bind, the kernel tells another source.
is_mounted() {
    while read -r source target rest; do
        case $1 in /*) source=$1 ;; esac
        [ "$source $target" != "$1 $2" ] || return 0
    done </proc/mounts
    return 1
}

# The options of what is mounted at FIELD.
options_of() {
    while read -r source target kind options rest; do
        [ "$target" != "$1" ] || found=$options
    done </proc/mounts
    printf %s "${found:-}"
}

knows() {
    [ "$1" != bind ] || return 0
    while read -r first second; do
        [ "${second:-$first}" != "$1" ] || return 0
    done </proc/filesystems
    modprobe -- "$1" 2>/dev/null
}

# Make a directory; what is new of its path belongs to the login user.
make() {
    [ ! -d "$1" ] || return 0
    [ ! -d "${1%/*}/" ] || ! install -d -o "$uid" -g "$gid" -- "$1" 2>/dev/null || return 0
    path=$1
    new=$1
    while [ ! -e "$path" ] && [ ! -L "$path" ]; do
        new=$path
        path=${path%/*}
        [ -n "$path" ] || path=/
    done
    error=$(mkdir -p -- "$1" 2>&1) || { fail "$error"; return 1; }
    chown -R -- "$uid:$gid" "$new" 2>/dev/null || : # inside another share: the host decides
}

is_empty() {
    for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
        { [ ! -e "$entry" ] && [ ! -L "$entry" ]; } || return 1
    done
}

# Whether the login user can write there; a guest that cannot tell is believed to.
can_write() {
    setpriv --reuid="$uid" --regid="$gid" --keep-groups test -w "$1"
    [ $? != 1 ]
}

share() {
    options=$5
    type=$1
    [ "$1" != bind ] || type=none
    [ "$1" != vboxsf ] || options="$options,uid=$uid,gid=$gid" # it knows no owners of its own
    if is_mounted "$2" "$4"; then
        tell mounted
    else
        make "$3" || return
        is_empty "$3" || tell hides
        error=$(mount -t "$type" -o "$options" -- "$2" "$3" 2>&1) || { refuse "$error" "$@"; return; }
        tell mounted
        case ",$options,$(options_of "$4")," in *,ro,*) ;; *) can_write "$3" || tell unwritable ;; esac
    fi
    block="$block$2 $4 $type $options 0 0$newline"
}

# A vboxsf that is there and cannot mount (guest additions of another version) is as good as none.
refuse() {
    text=$1
    shift
    [ "$1" = vboxsf ] || { fail "$text"; return; }
    printf 'refused\t%s\t%s\n' "$number" "$(printf %s "$text" | tr '\t\n' '  ')"
    copy "$@"
}

copy() {
    if command -v rsync >/dev/null; then make "$3" && tell copy; else tell norsync; fi
}

# Unmount what an earlier run shared and this one does not.
drop() {
    printf '%s\n' "$old" | grep '^\(/var/lib/vmctl/folders/\)\{0,1\}vmctl-' | sort -r | while read -r tag field rest; do
        case $1 in *" $tag "*) continue ;; esac
        is_mounted "$tag" "$field" || continue
        case $tag in /*) tag=$(printf %b "$field") ;; esac
        umount -- "$tag" 2>/dev/null || umount -l -- "$tag" || printf 'busy\t-\t%s\n' "$field"
    done
}

old=
others=
inside=
if [ -e "$fstab" ]; then
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in '# vmctl: synced folders'*) inside=yes ;; esac
        if [ -n "$inside" ]; then old="$old${old:+$newline}$line"; else others=$others$line$newline; fi
        [ "$line" != "$end" ] || inside=
    done <"$fstab"
fi
uid=
while IFS=: read -r name _ first second _; do
    [ "$name" != "$user" ] || [ -n "$uid" ] || { uid=$first gid=$second; }
done </etc/passwd
[ -n "$uid" ] || { uid=$(id -u "$user") && gid=$(id -g "$user"); } # of a directory service
printf 'user\t-\t%s:%s\n' "$uid" "$gid"
[ -z "$old" ] || drop " $* "

while [ $# -gt 0 ]; do
    if [ "$1" = rsync ]; then
        copy "$@"
    elif knows "$1"; then
        share "$1" "$2" "$3" "$4" "$5"
    else
        tell unknown
        copy "$@"
    fi
    shift 5
    number=$((number + 1))
done

new=
[ -z "$block" ] || new="$begin$newline$block$end"
if [ "$old" != "$new" ]; then
    umask 022
    printf %s "$others${new:+$new$newline}" >"$fstab.vmctl" && sync "$fstab.vmctl" && mv -f "$fstab.vmctl" "$fstab"
fi
exit 0
} </dev/null
