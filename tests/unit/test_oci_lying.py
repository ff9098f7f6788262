"""A registry that lies: whatever it sends, nothing wrong gets into the store, and no login goes astray."""

from __future__ import annotations

import base64
import dataclasses
import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from msgspec import structs

from tests.unit import oci_servers
from tests.unit.box_archives import tarred
from tests.unit.box_images import MIB, qcow2
from vmctl.boxes import retries
from vmctl.boxes.checksum import Checksum
from vmctl.boxes.oci import artifact, container_disk, pull, registry_client
from vmctl.boxes.oci.artifact import Config, DiskInfo
from vmctl.boxes.oci.qcow2_layout import CLUSTER
from vmctl.boxes.oci.registry_client import Blob, Lying, digest_of
from vmctl.boxes.oci.transport import RegistryError
from vmctl.boxes.oci.window_layers import Place, WindowLayer
from vmctl.boxes.request import Order
from vmctl.errors import UsageError, VmctlError
from vmctl.layout import HomeLayout

WINDOW = oci_servers.disk(windows=1, holes=())
LOGIN = base64.b64encode(b"robot:secret").decode()
Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Liar:
    """Says what it is told to say; ``pages``: path below /v2/box/ → status, headers, body."""

    port: int = 0
    pages: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    endless: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Path and Authorization of each request."""
    login: str = ""

    @property
    def address(self) -> str:
        return f"oci://127.0.0.1:{self.port}/box:1"

    def put(self, path: str, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.pages[f"/v2/box/{path}"] = (status, headers or {}, body)

    def blob(self, data: bytes) -> Blob:
        found = Blob(digest=digest_of(data), size=len(data))
        self.put(f"blobs/{found.digest}", data)
        return found

    def publish(self, manifest: bytes) -> None:
        self.put("manifests/1", manifest, headers={"Content-Type": registry_client.MANIFEST})

    def honest(self) -> tuple[Config, list[WindowLayer]]:
        """A box that is as it should be; its config and layers."""
        config = Config(
            schema=1, name="web", version="1", arch="x86_64", user="vmctl",
            disks=(DiskInfo(virtual_size=2 * MIB, window=MIB),),
        )  # fmt: skip
        blob = self.blob(zstd.compress(WINDOW))
        layers = [WindowLayer(blob=blob, place=Place(disk=0, window=0, clusters=MIB // CLUSTER))]
        self.box(config, layers)
        return config, layers

    def box(self, config: Config, layers: list[WindowLayer]) -> None:
        blob = self.blob(artifact.config_bytes(config))
        self.publish(artifact.manifest_bytes(config, blob, layers, created="now"))

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        shown = handler.headers.get("Authorization", "")
        self.asked.append((handler.path, shown))
        if self.login and shown != f"Basic {self.login}":
            return _send(handler, 401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
        status, headers, body = self.pages.get(handler.path, (404, {}, b""))
        if handler.path not in self.endless:
            return _send(handler, status, headers, body)
        handler.send_response(status)
        handler.end_headers()
        while True:
            handler.wfile.write(body)


def _send(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> Iterator[Liar]:
    with _liar() as one:
        monkeypatch.setenv("DOCKER_CONFIG", "/nowhere")
        monkeypatch.setenv("VMCTL_REGISTRY_AUTH", f"127.0.0.1:{one.port}=robot:secret")
        monkeypatch.setattr(retries, "FIRST_PAUSE", 0.01)
        yield one


class _liar:  # noqa: N801  a context manager, for two servers in one test
    def __init__(self) -> None:
        self.one = Liar()
        one = self.one

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    one.answer(self)
                except OSError:  # the client has had enough
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                return

        self.server = oci_servers.served(Handler)

    def __enter__(self) -> Liar:
        self.one.port = self.server.__enter__()
        return self.one

    def __exit__(self, *_: object) -> None:
        self.server.__exit__(None, None, None)


@pytest.fixture
def home(private_home: Path) -> HomeLayout:
    return HomeLayout(private_home)


def refused(liar: Liar, home: HomeLayout, kind: type[VmctlError] = Lying) -> VmctlError:
    with pytest.raises(kind) as caught:
        pull.obtain(Order(address=liar.address), home)
    assert not list(home.boxes.glob("*"))
    assert "secret" not in str(caught.value)
    return caught.value


def test_an_honest_one_is_taken(liar: Liar, home: HomeLayout) -> None:
    liar.honest()
    box, new = pull.obtain(Order(address=liar.address), home)
    assert (new, box.virtual_size) == (True, 2 * MIB)
    assert [shown for _, shown in liar.asked] == [""] * len(liar.asked), "nobody asked for a login"


def test_another_content_than_its_digest(liar: Liar, home: HomeLayout) -> None:
    _, layers = liar.honest()
    body = bytearray(zstd.compress(WINDOW))
    body[500] ^= 1
    liar.put(f"blobs/{layers[0].blob.digest}", bytes(body))
    assert "hashes to" in refused(liar, home).details
    assert not [path for path in home.downloads.iterdir() if path.suffix == ".part"]


def test_another_config_than_its_digest(liar: Liar, home: HomeLayout) -> None:
    config, layers = liar.honest()
    blob = liar.blob(artifact.config_bytes(config))
    liar.publish(artifact.manifest_bytes(config, blob, layers, created="now"))
    liar.put(f"blobs/{blob.digest}", artifact.config_bytes(structs.replace(config, user="vmctk")))
    assert "digest" in refused(liar, home).details


def test_a_short_blob(liar: Liar, home: HomeLayout) -> None:
    _, layers = liar.honest()
    liar.put(f"blobs/{layers[0].blob.digest}", zstd.compress(WINDOW)[:1000])
    assert "broke off" in refused(liar, home, RegistryError).details


@pytest.mark.parametrize("what", ["blob", "config", "manifest"])
def test_an_endless_answer(what: str, liar: Liar, home: HomeLayout) -> None:
    config, layers = liar.honest()
    paths = {
        "blob": f"blobs/{layers[0].blob.digest}", "config": f"blobs/{digest_of(artifact.config_bytes(config))}",
        "manifest": "manifests/1",
    }  # fmt: skip
    path = f"/v2/box/{paths[what]}"
    liar.endless.add(path)
    liar.pages[path] = (200, {}, bytes(256 * 1024))
    assert "longer than" in refused(liar, home).details
    assert sum(path.stat().st_size for path in home.downloads.glob("*.part")) == 0


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://192.0.2.1/x", "https://", "//["])
def test_a_redirect_to_where_nobody_may_go(target: str, liar: Liar, home: HomeLayout) -> None:
    _, layers = liar.honest()
    liar.put(f"blobs/{layers[0].blob.digest}", b"", 307, {"Location": target})
    assert "only https is followed" in refused(liar, home, RegistryError).details


def test_a_redirect_carries_no_login(liar: Liar, home: HomeLayout) -> None:
    liar.login = LOGIN
    _, layers = liar.honest()
    with _liar() as store:
        store.put("x", zstd.compress(WINDOW))
        liar.put(f"blobs/{layers[0].blob.digest}", b"", 307, {"Location": f"http://127.0.0.1:{store.port}/v2/box/x"})
        assert pull.obtain(Order(address=liar.address), home)[1]
        assert store.asked == [("/v2/box/x", "")]
    assert ("/v2/box/manifests/1", f"Basic {LOGIN}") in liar.asked


def test_redirects_without_end(liar: Liar, home: HomeLayout) -> None:
    _, layers = liar.honest()
    path = f"blobs/{layers[0].blob.digest}"
    liar.put(path, b"", 302, {"Location": f"http://127.0.0.1:{liar.port}/v2/box/{path}"})
    assert "redirects" in refused(liar, home, RegistryError).details


@pytest.mark.parametrize("realm", [
    "http://192.0.2.1/token", "file:///etc/passwd", "", "gopher://127.0.0.1", r"http://192.0.2.1\@127.0.0.1/token",
    "https://me@192.0.2.1/token", "http://[/",
])  # fmt: skip
def test_a_token_server_that_is_not_safe(realm: str, liar: Liar, home: HomeLayout) -> None:
    liar.put("manifests/1", b"", 401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'})
    assert "only https is safe" in refused(liar, home, VmctlError).brief


def test_a_way_in_that_vmctl_does_not_know(liar: Liar, home: HomeLayout) -> None:
    liar.put("manifests/1", b"", 401, headers={"WWW-Authenticate": "Negotiate"})
    assert "is not for this user" in refused(liar, home, VmctlError).brief


@pytest.mark.parametrize(
    "option", [{"version": "1"}, {"provider": "libvirt"}, {"checksum": Checksum.parse("sha256:" + "0" * 64)}]
)
def test_options_that_mean_nothing_to_a_registry(option: dict[str, Any], liar: Liar, home: HomeLayout) -> None:
    with pytest.raises(UsageError, match="to choose from") as caught:
        pull.obtain(Order(address=liar.address, **option), home)
    assert caught.value.hint.startswith(f"vmctl box add oci://127.0.0.1:{liar.port}/box")
    assert liar.asked == []


def test_a_label_becomes_a_name_without_another_pull(liar: Liar, home: HomeLayout) -> None:
    liar.honest()
    label, _ = pull.obtain(Order(address=liar.address, named=False), home)
    liar.pages = {path: page for path, page in liar.pages.items() if "blobs" not in path}
    box, new = pull.obtain(Order(address=liar.address), home)
    assert (label.named, box.named, box.directory, new) == (False, True, label.directory, False)


def test_what_the_user_says_stands_above_the_box(liar: Liar, home: HomeLayout) -> None:
    liar.honest()
    stated = Order(address=liar.address, name="mine", user="me", firmware="uefi", cloud_init=False, password="p")  # noqa: S106
    box, _ = pull.obtain(stated, home)
    assert (box.name, box.user, box.firmware, box.seeding) == ("mine", "me", "uefi", "none")
    assert box.first_login_password() == "p"
    assert pull.obtain(stated, home) == (box, False)
    other, new = pull.obtain(dataclasses.replace(stated, cloud_init=True), home)
    assert (other.seeding, new) == ("cloud-init", True)


Change = Callable[[dict[str, Any]], object]
DELTA = "application/vnd.vmctl.disk.delta.v1+zstd"
SENSELESS: dict[str, tuple[Change, str]] = {
    "no layers": (lambda m: m.update(layers=[]), "from 1 to 8000 layers"),
    "many layers": (lambda m: m.update(layers=m["layers"] * 9000), "from 1 to 8000 layers"),
    "twice": (lambda m: m.update(layers=m["layers"] * 2), "two of its layers"),
    "outside": (lambda m: m["layers"][0]["annotations"].update({"vmctl.window": "2"}), "window 2 of disk 0"),
    "no such disk": (lambda m: m["layers"][0]["annotations"].update({"vmctl.disk": "1"}), "a disk that does not exist"),
    "too full": (lambda m: m["layers"][0]["annotations"].update({"vmctl.clusters": "17"}), "is invalid"),
    "empty": (lambda m: m["layers"][0]["annotations"].update({"vmctl.clusters": "0"}), "is invalid"),
    "negative": (lambda m: m["layers"][0]["annotations"].update({"vmctl.window": "-1"}), "where it belongs"),
    "a number": (lambda m: m["layers"][0]["annotations"].update({"vmctl.window": 0}), "where it belongs"),
    "huge": (lambda m: m["layers"][0].update(size=2 * MIB), "larger than what it unpacks to"),
    "no size": (lambda m: m["layers"][0].update(size=-1), "not the size"),
    "a float": (lambda m: m["layers"][0].update(size=1e9), "not the size"),
    "a path": (lambda m: m["layers"][0].update(digest="sha256:../../x"), "not a SHA-256 digest"),
    "another hash": (lambda m: m["layers"][0].update(digest="md5:00"), "not a SHA-256 digest"),
    "a foreign layer": (lambda m: m["layers"][0].update(mediaType="x/y"), "does not know"),
    "another content": (lambda m: m["layers"][0]["annotations"].update({"vmctl.content": "x"}), "digest of a window"),
    "a change of nothing": (lambda m: m["layers"][0].update(mediaType=DELTA), "a window that is not there"),
    "many changes": (
        lambda m: m["layers"].extend([{**m["layers"][0], "mediaType": DELTA}] * 8),
        "was changed too often",
    ),
    "upside down": (
        lambda m: m["layers"].append(
            {
                **m["layers"][0],
                "mediaType": DELTA,
                "annotations": {**m["layers"][0]["annotations"], "vmctl.inherited": "1"},
            }
        ),
        "below its parent's",
    ),
    "no parent": (lambda m: m["annotations"].update({"vmctl.parent": "../x"}), "the digest of a parent"),
    "half a parent": (lambda m: m["annotations"].update({"vmctl.parent": "sha256:" + "0" * 64}), "digest of a parent"),
    "a large config": (lambda m: m["config"].update(size=2 * MIB), "and may have"),
    "no config": (lambda m: m.update(config=None), "not a SHA-256 digest"),
}


@pytest.mark.parametrize("case", SENSELESS)
def test_a_manifest_that_makes_no_sense(case: str, liar: Liar, home: HomeLayout) -> None:
    change, expected = SENSELESS[case]
    liar.honest()
    manifest = json.loads(liar.pages["/v2/box/manifests/1"][2])
    change(manifest)
    liar.publish(artifact.dump(manifest))
    assert expected in refused(liar, home).details


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{" * 10000, b"<html>", b'{"manifests": 3}', b'{"layers": {}}'])
def test_a_manifest_that_is_none(body: bytes, liar: Liar, home: HomeLayout) -> None:
    liar.publish(body)
    refused(liar, home)


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "a trigger": ({"defaults": {"provision": [{"shell": "rm"}]}}, "what no box may set"),
    "a folder": ({"defaults": {"synced_folders": [{"host": "/"}]}}, "what no box may set"),
    "virtualbox": ({"defaults": {"virtualbox": {"customize": ["x"]}}}, "what no box may set"),
    "memory": ({"defaults": {"memory": "lots"}}, "what no box may set"),
    "user": ({"user": "x y"}, "invalid user name"),
    "arch": ({"arch": "../x"}, "not an architecture"),
    "version": ({"version": "../../x"}, "invalid version"),
    "firmware": ({"firmware": "evil"}, "firmware"),
    "key": ({"first_key": "own", "key": base64.b64encode(b"x").decode()}, "not a private SSH key"),
    "no key": ({"first_key": "own"}, "no key"),
    "no disk": ({"disks": ()}, "0 disks"),
    "a large disk": ({"disks": (DiskInfo(virtual_size=2**60, window=2**59),)}, "size of a disk"),
    "windows": ({"disks": (DiskInfo(virtual_size=2**36, window=CLUSTER),)}, "size of a disk"),
    "newer": ({"schema": 2}, "newer vmctl"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_config_that_asks_for_more_than_a_box_may(case: str, liar: Liar, home: HomeLayout) -> None:
    change, expected = HOSTILE[case]
    config, layers = liar.honest()
    liar.box(structs.replace(config, **change), layers)
    assert expected in refused(liar, home).details


@pytest.mark.parametrize(
    ("content", "clusters", "expected"),
    [
        (WINDOW[:-1], 16, "it ends after"),
        (WINDOW + b"x", 16, "longer than"),
        (WINDOW, 15, "more of it is not zero"),
        (bytes(MIB), 3, "0 of its clusters are not zero, not 3"),
    ],
)
def test_a_window_that_is_another(content: bytes, clusters: int, expected: str, liar: Liar, home: HomeLayout) -> None:
    config, _ = liar.honest()
    blob = liar.blob(zstd.compress(content))
    liar.box(config, [WindowLayer(blob=blob, place=Place(disk=0, window=0, clusters=clusters))])
    assert expected in refused(liar, home).details


BITMAP = bytes(MIB // 4096 // 8)
ONE = b"\1" + BITMAP[1:]
CHANGED = b"x" * 4096 + WINDOW[4096:]


def delta(liar: Liar, data: bytes, *, content: bytes = CHANGED) -> WindowLayer:
    """A layer that says to make ``content`` of ``WINDOW``."""
    place = Place(disk=0, window=0, clusters=MIB // CLUSTER)
    return WindowLayer(blob=liar.blob(zstd.compress(data)), place=place, delta=True, content=digest_of(content))


def test_an_honest_change_is_taken(liar: Liar, home: HomeLayout) -> None:
    config, layers = liar.honest()
    liar.box(config, [*layers, delta(liar, ONE + b"x" * 4096)])
    assert pull.obtain(Order(address=liar.address), home)[1]
    assert list(home.downloads.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (ONE + b"x" * 4095, "ends early"),
        (ONE + b"x" * 4097, "longer than its blocks"),
        (ONE[:-1], "list of blocks"),
        (b"", "list of blocks"),
        (b"\xff" * len(BITMAP), "ends early"),
        (ONE + b"y" * 4096, "not what its changes should make of it"),
        (BITMAP, "not what its changes should make of it"),
    ],
)
def test_a_change_that_is_another(data: bytes, expected: str, liar: Liar, home: HomeLayout) -> None:
    config, layers = liar.honest()
    liar.box(config, [*layers, delta(liar, data)])
    assert expected in refused(liar, home).details
    assert not [path for path in home.downloads.iterdir() if path.suffix in (".part", ".raw")]


def test_a_change_that_does_not_say_what_comes_of_it(liar: Liar, home: HomeLayout) -> None:
    config, layers = liar.honest()
    liar.box(config, [*layers, structs.replace(delta(liar, ONE + b"x" * 4096), content="")])
    refused(liar, home)


def test_a_list_of_blocks_beyond_the_window(liar: Liar, home: HomeLayout) -> None:
    config, layers = liar.honest()
    config = structs.replace(config, disks=(DiskInfo(virtual_size=MIB + 8192, window=MIB),))
    end = liar.blob(zstd.compress(b"e" * 8192))
    place = Place(disk=0, window=1, clusters=1)
    beyond = WindowLayer(blob=liar.blob(zstd.compress(b"\4" + b"x" * 4096)), place=place, delta=True, content="")
    liar.box(config, [*layers, WindowLayer(blob=end, place=place), beyond])
    assert "list of blocks" in refused(liar, home).details


def test_a_window_that_is_no_zstd(liar: Liar, home: HomeLayout) -> None:
    config, _ = liar.honest()
    liar.box(config, [WindowLayer(blob=liar.blob(b"x" * 500), place=Place(disk=0, window=0, clusters=16))])
    assert "zstd data is damaged" in refused(liar, home).details


def test_a_window_that_wants_much_memory(liar: Liar, home: HomeLayout) -> None:
    config, _ = liar.honest()
    options: Mapping[int, int] = {
        zstd.CompressionParameter.window_log: 27,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
    }
    packer = zstd.ZstdCompressor(options=options)
    data = packer.compress(WINDOW) + packer.flush()
    liar.box(config, [WindowLayer(blob=liar.blob(data), place=Place(disk=0, window=0, clusters=16))])
    assert "zstd data is damaged" in refused(liar, home).details


def test_a_disk_that_refers_to_others_or_boots_nothing(liar: Liar, home: HomeLayout) -> None:
    config, _ = liar.honest()
    blob = liar.blob(zstd.compress(b"x" + bytes(MIB - 1)))
    liar.box(config, [WindowLayer(blob=blob, place=Place(disk=0, window=0, clusters=1))])
    assert pull.obtain(Order(address=liar.address), home)[1], "whether it boots is the guest's business"


def test_a_tag_that_moves_between_two_requests(liar: Liar, home: HomeLayout) -> None:
    """The index leads to a manifest by digest: what comes then is that one, or nothing."""
    config, layers = liar.honest()
    manifest = liar.pages["/v2/box/manifests/1"][2]
    entry = artifact.IndexEntry(
        blob=Blob(digest=digest_of(manifest), size=len(manifest)), arch="x86_64", kind=registry_client.MANIFEST
    )
    liar.put("manifests/1", artifact.index_bytes([entry]), headers={"Content-Type": registry_client.INDEX})
    other = artifact.manifest_bytes(
        structs.replace(config, version="2"), liar.blob(artifact.config_bytes(config)), layers, created="later"
    )
    liar.put(f"manifests/{digest_of(manifest)}", other, headers={"Content-Type": registry_client.MANIFEST})
    assert "has the digest" in refused(liar, home).details
    liar.put(f"manifests/{digest_of(manifest)}", manifest, headers={"Content-Type": registry_client.MANIFEST})
    assert pull.obtain(Order(address=liar.address), home)[0].version == "1"


def test_a_busy_registry_is_asked_again(liar: Liar, home: HomeLayout) -> None:
    liar.honest()
    kept = liar.pages["/v2/box/manifests/1"]
    liar.put("manifests/1", b"", 429, headers={"Retry-After": "9999"})
    assert "429" in refused(liar, home, RegistryError).details
    liar.pages["/v2/box/manifests/1"] = kept
    assert pull.obtain(Order(address=liar.address), home)[1]


def test_two_images_that_share_a_layer_come_at_the_same_time(
    liar: Liar, home: HomeLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = liar.blob(tarred({"disk/x.qcow2": qcow2(payload=b"cloud image" * 100)}))
    for tag in ("1", "2"):
        config = liar.blob(artifact.dump({"architecture": "amd64", "os": "linux", "author": tag}))
        document = {
            "schemaVersion": 2, "config": {"digest": config.digest, "size": config.size},
            "layers": [{"mediaType": container_disk.LAYERS[0], "digest": layer.digest, "size": layer.size}],
        }  # fmt: skip
        liar.put(f"manifests/{tag}", artifact.dump(document), headers={"Content-Type": registry_client.MANIFEST})
    begun, other_ended = threading.Event(), threading.Event()
    real = _send

    def halting(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
        if layer.digest not in handler.path or begun.is_set():
            real(handler, status, headers, body)
            return
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2])
        begun.set()
        other_ended.wait(10)
        handler.wfile.write(body[len(body) // 2 :])

    monkeypatch.setattr(sys.modules[__name__], "_send", halting)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: pull.obtain(Order(address=liar.address, name="one"), home))
        begun.wait(10)
        second, _ = pull.obtain(Order(address=liar.address.removesuffix("1") + "2", name="two"), home)
        other_ended.set()
        assert first.result()[0].digest == second.digest
    assert list(home.downloads.iterdir()) == []
