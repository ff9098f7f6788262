"""Which server: the local one, found as its own client finds it, or a remote of that client's configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from vmctl.errors import UsageError, suggest
from vmctl_incus.requesting import Endpoint

PORT = 8443
SOCKET, USERS_SOCKET = "unix.socket", "unix.socket.user"
VARIABLES = ("INCUS_SOCKET", "LXD_SOCKET")
DIRECTORIES = ("INCUS_DIR", "LXD_DIR")
USUAL = ("/run/incus", "/var/lib/incus", "/var/snap/lxd/common/lxd", "/var/lib/lxd")
INSTALL = "sudo apt-get install incus && sudo incus admin init --minimal"
INSTALL_ON_DEBIAN_12 = "sudo apt-get install lxd && sudo lxd init --auto"
"""It has no Incus yet."""
DEFAULT_PROJECT = "default"
KEYS = ("remote", "url", "project")


class Wanted(Struct, frozen=True, kw_only=True):
    """What a Vmfile says of the server; "" = nothing."""

    remote: str = ""
    url: str = ""
    project: str = ""

    @classmethod
    def of(cls, options: Mapping[str, object]) -> Wanted:
        """From the provider's options."""
        return cls(**{key: str(options[key]) for key in KEYS if options.get(key) is not None})


class Client(Struct, frozen=True, kw_only=True):
    """A configuration directory of the command `incus` or `lxc`."""

    directory: Path

    def remotes(self) -> dict[str, Any]:
        """Its remotes by name; none where there is no such file, or it is damaged."""
        import yaml

        try:
            config = yaml.safe_load((self.directory / "config.yml").read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError, RecursionError):
            return {}
        remotes = config.get("remotes") if isinstance(config, dict) else None
        return remotes if isinstance(remotes, dict) else {}

    def endpoint(self, name: str, url: str) -> Endpoint:
        """How to get to a remote's server, with this client's certificate."""
        pinned = self.directory / "servercerts" / f"{name}.crt"
        certificate, key = self.directory / "client.crt", self.directory / "client.key"
        known = certificate.is_file() and key.is_file()
        return _over_tls(url, pinned=pinned if pinned.is_file() else None, certificate=certificate if known else None,
                         key=key if known else None)  # fmt: skip


def clients() -> Iterator[Client]:
    """The configurations that the user has, Incus's first."""
    home = Path.home()
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    named = [Path(value) for name in ("INCUS_CONF", "LXD_CONF") if (value := os.environ.get(name))]
    usual = (config / "incus", config / "lxc", home / "snap/lxd/common/config")
    yield from (Client(directory=place) for place in (*named, *usual))


def resolve(wanted: Wanted, where: str) -> tuple[Endpoint, str]:
    """The server to connect to, and the project in it.

    Args:
        wanted: what the Vmfile says.
        where: ``Driver.where`` of the machines that the project has already; "" = none.

    Raises:
        UsageError: there is none, or it is another one than the machines are on.
    """
    if where and not (wanted.remote or wanted.url):
        url, _, project = where.partition("#")
        wanted = Wanted(url=url, project=wanted.project or project)
    endpoint, project = _endpoint(wanted)
    if where and where != place(endpoint, project):
        raise UsageError(
            f"this project's machines are on {where}, but the Vmfile now asks for {place(endpoint, project)}",
            hint="vmctl list    # machines do not move: the Vmfile has to name where they are",
        )
    return endpoint, project


def place(endpoint: Endpoint, project: str) -> str:
    """Which server and project that is, as ``Driver.where``."""
    return f"{endpoint.url}#{project}"


def _endpoint(wanted: Wanted) -> tuple[Endpoint, str]:
    if wanted.remote and wanted.url:
        raise UsageError("incus.remote and incus.url both name a server", hint="keep one of the two")
    if wanted.remote:
        return _remote(wanted)
    project = wanted.project or DEFAULT_PROJECT
    if wanted.url.startswith("https://"):
        return _by_url(wanted.url), project
    if wanted.url:
        return _at(_socket_of(wanted.url)), project
    return _at(local_socket()), project


