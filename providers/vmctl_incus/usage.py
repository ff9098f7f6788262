"""How much an instance's root file system holds: the guest counts, for few storage pools can tell."""

from __future__ import annotations

from contextlib import suppress

from vmctl.driver import State
from vmctl.errors import VmctlError
from vmctl_incus.api import Api
from vmctl_incus.handle import Handle

COUNT = """
set --
while read -r _ _ _ _ where _; do
  [ "$where" = / ] || set -- "$@" "--exclude=$where"
done </proc/self/mountinfo
exec du -skx "$@" / 2>/dev/null
"""
"""Folders of the host may lie on the same file system, so ``-x`` does not leave them out."""
PATIENCE = 20.0
"""Seconds for the guest."""


def held(api: Api, one: Handle) -> int:
    """Bytes in a running instance's root file system; 0 = not known."""
    if one.state is not State.RUNNING or not api.can("container_exec_recording"):
        return 0
    with suppress(VmctlError):  # guests without a shell or du
        words = {"command": ["/bin/sh", "-c", COUNT], "environment": {"PATH": "/usr/bin:/bin"}}
        options = {"wait-for-websocket": False, "record-output": True, "interactive": False}
        done = api.change("POST", f"{one.path}/exec", {**words, **options}, within=PATIENCE)
        logs = (done.get("metadata") or {}).get("output") or {}
        kibibytes = _taken(api, [str(path) for _, path in sorted(logs.items())])
        return kibibytes * 1024
    return 0


def _taken(api: Api, logs: list[str]) -> int:
    """The number that a command printed; its logs are removed."""
    printed = [api.text(path) for path in logs]
    for path in logs:
        api.change("DELETE", path)
    first = printed[0].split()[:1] if printed else []
    return int(first[0]) if first and first[0].isdigit() else 0
