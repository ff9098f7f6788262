"""Who the user is to a registry: what ``docker login`` and ``podman login`` left, and credential helpers.

Formats: containers-auth.json(5), Docker's ``config.json`` and its credential helpers' protocol.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from vmctl import json_text, process
from vmctl.boxes.oci.reference import DOCKER_HUB, HOST, LOGIN
from vmctl.errors import UsageError, VmctlError, in_words, shell_command

VARIABLE = "VMCTL_REGISTRY_AUTH"
HELPER = re.compile(r"[A-Za-z0-9._-]+")
HELPER_DEADLINE = 60.0
TOKEN_USER = "<token>"  # noqa: S105  what helpers answer instead of a name where the secret is an identity token
HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io")
LONGEST = 4 * 1024**2


class RegistryLogin(Struct, frozen=True, kw_only=True):
    """What to show a registry: user and password, or an identity token (OAuth2's refresh token)."""

    user: str = ""
    password: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return "RegistryLogin(…)"


def find(registry: str, repository: str) -> RegistryLogin | None:
    """The login for a repository; None = nobody logged in there.

    Raises:
        UsageError: ``VMCTL_REGISTRY_AUTH`` makes no sense, or a file of logins is damaged.
        VmctlError: a credential helper failed.
    """
    if (own := os.environ.get(VARIABLE, "")) and (found := _from_variable(own, registry, repository)):
        return found
    for path in _files():
        if path.is_file() and (found := _from_config(_read(path), registry, repository, str(path))):
            return found
    return None


def _files() -> Iterator[Path]:
    """Files of logins, in podman's order (containers-auth.json(5))."""
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime, "containers", "auth.json")
    config = os.environ.get("XDG_CONFIG_HOME")
    yield (Path(config) if config else Path.home() / ".config") / "containers" / "auth.json"
    docker = os.environ.get("DOCKER_CONFIG")
    yield (Path(docker) if docker else Path.home() / ".docker") / "config.json"


def _from_variable(text: str, registry: str, repository: str) -> RegistryLogin | None:
    """``{"auths": …}``, the path of such a file, or REGISTRY=USER:PASSWORD."""
    if text.lstrip().startswith("{"):
        return _from_config(_parsed(text, VARIABLE), registry, repository, VARIABLE)
    if text.startswith(("/", "~")):
        path = Path(text).expanduser()
        if not path.is_file():
            raise UsageError(f"{VARIABLE}: there is no file {path}", hint=f"unset {VARIABLE}")
        return _from_config(_read(path), registry, repository, str(path))
    host, equals, login = text.partition("=")
    user, colon, password = login.partition(":")
    if not (equals and colon and user and HOST.fullmatch(host)):
        raise UsageError(
            f"invalid {VARIABLE}",
            details="Expected: REGISTRY=USER:PASSWORD, the path of a file as docker login writes it, or its content.",
            hint=f"export {VARIABLE}=registry.example.org=robot:…",
        )
    return RegistryLogin(user=user, password=password) if host.lower() == registry else None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open(encoding="utf-8") as stream:
            return _parsed(stream.read(LONGEST), str(path))
    except (OSError, UnicodeDecodeError) as error:
        hint = shell_command("ls", "-l", path)
        raise UsageError(f"{path} cannot be read", details=in_words(error), hint=hint) from error


def _parsed(text: str, where: str) -> Mapping[str, Any]:
    try:
        value = json_text.loads(text)
    except ValueError as error:
        raise UsageError(f"{where} is damaged: it is not valid JSON", hint="docker login REGISTRY") from error
    return value if isinstance(value, dict) else {}


def _from_config(config: Mapping[str, Any], registry: str, repository: str, where: str) -> RegistryLogin | None:
    asked = HUB_KEYS[0] if registry == DOCKER_HUB else registry
    helpers = config.get("credHelpers")
    for helper in (helpers.get(registry) if isinstance(helpers, dict) else None, config.get("credsStore")):
        if isinstance(helper, str) and helper and (found := _ask(helper, asked, where)):
            return found
    auths = config.get("auths")
    for key in _keys(registry, repository):
        entry = auths.get(key) if isinstance(auths, dict) else None
        if isinstance(entry, dict) and (found := _entry(entry, where)):
            return found
    return None


def _keys(registry: str, repository: str) -> Iterator[str]:
    """What the login may be filed under: the repository (podman), what is above it, the registry."""
    path = f"{registry}/{repository}"
    while "/" in path:
        yield path
        path = path.rpartition("/")[0]
    yield registry
    yield from (f"https://{registry}", f"https://{registry}/v2/", f"https://{registry}/v1/")
    if registry == DOCKER_HUB:
        yield from HUB_KEYS


def _entry(entry: Mapping[str, Any], where: str) -> RegistryLogin | None:
    token, auth = entry.get("identitytoken"), entry.get("auth")
    if isinstance(token, str) and token:
        return RegistryLogin(token=token)
    if not isinstance(auth, str) or not auth:
        user, password = entry.get("username"), entry.get("password")
        return (
            RegistryLogin(user=user, password=password) if isinstance(user, str) and isinstance(password, str) else None
        )
    try:
        user, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{where} is damaged: a login in it is not base64", hint="docker login REGISTRY") from error
    return RegistryLogin(user=user, password=password.strip("\0")) if colon else None


def _ask(helper: str, key: str, where: str) -> RegistryLogin | None:
    """Ask ``docker-credential-HELPER get``; None = it knows no login for that key."""
    if not HELPER.fullmatch(helper):
        raise UsageError(
            f"{where}: {helper!r} is not the name of a credential helper", hint=shell_command("ls", "-l", where)
        )
    program = process.find(f"docker-credential-{helper}")
    done = process.run([program, "get"], input=key, check=False, deadline=HELPER_DEADLINE)
    if done.status != 0:
        output = (done.stdout + done.stderr).strip()
        if "not found" in output or not output:
            return None
        raise VmctlError(f"docker-credential-{helper} failed", details=output, hint=LOGIN)
    try:
        answer = json_text.loads(done.stdout)
        user, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError) as error:
        raise VmctlError(f"docker-credential-{helper} gave an invalid answer", hint=LOGIN) from error
    return RegistryLogin(token=secret) if user == TOKEN_USER else RegistryLogin(user=user, password=secret)
