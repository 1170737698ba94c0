"""The file of exceptions: TOML in, `AgreedException`s out. Used by `label` and `calibrate`.

[[exception]]
account = "acct_0032"
family = "seed_examples"
who = "ann@provider.example"
why = "their own evaluation, see ticket 4711"
until = 2027-01-31
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from datetime import date, datetime
from pathlib import Path

from classifier.errors import InputError
from classifier.exceptions import AgreedException

TABLE = "exception"
KEYS = tuple(field.name for field in fields(AgreedException))


def read_exceptions(path: Path) -> list[AgreedException]:
    """All exceptions of a file, in order.

    Raises:
        InputError: the file cannot be read, is no TOML, or an entry is not whole.
    """
    try:
        document = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file of exceptions.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not valid UTF-8; convert it first.") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: is not valid TOML ({error}); mend it.") from error
    entries = document.get(TABLE)
    if set(document) != {TABLE} or not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        found = ", ".join(document) if document else "nothing"
        raise InputError(
            f"{path}: holds {found}, expected [[{TABLE}]] entries with {', '.join(KEYS)} and nothing else."
        )
    exceptions = [_parse(f"{path}: exception {number}", entry) for number, entry in enumerate(entries, 1)]
    _check_distinct(path, exceptions)
    return exceptions


def _parse(place: str, entry: Mapping[str, object]) -> AgreedException:
    absent, unknown = [key for key in KEYS if key not in entry], [key for key in entry if key not in KEYS]
    if absent or unknown:
        wrong = f"lacks {', '.join(absent)}" if absent else f"has {', '.join(unknown)}"
        raise InputError(f"{place} {wrong}: expected {', '.join(KEYS)} and nothing else.")
    until = entry["until"]
    if not isinstance(until, date) or isinstance(until, datetime):
        raise InputError(f"{place} has until = {until}: expected a date without quotes, such as 2027-01-31.")
    account, family, who, why = (_text(place, key, entry[key]) for key in KEYS[:-1])
    return AgreedException(account, family, who, why, until)


def _text(place: str, key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{place} has {key} = {value!r}: expected a text that is not empty.")
    return value


def _check_distinct(path: Path, exceptions: list[AgreedException]) -> None:
    """One entry for an account and family: two would count the same units."""
    seen: dict[tuple[str, str], int] = {}
    for number, one in enumerate(exceptions, 1):
        first = seen.setdefault((one.account, one.family), number)
        if first != number:
            raise InputError(f"{path}: exceptions {first} and {number} are of the same account and family; keep one.")
