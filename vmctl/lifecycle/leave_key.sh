#!/bin/sh
# Run in a copy of a machine, as its login user: $1, base64 of the machine's key, goes; the public key $2 lets in instead.
set -eu
umask 077
file=$HOME/.ssh/authorized_keys
if ! grep -qF "$1" "$file"; then
  echo "$file does not hold the machine's key: this is not the machine that vmctl made" >&2
  exit 1
fi
{ grep -vF "$1" "$file" || :; printf '%s\n' "$2"; } >"$file.vmctl"
mv -f "$file.vmctl" "$file"
