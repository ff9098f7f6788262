"""What comes from a registry: the bodies of its answers, and what it, or the network, says of what went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vmctl import json_text

if TYPE_CHECKING:
    import requests

LONGEST_ERROR = 8 * 1024


class TransferBroken(Exception):
    """A try failed in a way that another may not; ``after`` = seconds that the server asks to wait."""

    def __init__(self, text: str, *, after: float | None = None) -> None:
        super().__init__(text)
        self.after = after


def reason_given(response: requests.Response) -> str:
    """What a registry says of an error (distribution specification, "Error Codes"), for people; "" = nothing."""
    import urllib3

    try:
        document = json_text.loads(response.raw.read(LONGEST_ERROR, decode_content=True))
        first = document["errors"][0]
        text = ": ".join(str(first[key])[:200] for key in ("code", "message") if first.get(key))
    except (ValueError, LookupError, TypeError, AttributeError, OSError, urllib3.exceptions.HTTPError):
        return ""
    return f" ({text})" if text else ""


def pieces_of(response: requests.Response, size: int) -> Iterator[bytes]:
    """The body as it was sent."""
    import urllib3

    try:
        yield from response.raw.stream(size, decode_content=False)
    except urllib3.exceptions.HTTPError as error:
        raise TransferBroken(f"the connection broke off: {error}") from error
