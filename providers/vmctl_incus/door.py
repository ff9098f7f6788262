"""The one door to the server's REST API: requests, their answers, and waiting for what goes on behind them.

The API: https://linuxcontainers.org/incus/docs/main/rest-api/ and https://documentation.ubuntu.com/lxd/en/latest/rest-api/.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cached_property
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

from vmctl import interrupt, json_text
from vmctl.errors import Interrupted, Unreachable, VmctlError
from vmctl.wait import Deadline
from vmctl_incus.connection import Endpoint, connect
from vmctl_incus.errors import NOT_FOUND, ServerError

TIMEOUT = 20.0
"""Seconds for an answer, or the next part of one; work that takes longer is done behind an operation."""
LONGEST_WAIT = 3600.0
ONE_WAIT = 1
"""Seconds that one question for an operation's end lasts: so long may Ctrl-C go unnoticed."""
LONGEST_END = 15
"""Seconds that an operation may take to end once it is not wanted any more."""
LARGEST = 64 * 1024**2
CHUNK = 1024**2
SUCCESS, FAILURE, CANCELLED = 200, 400, 401
Query = Mapping[str, str | int]


class Door:
    """Requests to one server, in one of its projects."""

    def __init__(self, endpoint: Endpoint, project: str) -> None:
        self.endpoint = endpoint
        self.project = project

    @cached_property
    def server(self) -> dict[str, Any]:
        """What the server says of itself (``api_extensions``, ``auth``, ``environment`` and more)."""
        found: dict[str, Any] = self.get("/1.0")
        if found.get("auth") != "trusted":
            raise Unreachable(
                f"{self.endpoint.url} does not know this user's certificate",
                hint="incus remote add NAME URL --token TOKEN    # the server's administrator makes the token",
            )
        return found

    def can(self, extension: str) -> bool:
        """Whether the server's API has an extension."""
        return extension in self.server.get("api_extensions", ())

    @property
    def environment(self) -> Mapping[str, Any]:
        """The server's surroundings: kernel, storage, version."""
        found = self.server.get("environment")
        return found if isinstance(found, dict) else {}

    @property
    def is_clustered(self) -> bool:
        """Whether it is a member of a cluster."""
        return bool(self.environment.get("server_clustered"))

    @property
    def product(self) -> str:
        """What the server is: "Incus" or "LXD"."""
        try:
            said = str(self.environment.get("server", ""))
        except VmctlError:  # it is for messages, which tell of something else
            said = ""
        return {"incus": "Incus", "lxd": "LXD"}.get(said, "the server")

    def get(self, path: str, **query: str | int) -> Any:
        """The value of a resource.

        Raises:
            ServerError: the server said no.
            Unreachable: it did not answer, or with something else than an answer.
        """
        return self._answered("GET", path, query=query)[0].get("metadata")

    def found(self, path: str, **query: str | int) -> tuple[Any, str] | None:
        """As ``get``, with what names this very state of it (for ``change``); None = there is no such thing."""
        try:
            answer, tag = self._answered("GET", path, query=query)
        except ServerError as error:
            if error.code == NOT_FOUND:
                return None
            raise
        return answer.get("metadata"), tag

    def change(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        only: str = "",
        taking: AbstractContextManager[None] | None = None,
        **query: str | int,
    ) -> Any:
        """Change something, and wait until that is done.

        Args:
            method: POST, PUT, PATCH or DELETE.
            path: what.
            body: as JSON.
            only: change it only if its state is still the one that ``found`` named.
            taking: entered until the server has taken it, which is long before it is done.
            query: further parameters.

        Returns:
            What the server says of it, or of the operation that it took.

        Raises:
            ServerError, Unreachable: as ``get``.
            Interrupted: the user asked to stop; the operation was cancelled, where it can be.
        """
        headers = {"If-Match": only} if only else {}
        with taking or nullcontext():
            answer, _ = self._answered(method, path, body=body, headers=headers, query=query)
        return self._completed(answer)

    def begin(self, method: str, path: str, body: Any, **query: str | int) -> None:
        """As ``change``, without waiting for what goes on behind it."""
        self._answered(method, path, body=body, query=query)

    def upload(self, path: str, stream: BinaryIO, size: int, headers: Mapping[str, str]) -> Any:
        """POST a file, and wait until the server is through with it."""
        words = {**headers, "Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self._response("POST", path, _Interruptible(stream), words, {}) as response:
            answer = _answer(response)
        return self._completed(answer)

    def put_file(self, path: str, data: bytes, headers: Mapping[str, str], /, **query: str | int) -> None:
        """POST a small file."""
        words = {**headers, "Content-Type": "application/octet-stream"}
        with self._response("POST", path, data, words, query) as response:
            _answer(response)

    def download(self, path: str, target: BinaryIO, **query: str | int) -> None:
        """GET what is not JSON, into a file."""
        with self._response("GET", path, None, {}, query) as response:
            if response.status != SUCCESS:
                _answer(response)
            while data := response.read(CHUNK):
                interrupt.check()
                target.write(data)

    def text(self, path: str) -> bytes:
        """What is not JSON, whole."""
        with self._response("GET", path, None, {}, {}) as response:
            if response.status != SUCCESS:
                _answer(response)
            return response.read(LARGEST)

    def _answered(
        self, method: str, path: str, *, query: Query, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[dict[str, Any], str]:
        data = None if body is None else json.dumps(body).encode()
        words = {**(headers or {}), **({"Content-Type": "application/json"} if data is not None else {})}
        with self._response(method, path, data, words, query) as response:
            return _answer(response), response.headers.get("ETag", "")

    @contextmanager
    def _response(
        self, method: str, path: str, body: Any, headers: Mapping[str, str], query: Query
    ) -> Iterator[http.client.HTTPResponse]:
        interrupt.check()
        connection = connect(self.endpoint, TIMEOUT)
        query = {"project": self.project, **query} if self.project != "default" else query
        target = f"{path}?{urlencode(query)}" if query else path
        try:
            connection.request(method, target, body=body, headers=dict(headers))
            yield connection.getresponse()
        except VmctlError:
            raise
        except TimeoutError as error:
            raise self._unreachable(f"it did not answer {method} {path} within {TIMEOUT:.0f} s") from error
        except (OSError, ssl.SSLError, http.client.HTTPException, ValueError) as error:
            raise self._unreachable(f"{method} {path}: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def _unreachable(self, details: str) -> Unreachable:
        hint = "systemctl status incus lxd" if self.endpoint.is_local else "incus remote list"
        return Unreachable(f"{self.endpoint.url} could not be asked", details=details, hint=hint)

    def _completed(self, answer: dict[str, Any]) -> Any:
        """The end of what an answer began."""
        if answer.get("type") != "async":
            return answer.get("metadata")
        identity = str(answer.get("operation", "")).partition("?")[0].rpartition("/")[2]  # clusters add the project
        path = f"/1.0/operations/{quote(identity, safe='')}"
        deadline = Deadline.after(LONGEST_WAIT)
        try:
            while True:
                operation = self._awaited(path)
                if (code := operation.get("status_code")) == SUCCESS:
                    return operation
                if code in (FAILURE, CANCELLED):
                    said = str(operation.get("err") or "it was cancelled")
                    raise ServerError(f"{self.product}: {said}", code=code)
                if deadline.passed:
                    raise Unreachable(f"{self.endpoint.url} did not end an operation", details=str(operation))
                interrupt.check()
        except Interrupted:
            self._cancel(path)
            raise

    def _cancel(self, path: str) -> None:
        """End an operation, or let it end: what it leaves behind is only known, and cleaned up, once it is over."""
        with interrupt.shielded(), suppress(VmctlError):
            with suppress(ServerError):  # many cannot be cancelled
                self._answered("DELETE", path, query={})
            self.get(f"{path}/wait", timeout=LONGEST_END)

    def await_others(self, resource_path: str) -> None:
        """Wait for operations on a resource that go on: an earlier vmctl that was killed may have begun them."""
        told = self.get("/1.0/operations", recursion=1)
        running = (told.get("running") or ()) if isinstance(told, dict) else ()
        for each in running:
            if any(resource_path in paths for paths in (each.get("resources") or {}).values() if paths):
                with suppress(ServerError):  # how it ended is seen in what it worked on
                    self._completed({"type": "async", "operation": f"/1.0/operations/{each['id']}"})

    def _awaited(self, path: str) -> dict[str, Any]:
        """An operation, when it has ended or after a while."""
        try:
            operation = self.get(f"{path}/wait", timeout=ONE_WAIT)
        except ServerError as error:
            if error.code != NOT_FOUND:
                raise
            raise ServerError(
                f"{self.endpoint.url} lost an operation: whether it was carried out is not known",
                details="The server was started again, or is no longer sure itself.",
                code=error.code,
                hint="vmctl up    # looks what is there, and goes on from that",
            ) from error
        return operation if isinstance(operation, dict) else {}


def _answer(response: http.client.HTTPResponse) -> dict[str, Any]:
    """The JSON of an answer.

    Raises:
        ServerError: it tells of an error.
        ValueError: it is none.
    """
    data = response.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError("the answer is too large")
    try:
        answer = json_text.loads(data)
    except ValueError as error:
        raise ValueError(f"HTTP {response.status}, and not JSON: {error}") from error
    if not isinstance(answer, dict):
        raise ValueError(f"HTTP {response.status}, and not an answer of the API")  # noqa: TRY004  a stranger's text
    if answer.get("type") == "error" or response.status >= FAILURE:
        code = answer.get("error_code")
        raise ServerError(str(answer.get("error") or f"HTTP {response.status}"),
                          code=code if isinstance(code, int) else response.status)  # fmt: skip
    return answer


class _Interruptible:
    """A file that ends being read when the user asks to stop."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, _size: int = -1) -> bytes:
        """The next part; http.client's own are small."""
        interrupt.check()
        return self._stream.read(CHUNK)


def resource(path: str, *names: str) -> str:
    """The path of a resource below "/1.0/", with names of it quoted."""
    return "/".join(("/1.0", path, *(quote(name, safe="") for name in names)))
