"""Real keys and real signatures, made by gpg for the test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from vmctl import process
from vmctl.boxes import signature
from vmctl.boxes.signature import BadSignature

LIST = b"a" * 64 + b"  disk.img\n"


@dataclass(frozen=True)
class Signer:
    home: Path
    fingerprint: str
    keys: Path

    def sign(self, document: bytes, *options: str) -> bytes:
        path = self.home / "document"
        path.write_bytes(document)
        gpg(self.home, *options, "--yes", "--output", self.home / "out", path)
        return (self.home / "out").read_bytes()


def gpg(home: Path, *words: str | Path) -> str:
    return process.run(["gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", "", *words]).stdout


def make_signer(home: Path) -> Signer:
    home.mkdir(mode=0o700)
    gpg(home, "--quick-generate-key", "vmctl test", "ed25519", "sign", "never")
    listing = gpg(home, "--with-colons", "--list-keys")
    fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))
    gpg(home, "--output", home / "keys.gpg", "--export")
    return Signer(home, fingerprint, home / "keys.gpg")


def end_agent(signer: Signer) -> None:
    """gpg left its agent running, for this directory alone."""
    process.run(["gpgconf", "--homedir", signer.home, "--kill", "gpg-agent"])


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    made = make_signer(tmp_path_factory.mktemp("gpg") / "signer")
    yield made
    end_agent(made)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    made = make_signer(tmp_path_factory.mktemp("gpg") / "stranger")
    yield made
    end_agent(made)


def check(document: bytes, sig: bytes | None, by: Signer, expected: Signer | None = None) -> bytes:
    return signature.verify(document, sig, signer=(expected or by).fingerprint, keys=by.keys, where="SHA256SUMS")


@pytest.mark.parametrize("options", [("--detach-sign",), ("--detach-sign", "--armor")])
def test_a_detached_signature(signer: Signer, options: tuple[str, ...]) -> None:
    assert check(LIST, signer.sign(LIST, *options), signer) == LIST


def test_a_clear_signed_document(signer: Signer) -> None:
    document = signer.sign(LIST, "--clearsign")
    assert check(document, None, signer) == LIST


def test_only_what_was_signed_comes_out(signer: Signer) -> None:
    document = b"-----BEGIN" + signer.sign(LIST, "--clearsign").partition(b"-----BEGIN")[2] + b"evil\n"
    assert check(document, None, signer) == LIST


def test_a_changed_document(signer: Signer) -> None:
    sig = signer.sign(LIST, "--detach-sign")
    with pytest.raises(BadSignature, match="SHA256SUMS is not signed by"):
        check(LIST.replace(b"disk", b"evil"), sig, signer)
    with pytest.raises(BadSignature):
        check(signer.sign(LIST, "--clearsign").replace(b"disk", b"evil"), None, signer)


def test_another_signer(signer: Signer, stranger: Signer) -> None:
    sig = stranger.sign(LIST, "--detach-sign")
    with pytest.raises(BadSignature):
        check(LIST, sig, signer)
    with pytest.raises(BadSignature):
        check(LIST, sig, stranger, expected=signer)


def test_no_signature_at_all(signer: Signer) -> None:
    with pytest.raises(BadSignature):
        check(LIST, None, signer)
    with pytest.raises(BadSignature):
        check(LIST, b"", signer)


def test_the_first_keyring_that_is_there(tmp_path: Path) -> None:
    here = tmp_path / "here.gpg"
    here.touch()
    assert signature.keyring([tmp_path / "absent.gpg", here]) == here
    assert signature.keyring([tmp_path / "absent.gpg"]) is None
