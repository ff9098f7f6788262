"""What the server says went wrong, as errors of vmctl's."""

from __future__ import annotations

from vmctl.errors import VmctlError

NOT_FOUND, PRECONDITION = 404, 412
BUSY = ("is busy running", "instance is currently being", "operation is already running")


class ServerError(VmctlError):
    """The server refused or failed; ``code`` as in HTTP."""

    def __init__(self, brief: str, *, code: int, details: str = "", hint: str = "") -> None:
        super().__init__(brief, details=details, hint=hint)
        self.code = code

    @property
    def is_busy(self) -> bool:
        """Whether it works on the same thing already, and will be through with that."""
        text = f"{self.brief} {self.details}".lower()
        return any(words in text for words in BUSY)


def is_absent(error: VmctlError) -> bool:
    """Whether the server says that there is no such thing."""
    return isinstance(error, ServerError) and error.code == NOT_FOUND
