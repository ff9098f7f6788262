from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmctl.boxes import catalogue
from vmctl.boxes.catalogue import BadCatalogue, Offer, OfferFilter
from vmctl.boxes.checksum import DIGITS, Checksum
from vmctl.errors import UsageError
from vmctl.events import Event, Warned

WHERE = "https://example.org/boxes/catalogue.json"
SHA = "ab" * 32


def provider(name: str = "libvirt", url: str = "a.box", **more: Any) -> dict[str, Any]:
    return {"name": name, "url": url, **more}


def document(*versions: tuple[str, list[dict[str, Any]]]) -> bytes:
    entries = [{"version": version, "providers": providers} for version, providers in versions]
    return json.dumps({"name": "org/box", "versions": entries}).encode()


def chosen(data: bytes, wanted: OfferFilter | None = None) -> Offer:
    return catalogue.choose(catalogue.read(data, where=WHERE), wanted or OfferFilter(), where=WHERE)


def test_the_newest_version_wins() -> None:
    data = document(("1.9.0", [provider(url="19.box")]), ("1.10.0", [provider(url="110.box")]))
    offer = chosen(data)
    assert (offer.name, offer.version, offer.url) == ("org/box", "1.10.0", "https://example.org/boxes/110.box")


def test_constraints_and_prereleases() -> None:
    data = document(*[(version, [provider()]) for version in ("1.0.0", "1.1.9", "1.2.0", "2.0.0.beta")])
    assert chosen(data).version == "1.2.0"
    assert chosen(data, OfferFilter(constraint="~>1.1.5")).version == "1.1.9"
    assert chosen(data, OfferFilter(constraint="2.0.0.beta")).version == "2.0.0.beta"


def test_a_version_without_a_box_for_us_is_passed_over() -> None:
    data = document(("2.0", [provider("vmware_desktop")]), ("1.0", [provider("virtualbox"), provider(url="l.box")]))
    assert (chosen(data).version, chosen(data).provider) == ("1.0", "libvirt")
    assert chosen(data, OfferFilter(provider="virtualbox")).provider == "virtualbox"
    assert chosen(data, OfferFilter(provider="vmware_desktop")).version == "2.0"


@pytest.mark.parametrize(
    ("entries", "wanted", "expected"),
    [
        ([("amd64", False), ("arm64", True)], OfferFilter(), "amd64"),
        ([("amd64", False), ("arm64", True)], OfferFilter(host="aarch64"), "arm64"),
        ([("amd64", True), ("arm64", False)], OfferFilter(arch="arm64"), "arm64"),
        ([("unknown", True), ("arm64", False)], OfferFilter(), "unknown"),
        ([("unknown", True)], OfferFilter(arch="amd64"), None),
        ([("unknown", False)], OfferFilter(), None),
        ([("arm64", True)], OfferFilter(), None),
        ([(None, False)], OfferFilter(arch="riscv64"), None),
    ],
)
def test_architectures(entries: list[tuple[str | None, bool]], wanted: OfferFilter, expected: str | None) -> None:
    providers = [provider(url=f"{arch}.box", architecture=arch, default_architecture=own) for arch, own in entries]
    data = document(("1.0", providers))
    if expected is None:
        with pytest.raises(UsageError, match="offers no box for libvirt or virtualbox"):
            chosen(data, wanted)
    else:
        assert chosen(data, wanted).url.endswith(f"/{expected}.box")


def test_a_catalogue_that_tells_no_architecture_has_one_for_all() -> None:
    assert chosen(document(("1.0", [provider()])), OfferFilter(arch="riscv64")).arch is None


def test_checksums_of_every_kind() -> None:
    for kind, digits in DIGITS.items():
        data = document(("1.0", [provider(checksum_type=kind.upper(), checksum="A" * digits)]))
        checksum = chosen(data).checksum
        assert checksum is not None
        assert (checksum.algorithm, checksum.value) == (kind, "a" * digits)
    assert chosen(document(("1.0", [provider(checksum_type="", checksum="")]))).checksum is None


