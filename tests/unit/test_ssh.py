"""What `vmctl ssh` starts with: a login of vmctl's own costs imports that an OpenSSH session has no use for."""

from __future__ import annotations

import subprocess
import sys

IN_A_NEW_PROCESS = """
import sys
from vmctl.cli import guest_commands
from vmctl import logins, ssh
print(*sorted({"paramiko", "vmctl.ssh.connection", "vmctl.ssh.waiting"} & set(sys.modules)))
"""


def test_a_session_loads_nothing_of_our_own_logins() -> None:
    done = subprocess.run([sys.executable, "-c", IN_A_NEW_PROCESS], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""
