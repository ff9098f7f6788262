set -eu
missing=
command -v python3 >/dev/null 2>&1 || test -x /usr/libexec/platform-python || missing="$missing python3"
command -v sudo >/dev/null 2>&1 || missing="$missing sudo"
test -n "$missing" || exit 0
as_root=
if test "$(id -u)" != 0; then
  command -v sudo >/dev/null 2>&1 || { echo "neither root nor sudo: cannot install$missing" >&2; exit 1; }
  as_root="sudo -n"
fi
if command -v apt-get >/dev/null 2>&1; then
  $as_root apt-get update -q
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
elif command -v dnf >/dev/null 2>&1; then $as_root dnf install -y $missing
elif command -v yum >/dev/null 2>&1; then $as_root yum install -y $missing
elif command -v zypper >/dev/null 2>&1; then $as_root zypper --non-interactive install $missing
elif command -v apk >/dev/null 2>&1; then $as_root apk add --no-progress $missing
elif command -v pacman >/dev/null 2>&1; then
  $as_root pacman -Sy --noconfirm --needed $(echo "$missing" | sed 's/python3/python/')
else
  echo "no known package manager: cannot install$missing" >&2
  exit 1
fi
echo "vmctl: changed"
