"""Logins for registries: where they are looked for, what each place may say, and what is not believed."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.box_images import write
from vmctl.boxes.oci import challenge, credentials
from vmctl.boxes.oci.challenge import Challenge
from vmctl.boxes.oci.credentials import RegistryLogin
from vmctl.errors import UsageError, VmctlError

HOST = "r.example:5000"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Where logins may be, in the order in which they are looked for; none is there."""
    monkeypatch.delenv("VMCTL_REGISTRY_AUTH", raising=False)
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "named"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    found = {
        "named": tmp_path / "named", "run": tmp_path / "run" / "containers" / "auth.json",
        "config": tmp_path / "config" / "containers" / "auth.json", "docker": tmp_path / "docker" / "config.json",
    }  # fmt: skip
    for path in found.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    return found


def auths(**logins: str) -> dict[str, Any]:
    """The content of a file of logins; the key's ``_`` stands for HOST."""
    return {
        "auths": {
            key.replace("_", HOST): {"auth": base64.b64encode(login.encode()).decode()} for key, login in logins.items()
        }
    }


def found(repository: str = "team/web", registry: str = HOST) -> str:
    login = credentials.find(registry, repository)
    return f"{login.user}:{login.password}{login.token}" if login else ""


def test_places_in_their_order(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert found() == ""
    for name, path in reversed(places.items()):
        path.write_text(json.dumps(auths(_=f"{name}:x")))
        assert found() == f"{name}:x"
    monkeypatch.setenv("VMCTL_REGISTRY_AUTH", f"{HOST}=me:p:q")
    assert found() == "me:p:q"
    assert found(registry="other.example") == ""


@pytest.mark.parametrize(
    ("content", "login"),
    [
        (auths(_="me:x"), "me:x"),
        ({"auths": {f"{HOST}/team": auths(_="team:x")["auths"][HOST], **auths(_="me:x")["auths"]}}, "team:x"),
        ({"auths": {f"https://{HOST}": {"username": "me", "password": "x"}}}, "me:x"),
        ({"auths": {HOST: {"auth": "", "identitytoken": "TOKEN"}}}, ":TOKEN"),
        ({"auths": {HOST: {}}}, ""),
        ({"auths": {"r.example": auths(_="me:x")["auths"][HOST]}}, ""),
        ({"auths": []}, ""),
        ([], ""),
    ],
)
def test_what_a_file_may_say(content: object, login: str, places: dict[str, Path]) -> None:
    places["docker"].write_text(json.dumps(content))
    assert found() == login


def test_docker_hub_has_a_key_of_its_own(places: dict[str, Path]) -> None:
    entry = auths(_="me:x")["auths"][HOST]
    places["docker"].write_text(json.dumps({"auths": {"https://index.docker.io/v1/": entry}}))
    assert found(registry="docker.io", repository="library/debian") == "me:x"


@pytest.mark.parametrize("text", ["{", json.dumps({"auths": {HOST: {"auth": "%%"}}}), "\udcff"])
def test_a_damaged_file_is_told(text: str, places: dict[str, Path]) -> None:
    places["docker"].write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match=r"config\.json"):
        found()


@pytest.mark.parametrize("text", ["robot", "r.example=robot", "r.example=:secret", "/nowhere", "{"])
def test_a_variable_that_is_invalid_is_told_without_its_secret(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMCTL_REGISTRY_AUTH", text)
    with pytest.raises(UsageError, match="VMCTL_REGISTRY_AUTH") as caught:
        found()
    assert "secret" not in str(caught.value)


class TestHelper:
    @pytest.fixture(autouse=True)
    def asked(self, places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        places["docker"].write_text(json.dumps({"credsStore": "test", **auths(_="file:x")}))
        (tmp_path / "bin").mkdir()
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    def answers(self, tmp_path: Path, script: str) -> None:
        write(tmp_path / "bin" / "docker-credential-test", f"#!/bin/sh\n{script}\n".encode()).chmod(0o755)

    def test_gives_a_password(self, tmp_path: Path) -> None:
        self.answers(tmp_path, """read key; echo "{\\"Username\\": \\"$1\\", \\"Secret\\": \\"$key\\"}" """)
        assert found() == f"get:{HOST}"

    def test_gives_a_token(self, tmp_path: Path) -> None:
        self.answers(tmp_path, """echo '{"Username": "<token>", "Secret": "T"}'""")
        assert found() == ":T"

    def test_that_knows_none_leaves_it_to_the_file(self, tmp_path: Path) -> None:
        self.answers(tmp_path, "echo credentials not found in native keychain; exit 1")
        assert found() == "file:x"

    @pytest.mark.parametrize(
        ("script", "stated"), [("echo locked; exit 1", "failed"), ("echo '[]'", "invalid"), ("echo x", "invalid")]
    )
    def test_that_fails_is_told(self, script: str, stated: str, tmp_path: Path) -> None:
        self.answers(tmp_path, script)
        with pytest.raises(VmctlError, match=stated):
            found()

    def test_is_a_name_and_nothing_else(self, places: dict[str, Path]) -> None:
        places["docker"].write_text(json.dumps({"credsStore": "../../bin/sh"}))
        with pytest.raises(UsageError, match="is not the name of a credential helper"):
            found()


def test_a_login_does_not_show_itself() -> None:
    assert "x" not in repr(RegistryLogin(user="x", password="x", token="x"))  # noqa: S106


@pytest.mark.parametrize(
    ("header", "asked"),
    [
        ('Basic realm="r"', Challenge(scheme="basic", realm="r")),
        (
            'Bearer realm="https://t/x,y",service="s",scope="repository:a:pull,push"',
            Challenge(scheme="bearer", realm="https://t/x,y", service="s", scope="repository:a:pull,push"),
        ),
        ('Basic realm="r", Bearer realm="t", service=s', Challenge(scheme="bearer", realm="t", service="s")),
        ('bearer REALM="t"', Challenge(scheme="bearer", realm="t")),
        ("Negotiate", None),
        ("", None),
        ('Basic realm="' + "x" * 9000, Challenge(scheme="basic")),
    ],
)
def test_what_registries_ask_for(header: str, asked: Challenge | None) -> None:
    assert challenge.read(header) == asked
