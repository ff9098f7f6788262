"""A locale that Ansible takes: it refuses to start where the one in force is not installed, or is not UTF-8."""

from __future__ import annotations

import locale
from collections.abc import Iterator, Mapping

VARIABLES = ("LC_ALL", "LC_CTYPE", "LANG")
USUAL = ("C.UTF-8", "C.utf8", "en_US.UTF-8")
"""The first has been part of glibc and musl for years."""


def utf8(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables to add so that Ansible starts: none where it does so already.

    Where no UTF-8 locale is installed, none either: then it is for Ansible to say so.
    """
    before = locale.setlocale(locale.LC_ALL)
    try:
        if _works(""):
            return {}
        found = next((name for name in _candidates(environment) if _works(name)), "")
    finally:
        locale.setlocale(locale.LC_ALL, before)
    return {"LC_ALL": found} if found else {}


def _candidates(environment: Mapping[str, str]) -> Iterator[str]:
    """The user's language first, as far as it has a name."""
    for variable in VARIABLES:
        name = environment.get(variable, "").partition("@")[0].partition(".")[0]
        if "_" in name:
            yield f"{name}.UTF-8"
    yield from USUAL


def _works(name: str) -> bool:
    """As Ansible looks itself; "" = what the environment says."""
    try:
        locale.setlocale(locale.LC_ALL, name)
        encoding = locale.getlocale()[1]
    except (locale.Error, ValueError):  # ValueError: a name that Python cannot take apart
        return False
    return (encoding or "").lower().replace("-", "") == "utf8"
