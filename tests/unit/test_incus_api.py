"""The REST API, and answers that a sound server would never give, on a unix socket."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from vmctl import interrupt
from vmctl.driver import UNTOLD, Host, NotOurs, Observed, State, Tag
from vmctl.errors import Interrupted, Unreachable, VmctlError
from vmctl_incus import IncusDriver, api, requesting
from vmctl_incus.api import Api
from vmctl_incus.requesting import Endpoint, ServerError

TAG = Tag(project="0" * 32, machine="web", version="0")
OPERATION = {"type": "async", "operation": "/1.0/operations/7", "metadata": {}}
Answer = Callable[[str, str], tuple[int, bytes]]


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    asked: list[str]
    answer: Answer


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        status, data = self.server.answer(self.command, path)
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815  as above

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@contextmanager
def serving(place: Path, answer: Answer) -> Iterator[tuple[Path, list[str]]]:
    path = place / "s"
    with Server(str(path), Handler) as server:
        server.asked, server.answer = [], answer
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield path, server.asked
        finally:
            server.shutdown()
            thread.join()


def sync(value: Any) -> tuple[int, bytes]:
    return 200, json.dumps({"type": "sync", "metadata": value}).encode()


def error(code: int, said: str) -> tuple[int, bytes]:
    return code, json.dumps({"type": "error", "error": said, "error_code": code}).encode()


def an_api(path: Path) -> Api:
    return Api(Endpoint(url=f"unix://{path}", socket=path), "default")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, b""), "not JSON"),
        ((200, b'{"type": "sync", "metadata": {"a"'), "not JSON"),
        ((200, b"[" * 500_000), "nested deeper"),
        ((200, b"[1]"), "not an answer of the API"),
        ((502, b"<html>Bad gateway"), "HTTP 502, and not JSON"),
    ],
)
def test_what_is_not_an_answer_is_told(tmp_path: Path, answer: tuple[int, bytes], said: str) -> None:
    with serving(tmp_path, lambda *_: answer) as (path, _), pytest.raises(Unreachable) as caught:
        an_api(path).get("/1.0/instances")
    assert said in caught.value.details


def test_a_cluster_is_asked_again_until_it_has_noticed_that_a_member_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "TRIES", (0.2, 0.2, 5.0))
    ended = threading.Event()
    away = {"name": "web", "status": "Error", "location": "b", "config": None}
    ground = {**away, "name": f"vmctl-box-{'0' * 24}-{'1' * 12}"}

    def slow(_method: str, path: str) -> tuple[int, bytes]:
        if path == "/1.0/instances" and asked.count("GET /1.0/instances") < 3:
            ended.wait(10)
        return sync([away, ground] if path == "/1.0/instances" else {"auth": "trusted"})

    with serving(tmp_path, slow) as (path, asked):
        driver = IncusDriver(Host(home=tmp_path, options={"url": f"unix://{path}"}))
        observed = driver.states()
        ended.set()
    assert asked.count("GET /1.0/instances") == 3
    assert {name: (one.state, one.member) for name, one in observed.items()} == {"web": (State.UNKNOWN, "b")}


def test_the_servers_words_are_told(tmp_path: Path) -> None:
    with (
        serving(tmp_path, lambda *_: error(500, "the pool is full")) as (path, _),
        pytest.raises(ServerError) as caught,
    ):
        an_api(path).get("/1.0/instances")
    assert (caught.value.brief, caught.value.code) == ("the pool is full", 500)


def test_a_server_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requesting, "TIMEOUT", 0.1)
    hung = threading.Event()

    def hang(*_: str) -> tuple[int, bytes]:
        hung.wait(10)
        return sync({})

    with serving(tmp_path, hang) as (path, _):
        with pytest.raises(Unreachable) as caught:
            an_api(path).get("/1.0/instances")
        hung.set()
    assert "did not answer GET /1.0/instances" in caught.value.details


def test_an_operation_that_is_lost_is_not_taken_for_done(tmp_path: Path) -> None:
    def answer(method: str, _path: str) -> tuple[int, bytes]:
        return error(404, "not found") if method == "GET" else (202, json.dumps(OPERATION).encode())

    with serving(tmp_path, answer) as (path, _), pytest.raises(ServerError, match="lost an operation"):
        an_api(path).change("POST", "/1.0/instances", {})


def test_a_wait_that_ends_in_an_error_is_no_end_of_the_operation(tmp_path: Path) -> None:
    """As Incus answers when the time is over, and when the operation failed."""
    running, over = {"status_code": 103}, {"status_code": 200, "metadata": "all of it"}
    failed = {"status_code": 400, "err": "the pool is full"}
    for last in (over, failed):
        states = iter((running, running, last))

        def answer(method: str, path: str, states: Iterator[Any] = states) -> tuple[int, bytes]:
            if path.endswith("/wait"):
                return error(500, "context deadline exceeded")
            return sync(next(states)) if method == "GET" else (202, json.dumps(OPERATION).encode())

        with serving(tmp_path, answer) as (path, _):
            if last is over:
                assert an_api(path).change("POST", "/1.0/instances", {}) == over
            else:
                with pytest.raises(ServerError, match="the pool is full"):
                    an_api(path).change("POST", "/1.0/instances", {})
        path.unlink()


def test_an_operation_that_fails_says_why(tmp_path: Path) -> None:
    def answer(method: str, _path: str) -> tuple[int, bytes]:
        done = {"status_code": 400, "err": "no space left"}
        return sync(done) if method == "GET" else (202, json.dumps(OPERATION).encode())

    with serving(tmp_path, answer) as (path, _), pytest.raises(VmctlError, match="no space left"):
        an_api(path).change("POST", "/1.0/instances", {})


def test_ctrl_c_cancels_what_goes_on(tmp_path: Path, clean_interrupt: None) -> None:
    def answer(method: str, path: str) -> tuple[int, bytes]:
        if path.endswith("/wait"):
            interrupt.request()
            return sync({"status_code": 103})
        return (202, json.dumps(OPERATION).encode()) if method == "POST" else sync({})

    with serving(tmp_path, answer) as (path, asked):
        with pytest.raises(Interrupted):
            an_api(path).change("POST", "/1.0/instances", {})
        interrupt.clear()
    wait = "GET /1.0/operations/7/wait"
    assert asked == ["POST /1.0/instances", wait, "DELETE /1.0/operations/7", wait]


def test_what_an_earlier_command_began_on_an_instance_is_waited_for(tmp_path: Path) -> None:
    running = [
        {"id": "7", "resources": {"instances": ["/1.0/instances/web"]}},
        {"id": "8", "resources": {"instances": ["/1.0/instances/db"]}},
        {"id": "9", "resources": None},
    ]

    def answer(_method: str, path: str) -> tuple[int, bytes]:
        return sync({"status_code": 200} if path.endswith("/wait") else {"running": running})

    with serving(tmp_path, answer) as (path, asked):
        an_api(path).await_others("/1.0/instances/web")
    assert asked == ["GET /1.0/operations", "GET /1.0/operations/7/wait"]


def test_an_instance_goes_once_the_start_that_was_cut_short_has_ended(tmp_path: Path) -> None:
    """A vmctl that was killed may have begun it."""
    config = {"user.vmctl.project": "0" * 32, "user.vmctl.machine": "web", "user.vmctl.name": "web"}
    start = {"id": "9", "resources": {"instances": ["/1.0/instances/web"]}}

    def answer(method: str, path: str) -> tuple[int, bytes]:
        if method != "GET":
            return 202, json.dumps(OPERATION).encode()
        if path == "/1.0/instances/web":
            return sync({"name": "web", "status": "Running", "config": config})
        known = {"/1.0": {"auth": "trusted"}, "/1.0/operations": {"running": [start]}}
        return sync({"status_code": 200} if path.endswith("/wait") else known.get(path, []))

    with serving(tmp_path, answer) as (path, asked):
        IncusDriver(Host(home=tmp_path, options={"url": f"unix://{path}"})).destroy("web", TAG)
    waited, removed = asked.index("GET /1.0/operations/9/wait"), asked.index("DELETE /1.0/instances/web")
    assert asked.index("PUT /1.0/instances/web/state") < waited < removed


@pytest.mark.parametrize("config", [None, {}, {"user.vmctl.project": "1" * 32, "user.vmctl.machine": "web"}])
def test_what_bears_another_tag_is_not_touched(tmp_path: Path, config: Any) -> None:
    if config:
        config = {**config, "user.vmctl.name": "web"}
    found = {"name": "web", "status": "Running", "config": config}
    answers = {"/1.0": {"auth": "trusted"}, "/1.0/instances/web": found}
    with serving(tmp_path, lambda _method, path: sync(answers[path])) as (path, asked):
        driver = IncusDriver(Host(home=tmp_path, options={"url": f"unix://{path}"}))
        with pytest.raises(NotOurs):
            driver.destroy("web", TAG)
    assert {each.partition(" ")[0] for each in asked} == {"GET"}


def test_what_the_server_cannot_tell_of_is_unknown_and_not_absent(tmp_path: Path) -> None:
    away = {"name": "lab-web-01234567", "status": "Error", "config": None, "location": "b"}
    answers: dict[str, Any] = {
        "/1.0": {"auth": "trusted", "environment": {"server_clustered": True, "server": "lxd"}},
        "/1.0/instances": [away, {"name": "foreign", "status": "Running", "config": {}}],
    }
    with serving(tmp_path, lambda _method, path: sync(answers[path])) as (path, asked):
        driver = IncusDriver(Host(home=tmp_path, options={"url": f"unix://{path}"}))
        told = Observed(state=State.UNKNOWN, tag=UNTOLD, raw="member b does not answer", member="b")
        assert driver.states() == {"lab-web-01234567": told}
        assert driver.observe("lab-web-01234567") == told
        with pytest.raises(Unreachable, match="cluster member b") as caught:
            driver.destroy("lab-web-01234567", TAG)
    assert caught.value.hint == "lxc cluster list"
    assert {each.partition(" ")[0] for each in asked} == {"GET"}


def test_an_operation_of_a_cluster_is_followed(tmp_path: Path) -> None:
    operation = {**OPERATION, "operation": "/1.0/operations/7?project=default"}

    def answer(method: str, path: str) -> tuple[int, bytes]:
        return sync({"status_code": 200, "of": path}) if method == "GET" else (202, json.dumps(operation).encode())

    with serving(tmp_path, answer) as (path, _):
        assert an_api(path).change("POST", "/1.0/instances", {})["of"] == "/1.0/operations/7/wait"


def test_a_server_that_is_not_there_is_not_an_absent_machine(tmp_path: Path) -> None:
    driver = IncusDriver(Host(home=tmp_path, options={"url": f"unix://{tmp_path}/nothing"}))
    with pytest.raises(Unreachable):
        driver.states()
    assert "could not be asked" in driver.usable()
