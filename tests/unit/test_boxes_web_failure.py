"""What is said of a server that gives no answer."""

from __future__ import annotations

import socket

import pytest
import requests

from vmctl.boxes.polling import Stalled
from vmctl.boxes.web_failure import reason


@pytest.fixture
def closed() -> int:
    """A port of the loopback where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    return number


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_refused_connection_is_told_without_the_libraries_layers(closed: int, scheme: str) -> None:
    with pytest.raises(requests.ConnectionError) as caught:
        requests.get(f"{scheme}://127.0.0.1:{closed}/x.box", timeout=5)
    assert reason(caught.value) == "the connection failed: Connection refused"


def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(requests.ConnectionError) as caught:
        requests.get("https://boxes.invalid/x.box", timeout=5)
    expected = "the connection failed: Failed to resolve 'boxes.invalid' (Name or service not known)"
    assert reason(caught.value) == expected


def test_others_are_told_in_their_own_words() -> None:
    assert reason(requests.Timeout("HTTPSConnectionPool(…)")) == "the server does not answer"
    assert reason(requests.ConnectionError("the connection broke off: x")) == "the connection broke off: x"
    assert reason(Stalled("nothing came for 30 s")) == "nothing came for 30 s"