@pytest.mark.parametrize(("place", "url"), [("/srv/c.json", "/srv/a.box"), ("file:///srv/c.json", "/srv/a.box")])
def test_boxes_beside_the_catalogue(place: str, url: str) -> None:
    assert catalogue.read(document(("1", [provider()])), where=place)[0].url == url


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<html>", "it is not valid JSON"),
        (b"[" * 100_000, "it is not valid JSON"),
        (b"[]", "the document in it is not a JSON object"),
        (b"{}", "'name' must be text, not None"),
        (b'{"name": "a"}', "'versions' must be a list, not None"),
        (b'{"name": "a", "versions": [1]}', "a version in it is not a JSON object but '1'"),
        (document(("one", [])), "invalid version 'one'"),
        (document(("1." + "9" * 5000, [])), "invalid version '1.999"),
        (b'{"name": "a", "versions": ' + b"9" * 5000 + b"}", "a number of 5000 digits"),
        (b'{"name": "a", "x": ' + b"[" * 200 + b"]" * 200 + b"}", "nested deeper than 100 levels"),
    ],
)
def test_bad_catalogues(data: bytes, words: str) -> None:
    with pytest.raises(BadCatalogue) as caught:
        catalogue.read(data, where=WHERE)
    assert words in caught.value.details
    assert WHERE in caught.value.brief


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("sha256", f"{SHA}  package.box"),
        ("sha256", f"{SHA} *package.box\n"),
        ("sha256", f"  {SHA.upper()}\t \r\n"),
        ("SHA-256", SHA),
        ("sha_256", SHA),
        ("SHA2-256", SHA),
        ("sha256sum", SHA),
        ("sha256", f"sha256:{SHA}"),
        ("sha256", f"SHA256 (package (1).box) = {SHA}"),
        ("", f"SHA256(package.box)= {SHA}"),
        (None, SHA),
    ],
)
def test_a_checksum_as_publishers_write_it(kind: str | None, text: str) -> None:
    offer = chosen(document(("1.0", [provider(checksum_type=kind, checksum=text)])))
    assert offer.checksum == Checksum("sha256", SHA)


def test_no_checksum_is_said_in_many_ways() -> None:
    for kind, value in ((None, None), ("sha256", ""), ("none", None), ("md5", "  "), ("", "")):
        assert chosen(document(("1.0", [provider(checksum_type=kind, checksum=value)]))).checksum is None


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (provider(checksum_type="sha256", checksum="ab"), "invalid checksum 'ab' of the kind 'sha256'"),
        (provider(checksum_type="crc", checksum="ab"), "invalid checksum 'ab' of the kind 'crc'"),
        (provider(checksum_type="sha512", checksum=f"sha256:{SHA}"), "of the kind 'sha512'"),
        (provider(checksum_type="sha256", checksum=5), "invalid checksum '5'"),
        (provider(checksum="ab" * 16), "invalid checksum"),
        (provider(url=""), "'url' must be text, not ''"),
        (provider(url="file:///etc/passwd"), "leads to 'file:///etc/passwd'"),
        (provider(url="FILE:/etc/passwd"), "leads to 'FILE:/etc/passwd'"),
        (provider(url="ftp://example.org/a.box"), "may only lead to http and https URLs"),
        (provider(url="data:text/plain,x"), "may only lead to http and https URLs"),
        (provider(url="http://[::1/a.box"), "invalid URL"),
    ],
)
def test_a_bad_entry_costs_only_itself_and_is_told(bad: dict[str, Any], words: str) -> None:
    events: list[Event] = []
    data = document(("2.0", [bad]), ("1.0", [provider(checksum_type="sha256", checksum=SHA)]))
    offers = catalogue.read(data, where=WHERE, report=events.append)
    assert catalogue.choose(offers, OfferFilter(constraint="1.0"), where=WHERE, report=events.append).version == "1.0"
    assert events == []
    assert catalogue.choose(offers, OfferFilter(), where=WHERE, report=events.append).version == "1.0"
    (event,) = events
    assert isinstance(event, Warned)
    assert "left out 2.0 (libvirt, unknown)" in event.text
    assert words in event.text
    with pytest.raises(UsageError) as caught:
        catalogue.choose(offers, OfferFilter(constraint="2.0"), where=WHERE)
    assert words in caught.value.details


@pytest.mark.parametrize("bad", [{"version": "x"}, {"version": 2.0}, {"version": "2.0"}, 7, {"providers": []}])
def test_a_bad_version_costs_only_itself_and_is_told(bad: Any) -> None:
    events: list[Event] = []
    data = json.dumps({"name": "a/b", "versions": [bad, {"version": "1.0", "providers": [provider(), 5]}]}).encode()
    offers = catalogue.read(data, where=WHERE, report=events.append)
    assert catalogue.choose(offers, OfferFilter(), where=WHERE).version == "1.0"
    assert [type(event) for event in events] == [Warned]


def test_nothing_fits_says_what_there_is() -> None:
    with pytest.raises(UsageError) as caught:
        chosen(document(("1.0", [provider(architecture="arm64")])), OfferFilter(constraint=">2"))
    assert caught.value.brief == f"{WHERE} offers no box for libvirt or virtualbox on x86_64 version >2"
    assert caught.value.details == "it offers 1.0 (libvirt, aarch64)"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["1.0", "x", "sha256", "libvirt"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "version", "versions", "providers", "url", "checksum", "checksum_type"]), inner
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON)
def test_any_document_is_read_or_refused(value: Any) -> None:
    try:
        catalogue.read(json.dumps(value).encode(), where=WHERE)
    except BadCatalogue:
        return
