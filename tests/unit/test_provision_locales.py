from __future__ import annotations

import locale
import os

import pytest

from vmctl.provision import locales

VARIABLES = ("LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_NUMERIC")


@pytest.mark.parametrize(
    ("setting", "works"),
    [
        ({"LC_ALL": "C"}, False),
        ({"LC_ALL": "POSIX"}, False),
        ({"LC_ALL": "xx_XX.UTF-8"}, False),
        ({"LC_CTYPE": "UTF-8"}, False),
        ({"LANG": "en_US.ISO-8859-1"}, False),
        ({"LANG": "C.UTF-8", "LC_NUMERIC": "xx_XX.UTF-8"}, False),
        ({}, False),
        ({"LANG": ""}, False),
        ({"LC_ALL": "C.UTF-8"}, True),
        ({"LANG": "C.UTF-8", "LANGUAGE": "de:xx"}, True),
    ],
)
def test_ansible_gets_a_utf8_locale_that_exists(
    monkeypatch: pytest.MonkeyPatch, setting: dict[str, str], *, works: bool
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    before = locale.setlocale(locale.LC_ALL)
    assert locales.utf8(os.environ) == ({} if works else {"LC_ALL": "C.UTF-8"})
    assert locale.setlocale(locale.LC_ALL) == before


def test_the_users_language_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"de_DE.UTF-8", "C.UTF-8"}
    monkeypatch.setattr(locales, "_works", installed.__contains__)
    assert locales.utf8({"LANG": "de_DE@euro"}) == {"LC_ALL": "de_DE.UTF-8"}
    assert locales.utf8({"LANG": "fr_FR.ISO-8859-1"}) == {"LC_ALL": "C.UTF-8"}
    installed.clear()
    assert locales.utf8({"LANG": "C"}) == {}
