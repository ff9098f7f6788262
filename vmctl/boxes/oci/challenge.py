"""What a registry wants to see before it answers: Basic, or a bearer token from a token server.

Formats: RFC 9110 (WWW-Authenticate), RFC 7617, Docker's token authentication (``distribution`` documentation, "token").
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from msgspec import Struct

from vmctl import json_text
from vmctl.boxes.oci.credentials import RegistryLogin
from vmctl.boxes.oci.reference import LOGIN, is_safe
from vmctl.errors import VmctlError

if TYPE_CHECKING:
    import requests

SCHEME = re.compile(r"(?:^|,)\s*(Basic|Bearer)(?=\s|,|$)", re.IGNORECASE)
PARAMETER = re.compile(r'([A-Za-z_]{1,40})\s*=\s*(?:"((?:[^"\\]|\\.){0,4096})"|([^\s,"]{1,4096}))')
CLIENT = "vmctl"
TIMEOUT = 60.0
LONGEST = 64 * 1024
"""Bytes of a token server's answer."""
LONGEST_HEADER = 16 * 1024


class Challenge(Struct, frozen=True, kw_only=True):
    """One way in that a registry offers."""

    scheme: str
    """"basic" or "bearer"."""
    realm: str = ""
    service: str = ""
    scope: str = ""


class Denied(VmctlError):
    """A registry (or its token server) does not let the user in."""


def read(header: str) -> Challenge | None:
    """What a WWW-Authenticate header asks for, a token before a password; None = nothing that vmctl knows."""
    found: dict[str, Challenge] = {}
    starts = [*SCHEME.finditer(header[:LONGEST_HEADER])]
    ends = [*(one.start() for one in starts[1:]), LONGEST_HEADER]
    for start, end in zip(starts, ends, strict=False):
        parameters = {
            name.lower(): quoted or plain for name, quoted, plain in PARAMETER.findall(header[start.end() : end])
        }
        known = {name: parameters[name] for name in ("realm", "service", "scope") if name in parameters}
        scheme = start[1].lower()
        found.setdefault(scheme, Challenge(scheme=scheme, **known))
    return found.get("bearer") or found.get("basic")


def basic(login: RegistryLogin) -> str:
    """The value of an Authorization header for user and password."""
    return "Basic " + base64.b64encode(f"{login.user}:{login.password}".encode()).decode()


def token(
    session: requests.Session, challenge: Challenge, login: RegistryLogin | None, *, scope: str, verify: bool | str
) -> str:
    """A token of the token server that the registry names; the login is shown to nobody but that server.

    Args:
        session: follows no redirect, and adds no login of its own.
        challenge: what the registry asked for.
        login: None = ask as anybody.
        scope: what the token is for, where the challenge does not say.
        verify: which certificates to trust, as requests takes it.

    Raises:
        Denied: it gives none.
        VmctlError: its address is not safe, or its answer makes no sense.
        requests.RequestException: it could not be asked.
    """
    if not is_safe(challenge.realm):
        text = f"the registry names the token server {challenge.realm!r}; only https is safe for a login"
        raise VmctlError(text, hint="ask whoever runs the registry")
    wanted = {"service": challenge.service, "scope": challenge.scope or scope}
    asked = {name: value for name, value in wanted.items() if value}
    how: dict[str, Any] = {"timeout": TIMEOUT, "stream": True, "allow_redirects": False, "verify": verify}
    if login and login.token:
        form = {"grant_type": "refresh_token", "refresh_token": login.token, "client_id": CLIENT, **asked}
        response = session.post(challenge.realm, data=form, **how)
    else:
        many: list[tuple[str, str]] = [("service", challenge.service)] if challenge.service else []
        many += [("scope", one) for one in asked.get("scope", "").split(" ") if one]
        headers = {"Authorization": basic(login)} if login else {}
        response = session.get(challenge.realm, params=many, headers=headers, **how)
    with response:
        return _token(response, urlsplit(challenge.realm).hostname or "")


def _token(response: requests.Response, host: str) -> str:
    if not response.ok:
        raise Denied(
            f"the token server {host} gives no token",
            details=f"it says {response.status_code} {response.reason}", hint=LOGIN,
        )  # fmt: skip
    body = response.raw.read(LONGEST + 1, decode_content=True)
    try:
        answer = json_text.loads(body) if len(body) <= LONGEST else None
    except ValueError:
        answer = None
    fields: Mapping[str, Any] = answer if isinstance(answer, dict) else {}
    value = fields.get("token") or fields.get("access_token")
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]{1,60000}", value):
        raise VmctlError(f"the token server {host} gave an invalid answer", hint="try again later")
    return f"Bearer {value}"
