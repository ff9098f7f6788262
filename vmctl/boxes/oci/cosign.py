"""Signatures of images by cosign with a key pair: an image beside the image, at the tag ``sha256-DIGEST.sig``.

Each of its layers is a payload (JSON, "simple signing") that names a digest and a repository; an annotation holds the
signature of the payload's bytes. Format: https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md. The key
is all that is trusted: no certificate, no log of transparency, no network but the registry.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vmctl import json_text
from vmctl.boxes.oci import artifact
from vmctl.boxes.oci.reference import DOCKER_HUB, Reference
from vmctl.boxes.oci.registry_client import Registry
from vmctl.boxes.oci.transport import Absent
from vmctl.boxes.oci.window_layers import Senseless, blob
from vmctl.boxes.signature import BadSignature
from vmctl.errors import UsageError, in_words, shell_command

PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
KIND = "cosign container image signature"
LONGEST = 64 * 1024
"""Bytes of a key, a payload or a signature."""
MOST = 50
SIGNED = "signed:"
"""Begins the stamp of a box whose signature was verified; the key's fingerprint follows."""


def fingerprint(path: Path) -> str:
    """SHA-256 of a public key.

    Raises:
        UsageError: the file holds none that vmctl can use.
    """
    from cryptography.hazmat.primitives import serialization

    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(_key(path).public_bytes(serialization.Encoding.DER, kind)).hexdigest()


def stamp(path: Path) -> str:
    """Under which a box remembers that the key signed it.

    Raises:
        UsageError: as ``fingerprint``.
    """
    return SIGNED + fingerprint(path)


def verify(registry: Registry, digests: Sequence[str], path: Path) -> None:
    """See that a key signed an image.

    Args:
        registry: the repository that has it.
        digests: by which the image is known: of its manifest, and of the index that led there.
        path: file of the public key.

    Raises:
        BadSignature: it did not, or signed something else.
        UsageError: there is no such key.
        RegistryError, Denied: the registry cannot be asked.
    """
    key, faults = _key(path), []
    for digest in dict.fromkeys(digests):
        tag = f"{digest.replace(':', '-')}.sig"
        try:
            found = list(_signatures(registry, tag))
        except Absent:
            faults.append(f"there is no signature of {digest} (the tag {tag})")
            continue
        except Senseless as error:
            faults.append(f"the signatures of {digest} make no sense: {error}")
            continue
        for payload, signature in found:
            fault = _fault(key, payload, signature, digest, registry.transport.reference)
            if not fault:
                return
            faults.append(fault)
    reference = registry.transport.reference
    raise BadSignature(
        f"{reference} is not signed by {path}",
        details="\n".join(dict.fromkeys(faults)),
        hint=f"cosign sign --key cosign.key {reference.registry}/{reference.repository}@{digests[0]}",
    )


def _signatures(registry: Registry, tag: str) -> Iterator[tuple[bytes, bytes]]:
    """Payloads and their signatures.

    Raises:
        Senseless: they are damaged.
    """
    layers = artifact.parsed(registry.manifest(tag).data).get("layers")
    for one in layers[:MOST] if isinstance(layers, list) else ():
        notes = one.get("annotations") if isinstance(one, dict) else None
        signature = notes.get(SIGNATURE) if isinstance(notes, dict) else None
        if one.get("mediaType") != PAYLOAD or not isinstance(signature, str) or len(signature) > LONGEST:
            continue
        try:
            decoded = base64.b64decode(signature, validate=True)
        except binascii.Error:
            continue
        yield registry.read(blob(one), LONGEST, "a signature"), decoded


def _fault(key: Any, payload: bytes, signature: bytes, digest: str, reference: Reference) -> str:
    """Why this is not the key's word for this image; "" = it is."""
    if not _is_signed(key, payload, signature):
        return f"a signature of {digest} is another key's, or of something else"
    try:
        statement = json_text.loads(payload)
        critical = statement["critical"]
        where, what = critical["identity"]["docker-reference"], critical["image"]["docker-manifest-digest"]
        kind = critical["type"]
    except (ValueError, TypeError, KeyError):
        return "what the key signed is not about an image"
    if kind != KIND or what != digest:
        return f"the key signed another image: {str(what)[:100]}"
    if _repository(str(where)) != _repository(f"{reference.registry}/{reference.repository}"):
        return f"the key signed it for another repository: {str(where)[:200]}"
    return ""


def _repository(text: str) -> str:
    """Of a reference as cosign writes it, which may have a tag and calls Docker's registry otherwise."""
    head, slash, last = text.partition("@")[0].rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}".replace("index.docker.io/", f"{DOCKER_HUB}/", 1).lower()


def _is_signed(key: Any, payload: bytes, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding

    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, payload)
        else:
            key.verify(signature, payload, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def _key(path: Path) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    try:
        with path.open("rb") as stream:
            data = stream.read(LONGEST)
    except OSError as error:
        raise UsageError(
            f"the key {path} cannot be read", details=in_words(error), hint=shell_command("ls", "-l", path)
        ) from error
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        why = "It is a private key." if b"PRIVATE KEY-----" in data else str(error)
        raise UsageError(
            f"{path} is not a public key", details=why, hint="cosign public-key --key cosign.key"
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey):
        raise UsageError(f"{path} is a key of a kind that vmctl does not know", hint="cosign generate-key-pair")
    return key


def signers(provenance: Mapping[str, Any]) -> list[str]:
    """SHA-256 of the keys that a box of the store was found to be signed by."""
    stamps = provenance.get("stamps", {})
    return [one.removeprefix(SIGNED) for one in stamps if one.startswith(SIGNED)] if isinstance(stamps, dict) else []


def is_verified(provenance: Mapping[str, Any], path: Path) -> bool:
    """Whether a box of the store was found to be signed by a key.

    Raises:
        UsageError: there is no such key.
    """
    return fingerprint(path) in signers(provenance)
