"""HTTP requests to one server, and what an answer of its API looks like."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO
from urllib.parse import urlencode

from vmctl import interrupt, json_text
from vmctl.errors import Unreachable, VmctlError
from vmctl_incus.connection import Endpoint, connect
from vmctl_incus.errors import ServerError

TIMEOUT = 20.0
"""Seconds for an answer, or the next part of one; work that takes longer is done behind an operation."""
LARGEST = 64 * 1024**2
CHUNK = 1024**2
FAILURE = 400
"""The least status of HTTP, and the code of an operation, that tell of one."""
Query = Mapping[str, str | int]


class Silent(Unreachable):
    """The server did not answer in time."""


class Requester:
    """Requests to one server, in one of its projects."""

    def __init__(self, endpoint: Endpoint, project: str) -> None:
        self.endpoint = endpoint
        self.project = project

    def answered(
        self,
        method: str,
        path: str,
        *,
        query: Query,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        patience: float = 0,
    ) -> tuple[dict[str, Any], str]:
        """The answer to a request, and its ETag.

        Raises:
            ServerError: the server refused or failed.
            Unreachable: it did not answer, or with something else than an answer.
        """
        data = None if body is None else json.dumps(body).encode()
        words = {**(headers or {}), **({"Content-Type": "application/json"} if data is not None else {})}
        with self.response(method, path, data, words, query, patience=patience) as response:
            return parsed(response), response.headers.get("ETag", "")

    @contextmanager
    def response(
        self, method: str, path: str, body: Any, headers: Mapping[str, str], query: Query, *, patience: float = 0
    ) -> Iterator[http.client.HTTPResponse]:
        """The response to a request, to be read in this context; ``patience`` in seconds, 0 = the usual."""
        interrupt.check()
        patience = patience or TIMEOUT
        connection = connect(self.endpoint, patience)
        query = {key: value for key, value in query.items() if value != ""}
        query = {"project": self.project, **query} if self.project != "default" else query
        target = f"{path}?{urlencode(query)}" if query else path
        try:
            connection.request(method, target, body=body, headers=dict(headers))
            yield connection.getresponse()
        except VmctlError:
            raise
        except TimeoutError as error:
            details = f"it did not answer {method} {path} within {patience:.0f} s"
            raise self._unreachable(details, Silent) from error
        except (OSError, ssl.SSLError, http.client.HTTPException, ValueError) as error:
            raise self._unreachable(f"{method} {path}: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def _unreachable(self, details: str, kind: type[Unreachable] = Unreachable) -> Unreachable:
        hint = "systemctl status incus lxd" if self.endpoint.is_local else "incus remote list"
        return kind(f"{self.endpoint.url} could not be asked", details=details, hint=hint)


def parsed(response: http.client.HTTPResponse) -> dict[str, Any]:
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


class Interruptible:
    """A file that ends being read when the user asks to stop."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, _size: int = -1) -> bytes:
        """The next part; http.client's own are small."""
        interrupt.check()
        return self._stream.read(CHUNK)
