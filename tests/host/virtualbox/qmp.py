"""A small QMP client: one command, one answer."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

TIMEOUT = 60.0


class NoAnswer(Exception):
    """QEMU is not there, or went while it was asked."""


def execute(path: Path, command: str, **arguments: Any) -> Any:
    """Run one command.

    Raises:
        NoAnswer: QEMU does not listen at ``path`` (yet, or any more).
        RuntimeError: QEMU refused.
    """
    request: dict[str, Any] = {"execute": command}
    if arguments:
        request["arguments"] = arguments
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(str(path))
            with connection.makefile("rw", encoding="utf-8") as stream:
                stream.readline()  # the greeting
                _ask(stream, {"execute": "qmp_capabilities"})
                return _ask(stream, request)
    except OSError as error:
        raise NoAnswer(str(error)) from error


def _ask(stream: Any, request: dict[str, Any]) -> Any:
    stream.write(json.dumps(request) + "\n")
    stream.flush()
    while line := stream.readline():
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"QEMU: {answer['error']['desc']}")
        if "return" in answer:
            return answer["return"]
    raise NoAnswer("QEMU closed the connection")
