"""An open way into a host: what provisioners need of it, however it was made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self

from vmctl.process import Completed


class Link(Protocol):
    """As ``Connection``, whose docstrings are the contract; ``OpenSsh`` is the other one."""

    def run(
        self,
        command: str | Sequence[str],
        *,
        input: str | bytes | None = None,
        sudo: bool = False,
        check: bool = True,
        deadline: float | None = None,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run a command to its end."""

    def put(self, source: bytes | Path, remote: str, *, mode: int = 0o644, sudo: bool = False) -> None:
        """Write a file; it appears whole or not at all."""

    def close(self) -> None:
        """End the connection."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_exception: object) -> None: ...
