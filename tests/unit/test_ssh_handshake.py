from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from tests.unit.password_server import Account, PasswordServer
from vmctl import key_pairs
from vmctl.driver import Address
from vmctl.login import Login
from vmctl.ssh import Connection
from vmctl.ssh.handshake import LoginRefused

SECRET = "pass word'ü\\"  # noqa: S105  of the test's own server


@pytest.fixture
def account(tmp_path: Path) -> Account:
    return Account(tmp_path / "home", SECRET)


@pytest.fixture
def login(account: Account, tmp_path: Path) -> Iterator[Login]:
    key_pairs.ensure(tmp_path / "host_key")
    key_pairs.ensure(tmp_path / "key")
    key_pairs.ensure(tmp_path / "first_key")
    (tmp_path / "secret").write_text(SECRET)
    server = PasswordServer(account, tmp_path / "host_key")
    yield Login(
        machine="web", address=Address(host="127.0.0.1", port=server.port), user="me", key=tmp_path / "key",
        known_hosts=tmp_path / "known_hosts", config=tmp_path / "config", first_key=tmp_path / "first_key",
        first_password=tmp_path / "secret",
    )  # fmt: skip
    server.close()


@pytest.mark.parametrize("interactive", [False, True])
def test_a_guest_that_knows_no_key_takes_the_password(account: Account, login: Login, *, interactive: bool) -> None:
    account.interactive = interactive
    account.home.mkdir()
    with Connection.connect(login) as connection:
        assert connection.run("echo in").stdout == "in\n"
    assert account.tried == ["publickey", "publickey", "password", *(["interactive"] if interactive else [])]


def test_no_password_is_sent_where_a_key_lets_in(account: Account, login: Login) -> None:
    (account.home / ".ssh").mkdir(parents=True)
    (account.home / ".ssh" / "authorized_keys").write_text(key_pairs.ensure(login.key))
    Connection.connect(login).close()
    assert set(account.tried) == {"publickey"}


@pytest.mark.parametrize("interactive", [False, True])
def test_a_wrong_password_is_told_and_never_shown(account: Account, login: Login, *, interactive: bool) -> None:
    account.interactive = interactive
    account.password = "another"  # noqa: S105  of the test's own server
    with pytest.raises(LoginRefused) as caught:
        Connection.connect(login)
    assert "not made for this user and the box's own key and password" in caught.value.details
    assert SECRET not in f"{caught.value}{login}"


def test_without_a_password_none_is_tried(account: Account, login: Login) -> None:
    with pytest.raises(LoginRefused):
        Connection.connect(structs.replace(login, first_password=None))
    assert set(account.tried) == {"publickey"}
