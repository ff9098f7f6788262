"""What vmctl always says to ssh when it logs in to a server by itself, whatever the user's configuration says.

That configuration (``~/.ssh/config``) is meant for people, and says how a server is reached: address, user, key, jump
hosts, agent, forwards. What it says of the session is theirs alone: a command to start, a terminal, a process in the
background. ssh takes the first value that it meets, so these words come before all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

STRICT = {"StrictHostKeyChecking": "yes", "UpdateHostKeys": "no"}
"""Host keys are checked, and known ones are not added to."""
PLAIN = {
    "RemoteCommand": "none",
    "PermitLocalCommand": "no",  # what it prints is not the server's
    "StdinNull": "no",
    "ForkAfterAuthentication": "no",
    "VisualHostKey": "no",
}
"""Nothing but what is asked for runs, and it reads and prints what is ours."""
UNATTENDED = {
    **STRICT,
    **PLAIN,
    "RequestTTY": "no",
    "ForwardX11": "no",
    "ExitOnForwardFailure": "no",  # several logins at a time: only the first has the forwards of the configuration
}
"""For logins without a person, of whichever program: a `-tt` behind it still means a terminal."""
OWN = {**UNATTENDED, "BatchMode": "yes", "LogLevel": "ERROR"}
"""For vmctl's own."""
COMMAND = {**OWN, "SessionType": "default", "ClearAllForwardings": "yes"}
"""For what runs beside or through a connection that has the forwards already."""
TYPED = {**STRICT, **PLAIN, "RequestTTY": "auto"}
"""For a command that a person has typed: with a terminal only where they ask for one."""


def words(options: Mapping[str, str]) -> list[str]:
    """Words of a command line: ``-o KEYWORD=VALUE``."""
    return list(_words(options))


def _words(options: Mapping[str, str]) -> Iterable[str]:
    for keyword, value in options.items():
        yield from ("-o", f"{keyword}={value}")
