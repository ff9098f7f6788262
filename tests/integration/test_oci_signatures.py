"""Boxes whose images are signed as cosign does it: by its published format, with openssl, in a real docker-registry."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.cli.harness import Project
from tests.integration.registry_fixtures import no_logins, registry
from tests.unit import oci_servers
from tests.unit.box_images import write
from tests.unit.oci_servers import Registry
from vmctl import process
from vmctl.boxes import ensure, find, locking, obtaining, updating
from vmctl.boxes.adding import add
from vmctl.boxes.box import Box
from vmctl.boxes.box_store import BoxStore
from vmctl.boxes.oci.pushing import Pushed, push
from vmctl.boxes.request import Order, Request
from vmctl.boxes.signature import BadSignature
from vmctl.boxes.web import Access
from vmctl.errors import UsageError
from vmctl.layout import HomeLayout
from vmctl.spec import BoxRef
from vmctl.vmfile import VmfileInvalid, load

__all__ = ["no_logins", "registry"]

GENERATE = {
    "P-256": ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "RSA": ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "Ed25519": ["genpkey", "-algorithm", "ED25519"],
}


@pytest.fixture
def home(private_home: Path) -> HomeLayout:
    return HomeLayout(private_home)


class Signer:
    """A key pair, and what ``cosign sign --key`` does with it."""

    def __init__(self, directory: Path, kind: str = "P-256") -> None:
        directory.mkdir(exist_ok=True)
        self.private, self.public, self.kind = directory / "cosign.key", directory / "cosign.pub", kind
        process.run(["openssl", *GENERATE[kind], "-out", self.private])
        process.run(["openssl", "pkey", "-in", self.private, "-pubout", "-out", self.public])

    def signature(self, payload: bytes) -> bytes:
        source, target = self.private.with_name("payload"), self.private.with_name("signature")
        source.write_bytes(payload)
        sign: list[str | Path] = ["dgst", "-sha256", "-sign", self.private, "-out", target, source]
        if self.kind == "Ed25519":
            sign = ["pkeyutl", "-sign", "-rawin", "-inkey", self.private, "-out", target, "-in", source]
        process.run(["openssl", *sign])
        return target.read_bytes()

    def sign(self, registry: Registry, repository: str, digest: str, **changes: Any) -> None:
        """Put a signature beside an image, as the last of those that are there."""
        stated = {
            "identity": {"docker-reference": f"{registry.host}/{repository}"},
            "image": {"docker-manifest-digest": digest}, "type": "cosign container image signature",
        }  # fmt: skip
        payload = json.dumps({"critical": stated | changes, "optional": None}).encode()
        attach(registry, repository, digest, payload, base64.b64encode(self.signature(payload)).decode())


def attach(registry: Registry, repository: str, digest: str, payload: bytes, signature: str) -> None:
    url = f"http://{registry.host}/v2/{repository}"

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        found = f"sha256:{hashlib.sha256(data).hexdigest()}"
        begun = requests.post(f"{url}/blobs/uploads/", timeout=10)
        sent = requests.put(begun.headers["Location"], params={"digest": found}, data=data, timeout=10)
        assert sent.status_code == 201, sent.text
        return {"mediaType": kind, "digest": found, "size": len(data)}

    tag = f"{url}/manifests/{digest.replace(':', '-')}.sig"
    manifest = "application/vnd.oci.image.manifest.v1+json"
    before = requests.get(tag, headers={"Accept": manifest}, timeout=10)
    layer = blob(payload, "application/vnd.dev.cosign.simplesigning.v1+json")
    layer["annotations"] = {"dev.cosignproject.cosign/signature": signature}
    layers = [*(before.json()["layers"] if before.ok else []), layer]
    config = blob(b"{}", "application/vnd.oci.image.config.v1+json")
    made = {"schemaVersion": 2, "mediaType": manifest, "config": config, "layers": layers}
    put = requests.put(tag, data=json.dumps(made), headers={"Content-Type": manifest}, timeout=10)
    assert put.status_code == 201, put.text


def index_of(registry: Registry, repository: str, tag: str = "1.0") -> str:
    """The digest of a tag's index, which is what ``cosign sign REPOSITORY:TAG`` signs."""
    kinds = {"Accept": "application/vnd.oci.image.index.v1+json"}
    found = requests.get(f"http://{registry.host}/v2/{repository}/manifests/{tag}", headers=kinds, timeout=10)
    return found.headers["Docker-Content-Digest"]


def pushed(registry: Registry, home: HomeLayout, repository: str, *, byte: int = 1) -> Pushed:
    data = bytearray(oci_servers.disk(windows=1, holes=()))
    data[5000] = byte
    found = BoxStore(home).boxes(f"team/{byte}")
    path = write(home.root / "image.img", bytes(data))
    box = found[0] if found else add(Request(address=str(path), name=f"team/{byte}", version="1.0"), home)[0]
    return push(box, registry.at(repository), home, Access())


def obtained(address: str, home: HomeLayout, key: Path | None = None) -> tuple[Box, bool]:
    return obtaining.obtain(Order(address=address, name="mine", key=key), home)


