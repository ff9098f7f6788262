"""SSH key pairs: one for the login of each machine, one that the machine proves itself with."""

from __future__ import annotations

import re
from pathlib import Path

from vmctl.errors import VmctlError, shell_command
from vmctl.store import files

COMMENT = "vmctl"
PUBLIC_MODE = 0o644
PUBLIC_LINE = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{60,120}={0,2}( [^\n]*)?")


def ensure(path: Path) -> str:
    """Make the ed25519 key pair ``path`` (OpenSSH format, 0600) and ``path.pub`` where they are absent.

    Returns:
        The public key as one line, without a newline.

    Raises:
        VmctlError: the private key is there but cannot be read as one.
    """
    public = public_path(path)
    there = files.exists(path)
    if there and (known := _written(public)):
        return known
    line = _public_of(path) if there else _make(path)
    files.write(public, line + "\n", mode=PUBLIC_MODE)
    return line


def _written(public: Path) -> str:
    """The public key that is written there; "" = none, or what no public key can be."""
    try:
        line = files.read(public).decode("ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""
    return line if PUBLIC_LINE.fullmatch(line) else ""


def public_path(path: Path) -> Path:
    """Where the public half of the key ``path`` lies."""
    return path.with_name(path.name + ".pub")


def _make(path: Path) -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    files.write(
        path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        ),
    )
    return _line(key)


def _public_of(path: Path) -> str:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_ssh_private_key(files.read(path), password=None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise VmctlError(
            f"{path} is damaged: it holds no private SSH key",
            details=str(error),
            hint=shell_command("mv", "--", path, f"{path}.damaged")
            + "    # put back a copy of it: the machine knows that key only",
        ) from error
    return _line(key)


def _line(key: object) -> str:
    from cryptography.hazmat.primitives import serialization

    raw: bytes = key.public_key().public_bytes(  # type: ignore[attr-defined]  # the kinds of key share no base class
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return f"{raw.decode('ascii')} {COMMENT}"
