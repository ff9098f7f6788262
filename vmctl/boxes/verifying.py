"""`vmctl box verify`: whether images still are what they were."""

from __future__ import annotations

from pathlib import Path

from vmctl import interrupt
from vmctl.boxes.box import Box, BoxImage
from vmctl.boxes.checksum import Hashing
from vmctl.events import Progress, Report, ignore

CHUNK = 1024**2
REPORT_EVERY = 256 * CHUNK


def damage(box: Box, *, report: Report = ignore) -> str:
    """What is wrong with a box's images; "" when they are sound.

    Raises:
        Interrupted: the user asked to stop.
    """
    return next((text for one in box.files if (text := _damage(box.directory, one, report))), "")


def _damage(directory: Path, image: BoxImage, report: Report) -> str:
    hashing = Hashing()
    try:
        with (directory / image.image_name).open("rb") as stream:
            while data := stream.read(CHUNK):
                interrupt.check()
                hashing.update(data)
                if hashing.size % REPORT_EVERY == 0:
                    report(Progress(step="verify_box", done=hashing.size, total=image.size))
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if hashing.sha256 != image.digest:
        return f"its content changed: {hashing.size} bytes with the digest {hashing.sha256}"
    return ""
