"""Signatures of lists of checksums, verified by gpgv: detached ones, and clear-signed documents."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from vmctl import process
from vmctl.errors import VmctlError

DEADLINE = 60.0


class BadSignature(VmctlError):
    """A signature is missing, wrong, or somebody else's."""


def keyring(paths: Sequence[Path]) -> Path | None:
    """The first of some keyrings that is on this host; None = none is."""
    return next((path for path in paths if path.is_file()), None)


def verify(
    document: bytes, signature: bytes | None, *, signer: str, keys: Path, where: str
) -> bytes:  # fmt: skip
    """Check who signed, and return what was signed.

    Args:
        document: what was signed; clear-signed if ``signature`` is None.
        signature: the detached signature, binary or armoured.
        signer: fingerprint of the primary key that must have signed, 40 hex digits.
        keys: keyring with that key (binary, as gpgv wants it).
        where: where the document came from, for errors.

    Raises:
        BadSignature: that key did not sign this document.
        ProgramMissing: there is no gpgv.
    """
    gpgv = process.find("gpgv")
    with tempfile.TemporaryDirectory(prefix="vmctl-gpgv-") as name:
        directory = Path(name)
        content, plain = directory / "document", directory / "plain"
        content.write_bytes(document)
        operands: list[str | Path]
        if signature is None:
            operands = ["--output", plain, "--", content]
        else:
            (directory / "signature").write_bytes(signature)
            operands = ["--", directory / "signature", content]
        argv = [gpgv, "--status-fd", "1", "--keyring", keys.absolute(), *operands]
        done = process.run(argv, check=False, env={"GNUPGHOME": name, "LC_ALL": "C"}, deadline=DEADLINE)
        if done.status != 0 or signer.upper() not in _signers(done.stdout):
            raise BadSignature(
                f"{where} is not signed by {signer}",
                details=done.stderr.strip(),
                hint="try again later; if that does not help, the publisher's server or key may have changed hands",
            )
        return plain.read_bytes() if signature is None else document


def _signers(status: str) -> set[str]:
    """Primary keys of all good signatures: the last word of each VALIDSIG line."""
    words = [line.split() for line in status.splitlines() if line.startswith("[GNUPG:] VALIDSIG ")]
    return {line[-1].upper() for line in words}
