"""Addresses of boxes in registries: what is one, what it means, and why another is not."""

from __future__ import annotations

import pytest

from vmctl.boxes.address import plain_source
from vmctl.boxes.oci.reference import Reference, is_loopback, is_oci
from vmctl.errors import UsageError

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("address", "host", "repository", "target", "written"),
    [
        ("oci://r.example/web", "r.example", "web", "latest", "oci://r.example/web:latest"),
        ("oci://r.example:5000/a/b-c/d.e:1.0", "r.example:5000", "a/b-c/d.e", "1.0", "oci://r.example:5000/a/b-c/d.e:1.0"),
        ("OCI://R.Example/web:V1", "r.example", "web", "V1", "oci://r.example/web:V1"),
        (f"oci://[::1]:5000/web@{DIGEST}", "[::1]:5000", "web", DIGEST, f"oci://[::1]:5000/web@{DIGEST}"),
        (f"oci://r.example/web:1@{DIGEST}", "r.example", "web", DIGEST, f"oci://r.example/web@{DIGEST}"),
        ("oci://docker.io/debian", "registry-1.docker.io", "library/debian", "latest", "oci://docker.io/library/debian:latest"),
    ],
)  # fmt: skip
def test_addresses(address: str, host: str, repository: str, target: str, written: str) -> None:
    found = Reference.parse(address)
    assert (found.host, found.repository, found.target, str(found)) == (host, repository, target, written)
    assert Reference.parse(str(found)).target == target
    assert plain_source(address) == written


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("oci://", "'' is not a host"),
        ("oci://r.example", "'' is not a repository"),
        ("oci://r.example/", "'' is not a repository"),
        ("oci://r.example/Web", "'Web' is not a repository"),
        ("oci://r.example/a//b", "'a//b' is not a repository"),
        ("oci://r.example/../b", "'../b' is not a repository"),
        ("oci://r.example/web:", "'' is not a tag"),
        ("oci://r.example/web:a b", "'a b' is not a tag"),
        ("oci://r.example/web@", "'' is not a digest"),
        ("oci://r.example/web@md5:00", "'md5:00' is not a digest"),
        ("oci://r.example/web?x=y", "'web?x=y' is not a repository"),
        ("oci://-x/web", "'-x' is not a host"),
        ("https://r.example/web", ""),
    ],
)
def test_what_is_not_an_address(address: str, why: str) -> None:
    with pytest.raises(UsageError, match="invalid address") as caught:
        Reference.parse(address)
    assert caught.value.details.startswith(why)


def test_a_login_in_an_address_is_not_shown() -> None:
    with pytest.raises(UsageError) as caught:
        Reference.parse("oci://robot:sesame@r.example/web")
    assert "sesame" not in str(caught.value)
    assert "docker login" in caught.value.hint


def test_who_is_on_this_host() -> None:
    assert all(map(is_loopback, ("localhost", "LOCALHOST:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000")))
    assert not any(map(is_loopback, ("localhost.example", "10.0.0.1:5000", "r.example", "", "127.0.0.1.example")))
    assert is_oci("oci://x")
    assert not is_oci("ocix://x")
