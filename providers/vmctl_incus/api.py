"""The server's REST API: its resources, changes of them, and waiting for the operations that those begin.

The API: https://linuxcontainers.org/incus/docs/main/rest-api/ and https://documentation.ubuntu.com/lxd/en/latest/rest-api/.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property
from typing import Any, BinaryIO
from urllib.parse import quote

from vmctl import interrupt
from vmctl.errors import Interrupted, Unreachable, VmctlError
from vmctl.wait import Deadline
from vmctl_incus.requesting import (
    CHUNK,
    FAILURE,
    LARGEST,
    NOT_FOUND,
    Interruptible,
    Query,
    Requester,
    ServerError,
    Silent,
    parsed,
)

TRIES = (8.0, 8.0, 12.0)
"""Seconds for the list of instances: it takes a cluster some 20 s to notice that a member has stopped to answer."""
LONGEST_WAIT = 3600.0
ONE_WAIT = 1
"""Seconds that one question for an operation's end lasts: so long may Ctrl-C go unnoticed."""
PAUSE = 0.1
"""Seconds before an operation is asked for again whose end the server would not wait for."""
LONGEST_END = 15
"""Seconds that an operation may take to end once it is not wanted any more."""
LONGEST_OTHER = 600
"""Seconds for what somebody else has begun."""
SUCCESS, CANCELLED = 200, 401