def refused(address: str, home: HomeLayout, key: Path) -> str:
    with pytest.raises(BadSignature) as caught:
        obtained(address, home, key)
    assert not (home.boxes / "mine").exists()
    return caught.value.details


@pytest.fixture
def theirs(home: HomeLayout) -> HomeLayout:
    return HomeLayout(home.root / "colleague")


@pytest.mark.parametrize("kind", GENERATE)
def test_what_the_key_signed_is_taken(
    kind: str, registry: Registry, home: HomeLayout, theirs: HomeLayout, tmp_path: Path
) -> None:
    signer, repository = Signer(tmp_path / "keys", kind), f"good/{kind.lower()}"
    done = pushed(registry, home, repository)
    assert "there is no signature" in refused(registry.at(f"{repository}:1.0"), theirs, signer.public)
    signer.sign(registry, repository, done.reference.digest)
    assert obtained(registry.at(f"{repository}:1.0"), theirs, signer.public)[1]
    assert obtained(f"{registry.at(repository)}@{done.reference.digest}", theirs, signer.public)[1]


def test_the_signature_of_the_tags_index_counts(
    registry: Registry, home: HomeLayout, theirs: HomeLayout, tmp_path: Path
) -> None:
    signer = Signer(tmp_path / "keys")
    done = pushed(registry, home, "index/web")
    signer.sign(registry, "index/web", index_of(registry, "index/web"))
    assert obtained(registry.at("index/web:1.0"), theirs, signer.public)[1]
    assert "there is no signature" in refused(f"{registry.at('index/web')}@{done.reference.digest}", HomeLayout(
        theirs.root / "other"), signer.public)  # fmt: skip


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "another image": ({"image": {"docker-manifest-digest": "sha256:" + "0" * 64}}, "signed another image"),
    "another repository": ({"identity": {"docker-reference": "127.0.0.1:1/bad/web"}}, "for another repository"),
    "another kind": ({"type": "atomic container signature"}, "signed another image"),
    "no image": ({"image": None}, "not about an image"),
}


@pytest.mark.parametrize("case", BAD)
def test_another_word_of_the_key_does_not_count(
    case: str, registry: Registry, home: HomeLayout, theirs: HomeLayout, tmp_path: Path
) -> None:
    signer, (changes, expected) = Signer(tmp_path / "keys"), BAD[case]
    repository = f"bad/{case.replace(' ', '-')}"
    done = pushed(registry, home, repository)
    signer.sign(registry, repository, done.reference.digest, **changes)
    assert expected in refused(registry.at(f"{repository}:1.0"), theirs, signer.public)


def test_another_key(registry: Registry, home: HomeLayout, theirs: HomeLayout, tmp_path: Path) -> None:
    one, other = Signer(tmp_path / "one"), Signer(tmp_path / "other", "RSA")
    done = pushed(registry, home, "bad/key")
    other.sign(registry, "bad/key", done.reference.digest)
    assert "another key's" in refused(registry.at("bad/key:1.0"), theirs, one.public)
    one.sign(registry, "bad/key", done.reference.digest)
    assert obtained(registry.at("bad/key:1.0"), theirs, one.public)[1], "one of several is enough"


def test_a_signature_that_was_moved(registry: Registry, home: HomeLayout, theirs: HomeLayout, tmp_path: Path) -> None:
    """From the image that the key signed to another one, or to another repository with the same image."""
    signer = Signer(tmp_path / "keys")
    good = pushed(registry, home, "moved/good").reference.digest
    bad = pushed(registry, home, "moved/bad", byte=2).reference.digest
    stated = {
        "identity": {"docker-reference": f"{registry.host}/moved/good"}, "image": {"docker-manifest-digest": good},
        "type": "cosign container image signature",
    }  # fmt: skip
    payload = json.dumps({"critical": stated}).encode()
    signature = base64.b64encode(signer.signature(payload)).decode()
    attach(registry, "moved/bad", bad, payload, signature)
    assert "signed another image" in refused(registry.at("moved/bad:1.0"), theirs, signer.public)
    assert pushed(registry, home, "moved/twin").reference.digest == good
    attach(registry, "moved/twin", good, payload, signature)
    assert "for another repository" in refused(registry.at("moved/twin:1.0"), theirs, signer.public)


@pytest.mark.parametrize("signature", ["", "!", "x" * 70000, base64.b64encode(b"x" * 70).decode()])
def test_what_is_no_signature(
    signature: str, registry: Registry, home: HomeLayout, theirs: HomeLayout, tmp_path: Path
) -> None:
    signer, repository = Signer(tmp_path / "keys"), f"none/{hashlib.sha256(signature.encode()).hexdigest()[:8]}"
    done = pushed(registry, home, repository)
    attach(registry, repository, done.reference.digest, b"[]", signature)
    refused(registry.at(f"{repository}:1.0"), theirs, signer.public)


