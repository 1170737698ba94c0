"""Folders that bundles are written to. Used by whatever writes one."""

from __future__ import annotations

from pathlib import Path

from classifier.bundle import MANIFEST
from classifier.errors import OutputError


def check_replaceable(out: Path) -> None:
    """Refuse, before any work is done, to replace something that is no bundle."""
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file()):
        raise OutputError(
            f"--out {out}: is not a bundle, expected an empty place or a bundle to replace; name another."
        )


def made(folder: Path) -> Path:
    """The folder, made if it is not there. Raises OutputError if it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"--out: {folder} cannot be made ({error.strerror}); name another place.") from error
    return folder
