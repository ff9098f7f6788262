# Run in the guest by `sh`, in the directory that holds the new files. Arguments:
#   ROOT OWNERSHIP DIRECTORY_MODE FILE…     FILE is relative to here and to ROOT
# Puts each file below ROOT, whole or not at all; what is the same already is left alone. OWNERSHIP is what chown
# takes; "" leaves what is there to its owner. Prints the paths that were changed.
set -eu
root=$1 ownership=$2 directory_mode=$3
shift 3

make() {
    [ ! -d "$1" ] || return 0
    make "$(dirname -- "$1")"
    mkdir -- "$1"
    [ -z "$directory_mode" ] || chmod -- "$directory_mode" "$1"
    [ -z "$ownership" ] || chown -- "$ownership" "$1"
}

describe() { stat -c '%a %u %g' -- "$1"; }

adjust() {
    before=$(describe "$2")
    chmod -- "$(stat -c %a -- "$1")" "$2"
    [ -z "$ownership" ] || chown -- "$ownership" "$2"
    [ "$(describe "$2")" = "$before" ] || printf '%s\n' "$2"
}

replace() {
    part=$2.vmctl-part.$$
    trap 'rm -f -- "$part"' EXIT
    cp -- "$1" "$part"
    if [ -n "$ownership" ]; then
        chown -- "$ownership" "$part"
    elif [ -e "$2" ]; then
        chown -- "$(stat -c %u:%g -- "$2")" "$part" 2>/dev/null || :
    fi
    chmod -- "$(stat -c %a -- "$1")" "$part"
    mv -f -- "$part" "$2"
    trap - EXIT
    printf '%s\n' "$2"
}

for file; do
    to=${root%/}/${file#./}
    if [ -d "$to" ]; then
        echo "$to is a directory; to put a file into it, end the destination with /" >&2
        exit 1
    fi
    make "$(dirname -- "$to")"
    if [ -f "$to" ] && [ ! -L "$to" ] && cmp -s -- "$file" "$to"; then adjust "$file" "$to"; else replace "$file" "$to"; fi
done
