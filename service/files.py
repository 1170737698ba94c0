"""Writing files so that they are whole or not there: to a temporary name, then renamed. Used by what writes files."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from classifier.errors import OutputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which then takes the place of `path`, or vanishes if the block raises.

    Raises:
        OutputError: it cannot be written or renamed.
    """
    if not path.name:
        raise OutputError(f"{path}: is a folder; name a file in it.")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")  # two that write the same do not mix
    try:
        with output_errors(path):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror if error.strerror is not None else "it is no writable folder"
        raise OutputError(f"{path}: cannot be written ({reason}); check permissions and space.") from error