def _remote(wanted: Wanted) -> tuple[Endpoint, str]:
    known: dict[str, tuple[Client, Any]] = {}
    for client in clients():
        for name, remote in client.remotes().items():
            known.setdefault(str(name), (client, remote))
    if wanted.remote == "local" and "local" not in known:
        return _at(local_socket()), wanted.project or DEFAULT_PROJECT
    if wanted.remote not in known:
        raise UsageError(
            f"incus.remote: there is no remote {wanted.remote!r}{suggest(wanted.remote, known)}",
            details=f"known: {', '.join(sorted(known)) or 'none'}",
            hint="incus remote add NAME URL",
        )
    client, remote = known[wanted.remote]
    remote = remote if isinstance(remote, dict) else {}
    if remote.get("protocol", "incus") not in ("incus", "lxd", ""):
        raise UsageError(f"incus.remote: {wanted.remote} serves images only, no machines", hint="incus remote list")
    address = str(remote.get("addr", ""))
    project = wanted.project or str(remote.get("project") or DEFAULT_PROJECT)
    if address.startswith("unix:"):
        return _at(_socket_of(address) if address.strip("/") != "unix:" else local_socket()), project
    return client.endpoint(wanted.remote, address), project


def _by_url(url: str) -> Endpoint:
    for client in clients():
        for name, remote in client.remotes().items():
            if isinstance(remote, dict) and _whole(str(remote.get("addr", ""))) == _whole(url):
                return client.endpoint(str(name), url)
    raise UsageError(
        f"incus.url: no remote has the address {url}, so nothing tells what certificate its server must show",
        hint=f"incus remote add NAME {url}",
    )


def _whole(url: str) -> str:
    """An address as ``place`` has it, with its port; the text itself where it is none."""
    try:
        return _over_tls(url).url
    except UsageError:
        return url


def _over_tls(url: str, **how: Any) -> Endpoint:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.path.strip("/"):
        raise UsageError(f"{url!r} is not an address of a server: https://HOST[:PORT]", hint="incus remote list")
    try:
        port = parts.port or PORT
    except ValueError as error:
        raise UsageError(f"{url!r}: {error}", hint="incus remote list") from error
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Endpoint(url=f"https://{host}:{port}", host=parts.hostname, port=port, **how)


def _socket_of(url: str) -> Path:
    path = Path("/" + url.removeprefix("unix:").lstrip("/"))
    if not url.startswith("unix:/"):
        raise UsageError(f"incus.url: expected unix:///PATH or https://HOST[:PORT], got {url!r}")
    return path


def _at(path: Path) -> Endpoint:
    return Endpoint(url=f"unix://{path}", socket=path)


def local_socket() -> Path:
    """The local server's socket: one that this user may use, else one that is there.

    Raises:
        UsageError: there is none.
    """
    there = [path for path in _candidates() if path.is_socket()]
    usable = (path for path in there if os.access(path, os.R_OK | os.W_OK))
    if found := next(usable, None) or next(iter(there), None):
        return found
    raise UsageError("neither Incus nor LXD runs on this host", hint=installing())


def installing() -> str:
    """The command that brings a server to this host."""
    import platform

    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    return INSTALL_ON_DEBIAN_12 if (release.get("ID"), release.get("VERSION_ID")) == ("debian", "12") else INSTALL


def _candidates() -> Iterator[Path]:
    named = [Path(value) for name in VARIABLES if (value := os.environ.get(name))]
    named += [Path(value) / SOCKET for name in DIRECTORIES if (value := os.environ.get(name))]
    yield from named
    if not named:
        yield from (Path(place) / name for place in USUAL for name in (SOCKET, USERS_SOCKET))


def group_of(path: Path) -> str:
    """Which group may use a socket, by its name in the two packages."""
    return "incus-admin" if "incus" in path.parts else "lxd"
