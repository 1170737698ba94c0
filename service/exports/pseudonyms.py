"""Names that leave instead of ids: HMAC-SHA-256 with a key of the exporter's. Used by every format.

Who has the key can tell which account a name stands for, by trying all of theirs; who has not learns only that two
names are the same account's. Account ids are often short or in sequence, so a hash without a key would hide nothing.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from pathlib import Path

from classifier.errors import InputError
from service.files import output_errors

_KEY = re.compile(r"[0-9a-f]{64}\s*")


class Pseudonyms:
    """Names under one key of 32 bytes. Equal ids, equal names; what an id is of changes its name."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def account(self, account_id: str) -> str:
        return self._of("account", account_id)

    def event(self, event_id: str) -> str:
        return self._of("event", event_id)

    def exporter(self, name: str) -> str:
        """Tells exporters of one name apart."""
        return self._of("exporter", name)

    def _of(self, kind: str, id: str) -> str:
        """64 hexadecimal digits."""
        return hmac.digest(self._key, f"{kind}\0{id}".encode("utf-8", "surrogatepass"), "sha256").hex()


def read_key(path: Path) -> Pseudonyms:
    """The names under the key in a file.

    Raises:
        InputError: it cannot be read, or holds no key. What it holds is not told.
    """
    try:
        text = path.read_text(encoding="ascii")
    except OSError as error:
        raise InputError(
            f"{path}: the key cannot be read ({error.strerror}); give the file that holds it, or add --make-key to "
            "have one made there."
        ) from error
    except UnicodeDecodeError:
        text = ""
    if _KEY.fullmatch(text) is None:
        raise InputError(f"{path}: holds no key: expected 64 of 0-9 and a-f, as --make-key writes; give another file.")
    return Pseudonyms(bytes.fromhex(text.strip()))


def make_key(path: Path) -> None:
    """Write a new key that its owner alone may read, unless there is a file already.

    Raises:
        OutputError: it cannot be written.
    """
    with output_errors(path):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32) + "\n")
