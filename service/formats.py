"""The formats of traffic, a row of `FORMATS` each: what recognises a record, and what takes its fields out of it.

    fields -> shapes -> **formats** -> columns -> records

The extractor of a format, in `shapes`, is the whole truth about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from classifier.errors import UsageError
from service.fields import BadRecordError, Fields, Record
from service.shapes import api, langfuse, litellm, otel, plain

AUTO = "auto"


@dataclass(frozen=True)
class Format:
    """One shape of records.

    Attributes:
        recognises: whether a record (or a dict of a table's column names) has this shape; cheap, no checks.
        extract: its fields, or BadRecordError; takes the paths at which the account is looked for.
        accounts: those paths, unless the user names others; the first that holds an id counts.
        fields: every top-level name that `extract` looks at: the columns that are read from a table; None for all.
        required: groups of names; a table without one name of each group cannot be read.
        unfold: the records in one that holds several, each for `extract`; None if it is one itself.
        flat: whether its columns mean what the plain format's mean, so that they can be taken whole.
    """

    name: str
    recognises: Callable[[Record], bool]
    extract: Callable[[Record, Sequence[str]], Fields]
    accounts: tuple[str, ...]
    fields: frozenset[str] | None
    required: tuple[tuple[str, ...], ...] = ()
    unfold: Callable[[Record], Sequence[object] | None] | None = None
    flat: bool = False


@dataclass(frozen=True)
class Reading:
    """How records are read.

    Attributes:
        format: None where each record or table says itself what it is.
        accounts: paths of the account instead of the format's own; None for those.
    """

    format: Format | None
    accounts: tuple[str, ...] | None = None

    def accounts_in(self, source: Format) -> tuple[str, ...]:
        """Where the account is looked for in records of a format."""
        return self.accounts if self.accounts is not None else source.accounts

    def heads_in(self, source: Format) -> frozenset[str]:
        """Top-level names at which the account may be, in a table."""
        return frozenset(path[:end] for path in self.accounts_in(source) for end in _ends_of_keys(path))

    def wants(self, source: Format, name: str) -> bool:
        """Whether a column of a table is looked at."""
        return source.fields is None or name in source.fields or name in self.heads_in(source)


def reading(format: str = AUTO, account_field: str = AUTO) -> Reading:
    """How to read with `--format` and `--account-field`, the latter a list of paths with commas between.

    Raises:
        UsageError: no such format, or an empty path.
    """
    if format != AUTO and format not in FORMATS:
        raise UsageError(f"--format got {format!r}: expected one of {', '.join((AUTO, *FORMATS))}")
    paths = tuple(path.strip() for path in account_field.split(","))
    if not all(paths):
        raise UsageError(f"--account-field got {account_field!r}: expected fields such as user or metadata.user_id")
    return Reading(FORMATS.get(format), None if account_field == AUTO else paths)


def _ends_of_keys(path: str) -> list[int]:
    """Where the first key of a dotted path may end, since keys may hold dots."""
    return [end for end in range(len(path)) if path[end] == "."] + [len(path)]


def recognised(record: Record) -> Format | None:
    """The first format whose shape a record, or a dict of a table's column names, has."""
    if plain.is_plain(record):
        return FORMATS["plain"]
    for candidate in FORMATS.values():
        if candidate.recognises(record):
            return candidate
    return None


def format_of(record: Record, how: Reading) -> Format:
    """The chosen format, or the one that recognises a decoded record.

    Raises:
        BadRecordError: it has no known shape.
    """
    found = how.format if how.format is not None else recognised(record)
    if found is None:
        raise BadRecordError(f"the record has the shape of no known format, expected one of {', '.join(FORMATS)}")
    return found


FORMATS: Mapping[str, Format] = {
    one.name: one
    for one in (
        Format(
            "litellm", litellm.recognises, litellm.extract, litellm.ACCOUNTS, litellm.FIELDS, litellm.NEEDS
        ),
        Format(
            "langfuse", langfuse.recognises, langfuse.extract, langfuse.ACCOUNTS, langfuse.FIELDS, langfuse.NEEDS,
            langfuse.unfold,
        ),
        Format("otel", otel.recognises, otel.extract, otel.ACCOUNTS, None, unfold=otel.unfold),
        Format(
            "anthropic", api.is_anthropic, api.extract, api.ANTHROPIC_ACCOUNTS, api.FIELDS, api.NEEDS, api.unfold
        ),
        Format("openai", api.is_openai, api.extract, api.OPENAI_ACCOUNTS, api.FIELDS, api.NEEDS),
        Format("plain", plain.recognises, plain.extract, plain.ACCOUNTS, plain.FIELDS, plain.NEEDS, flat=True),
    )
}  # fmt: skip
"""Every format, in the order in which `--format auto` tries them: the more particular shapes first."""
