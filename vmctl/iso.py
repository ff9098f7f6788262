"""The one door to ISO 9660 images: small ones, written and read whole, with long names by Rock Ridge and Joliet."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path, PurePosixPath


def image(label: str, files: Mapping[str, bytes]) -> bytes:
    """An image with these files, by path ("a", "directory/b"); directories are made as they are needed.

    Args:
        label: the volume's, at most 32 characters.
        files: content by path, relative, with ``/`` between its parts.
    """
    from pycdlib import PyCdlib

    iso = PyCdlib()
    iso.new(interchange_level=3, vol_ident=label, joliet=3, rock_ridge="1.09")
    short: dict[PurePosixPath, str] = {PurePosixPath(): ""}
    for path, data in files.items():
        name = PurePosixPath(path)
        for directory in reversed(name.parents):
            if directory not in short:
                short[directory] = f"{short[directory.parent]}/D{len(short)}"
                iso.add_directory(short[directory], rr_name=directory.name, joliet_path=f"/{directory}")
        short[name] = f"{short[name.parent]}/F{len(short)}.;1"
        iso.add_fp(BytesIO(data), len(data), short[name], rr_name=name.name, joliet_path=f"/{name}")
    written = BytesIO()
    iso.write_fp(written)
    iso.close()
    return written.getvalue()


def read(path: Path) -> dict[str, bytes]:
    """The files of an image, by path; empty where it is damaged or no ISO image.

    Raises:
        OSError: it cannot be read.
    """
    from pycdlib import PyCdlib
    from pycdlib.pycdlibexception import PyCdlibException

    iso = PyCdlib()
    found: dict[str, bytes] = {}
    try:
        iso.open(str(path))
        for directory, _, names in iso.walk(rr_path="/"):
            for name in names:
                whole = f"{directory.rstrip('/')}/{name}"
                data = BytesIO()
                iso.get_file_from_iso_fp(data, rr_path=whole)
                found[whole.removeprefix("/")] = data.getvalue()
        iso.close()
    except (PyCdlibException, ValueError):
        return {}
    return found