def test_keys_that_are_none(registry: Registry, home: HomeLayout, tmp_path: Path) -> None:
    signer = Signer(tmp_path / "keys")
    for path, expected in (
        (signer.private, "is not a public key"), (tmp_path / "absent", "cannot be read"),
        (write(tmp_path / "empty", b""), "is not a public key"),
    ):  # fmt: skip
        pushed(registry, home, "keys/web")
        with pytest.raises(UsageError, match=expected):
            obtained(registry.at("keys/web:1.0"), home, path)
    with pytest.raises(UsageError, match="only boxes of registries have signatures"):
        obtained("debian-12", home, signer.public)


class TestTheVmfile:
    @pytest.fixture
    def signer(self, tmp_path: Path) -> Signer:
        return Signer(tmp_path / "keys")

    def test_a_box_in_the_store_is_not_taken_before_its_signature_was_seen(
        self, signer: Signer, registry: Registry, home: HomeLayout, tmp_path: Path
    ) -> None:
        done = pushed(registry, home, "vmfile/web")
        address = registry.at("vmfile/web:1.0")
        obtained(address, home)
        ref, plain = BoxRef(address=address, key=str(signer.public)), BoxRef(address=address)
        assert find(plain, home) is not None
        assert find(ref, home) is None
        with pytest.raises(BadSignature):
            ensure(ref, home)
        signer.sign(registry, "vmfile/web", done.reference.digest)
        assert ensure(ref, home).digest == ensure(plain, home).digest
        assert find(ref, home) is not None, "without network from now on"
        other = Signer(tmp_path / "other")
        assert find(BoxRef(address=address, key=str(other.public)), home) is None

    def test_a_lock_does_not_go_round_it(
        self, signer: Signer, registry: Registry, home: HomeLayout, tmp_path: Path
    ) -> None:
        done = pushed(registry, home, "vmfile/locked")
        address = registry.at("vmfile/locked:1.0")
        (tmp_path / "Vmfile").write_text(f"box: {address}\nbox_key: keys/cosign.pub\n")
        project = load(tmp_path / "Vmfile")
        locking.write(locking.path_for(project.file), {address: obtained(address, home)[0]})
        pinned = locking.pin(project, locking.read(locking.path_for(project.file)))
        refs = [one.box for one in pinned.machines]
        with pytest.raises(BadSignature):
            locking.provide(refs, pinned, home)
        signer.sign(registry, "vmfile/locked", done.reference.digest)
        locking.provide(refs, pinned, home)
        assert find(refs[0], home) is not None

    @pytest.mark.usefixtures("signer")
    def test_what_it_says(self, tmp_path: Path) -> None:
        def machines(text: str) -> Mapping[str, BoxRef]:
            (tmp_path / "Vmfile").write_text(text)
            return {one.name: one.box for one in load(tmp_path / "Vmfile").machines}

        key = str(tmp_path / "keys" / "cosign.pub")
        text = (
            "box: oci://r.example/web:1\nbox_key: keys/cosign.pub\nmachines: {one: {}, two: {box: oci://r.example/x}}\n"
        )
        assert {box.key for box in machines(text).values()} == {key}
        aliased = "box: team/web\nbox_aliases: {team/web: oci://r.example/web}\nbox_key: keys/cosign.pub\n"
        assert machines(aliased)["default"].key == key
        with pytest.raises(VmfileInvalid, match="debian-12 is none"):
            machines("box: debian-12\nbox_key: keys/cosign.pub\n")
        with pytest.raises(VmfileInvalid, match="no file"):
            machines("box: oci://r.example/web\nbox_key: absent.pub\n")


def test_the_command_line(registry: Registry, tmp_path: Path, private_home: Path) -> None:
    shop, signer = Project(tmp_path, private_home), Signer(tmp_path / "keys")
    done = pushed(registry, HomeLayout(private_home), "cli/web")
    add_it = ("box", "add", registry.at("cli/web"), "--name", "web", "--key", "keys/cosign.pub")
    err = shop.vmctl(*add_it, status=1).err
    assert "is not signed by" in err
    assert "cosign sign --key" in err
    signer.sign(registry, "cli/web", done.reference.digest)
    assert shop.vmctl(*add_it, "--json").answer["changed"] is True
    der = process.run(["openssl", "pkey", "-pubin", "-in", signer.public, "-outform", "DER", "-out", tmp_path / "der"])
    assert der.status == 0
    fingerprint = hashlib.sha256((tmp_path / "der").read_bytes()).hexdigest()
    assert f"  signed by: sha256:{fingerprint}\n" in shop.vmctl("box", "list", "-i").out
    newer = pushed(registry, HomeLayout(private_home), "cli/web", byte=2)
    with pytest.raises(UsageError, match="these come from elsewhere: team/2"):
        updating.check_key(BoxStore(HomeLayout(private_home)).boxes("team/2"), signer.public)
    assert "these boxes were added by a key" in shop.vmctl("box", "update", "web", status=2).err
    update = ("box", "update", "web", "--key", "keys/cosign.pub")
    assert "is not signed by" in shop.vmctl(*update, status=1).err
    assert shop.vmctl("box", "outdated", "web", status=1).out.count("another image") == 1
    signer.sign(registry, "cli/web", newer.reference.digest)
    assert "added web" in shop.vmctl(*update).out
    assert shop.vmctl("box", "list", "-i").out.count(f"  signed by: sha256:{fingerprint}\n") == 2
