"""What went wrong on the way to a web server, in words."""

from __future__ import annotations

import re

LAYERS = re.compile(r"^HTTPS?Connection(?:Pool)?\(host=.*?, port=\w+\): (?:Failed to establish a new connection: )?")
"""What urllib3 puts before the system's own words."""
NUMBER = re.compile(r"\[Errno -?[0-9]+\] ")


def reason(error: Exception) -> str:
    """Why there is no answer, without the libraries' layers around it."""
    import requests

    if isinstance(error, requests.Timeout):
        return "the server does not answer"
    cause = _innermost(error)
    text = NUMBER.sub("", LAYERS.sub("", str(getattr(cause, "brief", cause))))
    failed = isinstance(error, requests.ConnectionError) and cause is not error
    return f"the connection failed: {text}" if failed else text


def _innermost(error: BaseException) -> BaseException:
    while True:
        inner = (error.args[0] if error.args else None) or error.__cause__
        deeper = getattr(inner, "reason", None)
        found = deeper if isinstance(deeper, BaseException) else inner
        if not isinstance(found, BaseException) or found is error:
            return error
        error = found
