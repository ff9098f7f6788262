"""SSH key pairs: one for the login of each machine, one that the machine proves itself with."""

from __future__ import annotations

from pathlib import Path

from vmctl.errors import VmctlError
from vmctl.store import files

COMMENT = "vmctl"
PUBLIC_MODE = 0o644


def ensure(path: Path) -> str:
    """Make the ed25519 key pair ``path`` (OpenSSH format, 0600) and ``path.pub`` where they are absent.

    Returns:
        The public key as one line, without a newline.

    Raises:
        VmctlError: the private key is there but can not be read as one.
    """
    public = public_path(path)
    if path.exists() and public.exists():
        return public.read_text(encoding="ascii").strip()
    line = _public_of(path) if path.exists() else _make(path)
    files.write(public, line + "\n", mode=PUBLIC_MODE)
    return line


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
        key = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise VmctlError(
            f"{path} is damaged: it holds no private SSH key",
            details=str(error),
            hint=f"mv '{path}' '{path}.damaged', then vmctl destroy and vmctl up: the machine knows the old key only",
        ) from error
    return _line(key)


def _line(key: object) -> str:
    from cryptography.hazmat.primitives import serialization

    raw: bytes = key.public_key().public_bytes(  # type: ignore[attr-defined]  # the kinds of key share no base class
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return f"{raw.decode('ascii')} {COMMENT}"