class Api(Requester):
    """The resources of one server, in one of its projects, and how they are changed."""

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
            name = str(self.environment.get("server", ""))
        except VmctlError:  # it is for messages, which tell of something else
            name = ""
        return {"incus": "Incus", "lxd": "LXD"}.get(name, "the server")

    def get(self, path: str, **query: str | int) -> Any:
        """The value of a resource.

        Raises:
            ServerError: the server said no.
            Unreachable: it did not answer, or with something else than an answer.
        """
        return self.answered("GET", path, query=query)[0].get("metadata")

    def instances(self, **query: str | int) -> list[dict[str, Any]]:
        """All instances of the project.

        A member of a cluster asks the others for theirs. If one of them hangs, so does this, until the cluster has
        noticed; then the list says which instances nothing is known of.
        """
        for patience in TRIES[:-1]:
            with suppress(Silent):
                return self._instances(patience, query)
        return self._instances(TRIES[-1], query)

    def _instances(self, patience: float, query: Query) -> list[dict[str, Any]]:
        answer, _ = self.answered("GET", resource("instances"), query={"recursion": 1, **query}, patience=patience)
        listed = answer.get("metadata")
        return listed if isinstance(listed, list) else []

    def found(self, path: str, **query: str | int) -> tuple[Any, str] | None:
        """As ``get``, with what names this very state of it (for ``change``); None = there is no such thing."""
        try:
            answer, tag = self.answered("GET", path, query=query)
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
        within: float = LONGEST_WAIT,
        **query: str | int,
    ) -> Any:
        """Change something, and wait until that is done.

        Args:
            method: POST, PUT, PATCH or DELETE.
            path: what.
            body: as JSON.
            only: change it only if its state is still the one that ``found`` named.
            taking: entered until the server has taken it, which is long before it is done.
            within: seconds that it may take.
            query: further parameters; "" = none.

        Returns:
            What the server says of it, or of the operation that it took.

        Raises:
            ServerError, Unreachable: as ``get``.
            Interrupted: the user asked to stop; the operation was cancelled, where it can be.
        """
        headers = {"If-Match": only} if only else {}
        with taking or nullcontext():
            answer, _ = self.answered(method, path, body=body, headers=headers, query=query)
        return self._completed(answer, within)

    def begin(self, method: str, path: str, body: Any, **query: str | int) -> None:
        """As ``change``, without waiting for what goes on behind it."""
        self.answered(method, path, body=body, query=query)

    def upload(self, path: str, stream: BinaryIO, size: int, headers: Mapping[str, str]) -> Any:
        """POST a file, and wait until the server is through with it."""
        words = {**headers, "Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self.response("POST", path, Interruptible(stream), words, {}) as response:
            answer = parsed(response)
        return self._completed(answer)

    def put_file(self, path: str, data: bytes, headers: Mapping[str, str], /, **query: str | int) -> None:
        """POST a small file."""
        words = {**headers, "Content-Type": "application/octet-stream"}
        with self.response("POST", path, data, words, query) as response:
            parsed(response)

    def download(self, path: str, target: BinaryIO, **query: str | int) -> None:
        """GET what is not JSON, into a file."""
        with self.response("GET", path, None, {}, query) as response:
            if response.status != SUCCESS:
                parsed(response)
            while data := response.read(CHUNK):
                interrupt.check()
                target.write(data)

    def text(self, path: str) -> bytes:
        """What is not JSON, whole."""
        with self.response("GET", path, None, {}, {}) as response:
            if response.status != SUCCESS:
                parsed(response)
            return response.read(LARGEST)

    def _completed(self, answer: dict[str, Any], within: float = LONGEST_WAIT) -> Any:
        """The end of what an answer began."""
        if answer.get("type") != "async":
            return answer.get("metadata")
        identity = str(answer.get("operation", "")).partition("?")[0].rpartition("/")[2]  # clusters add the project
        path = f"/1.0/operations/{quote(identity, safe='')}"
        deadline = Deadline.after(within)
        try:
            while True:
                operation = self._awaited(path)
                if (code := operation.get("status_code")) == SUCCESS:
                    return operation
                if code in (FAILURE, CANCELLED):
                    reason = str(operation.get("err") or "it was cancelled")
                    raise ServerError(f"{self.product}: {reason}", code=code)
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
                self.answered("DELETE", path, query={})
            self.get(f"{path}/wait", timeout=LONGEST_END)

    def await_others(self, resource_path: str) -> None:
        """Wait for operations on a resource that go on: an earlier vmctl that was killed may have begun them."""
        for each in self.going_on():
            if resource_path in touched(each):
                with suppress(ServerError):  # how it ended is seen in what it worked on
                    self._completed({"type": "async", "operation": f"/1.0/operations/{each['id']}"}, LONGEST_OTHER)

    def going_on(self) -> list[dict[str, Any]]:
        """The operations of the project that have not ended."""
        listed = self.get("/1.0/operations", recursion=1)
        running = listed.get("running") if isinstance(listed, dict) else None
        return [each for each in running or () if isinstance(each, dict)]

    def _awaited(self, path: str) -> dict[str, Any]:
        """An operation, when it has ended or after a while."""
        try:
            operation = self._waited(path)
        except ServerError as error:
            if error.code != NOT_FOUND:
                raise
            raise ServerError(
                f"{self.endpoint.url} lost an operation: whether it was carried out is not known",
                details="The server was restarted, or does not know any more.",
                code=error.code,
                hint="vmctl up    # looks at what is there, and goes on from there",
            ) from error
        return operation if isinstance(operation, dict) else {}

    def _waited(self, path: str) -> Any:
        try:
            return self.get(f"{path}/wait", timeout=ONE_WAIT)
        except ServerError as error:
            if error.code == NOT_FOUND:
                raise
        # LXD answers with the operation also when the time is over or it failed, Incus with an error.
        operation = self.get(path)
        if isinstance(operation, dict) and operation.get("status_code") not in (SUCCESS, FAILURE, CANCELLED):
            interrupt.sleep(PAUSE)
        return operation


def touched(operation: Mapping[str, Any]) -> set[str]:
    """The paths of what an operation works on."""
    return {str(path) for paths in (operation.get("resources") or {}).values() for path in paths or ()}


def resource(path: str, *names: str) -> str:
    """The path of a resource below "/1.0/", with names of it quoted."""
    return "/".join(("/1.0", path, *(quote(name, safe="") for name in names)))
